"""Speaker labels before a line (`사야: 지금 갈게.`): found without eating clock times, URLs or sentences with a colon."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

NARRATION_WORDS = frozenset(
    {
        *("서술", "내레이션", "나레이션", "해설", "지문", "묘사", "행동", "상황", "동작", "서술자"),
        *("narration", "Narration", "narrator", "Narrator"),
    }
)
SPEECH_WORDS = frozenset({"대사", "말", "대화", "발화", "목소리", "dialogue", "Dialogue"})
MAX_CHARS = 20
"""Characters of the longest label."""

_LABEL = re.compile(r"(?P<label>[^\"\n:：]{1,20}?)[ \t]*[:：]\s*(?P<rest>.*)", re.DOTALL)
_NOTE = re.compile(r"\s*[(（][^()（）]*[)）]\s*$")
_WORD = re.compile(r"[가-힣A-Za-zぁ-ゖァ-ヺー一-鿿][가-힣A-Za-z0-9ぁ-ゖァ-ヺー一-鿿·_]*")
_SENTENCE_LIKE = re.compile(r"(?:은|는|을|를|요|다|까|해|해줘|봐|줘|면|데|게|고|서|죠|군|니|잖아|거야|건|말)$")
_CONTENT_WORDS = frozenset(
    {
        *(
            "이유",
            "조건",
            "부탁",
            "약속",
            "결론",
            "사실",
            "문제",
            "시간",
            "장소",
            "비밀",
            "주의",
            "경고",
            "참고",
            "정답",
            "예",
            "예시",
            "힌트",
        ),
        *("질문", "목표", "규칙", "소원", "충고", "조언", "제안", "요점", "핵심", "날짜", "주소", "이름", "제목", "메모"),
        *("하나", "둘", "셋", "첫째", "둘째", "셋째"),
    }
)
"""Words that announce what follows; as a lone word before a colon they belong to the sentence."""


class Label(StrEnum):
    """What a label says about the line behind it."""

    NAME = "name"
    NARRATION = "narration"
    SPEECH = "speech"


class Labelled(NamedTuple):
    """A line without its label."""

    rest: str
    label: Label | None


def strip_label(line: str, names: Collection[str], *, only_known: bool) -> Labelled:
    """Take one speaker label off the start of a line.

    Args:
        line: A stripped line, without opening quotation mark.
        names: Names and role words that are labels wherever they stand before a colon.
        only_known: Accept nothing but `names` and the label words; otherwise also a single word that is no sentence.

    Returns:
        The line behind the label and the label's kind; the line itself and None when it has no label.
    """
    match = _LABEL.fullmatch(line)
    if match is None or match["rest"].startswith("//"):
        return Labelled(line, None)
    kind = _classify(match["label"], match["rest"], names, only_known=only_known)
    return Labelled(match["rest"].strip(), kind) if kind else Labelled(line, None)


def _classify(label: str, rest: str, names: Collection[str], *, only_known: bool) -> Label | None:
    core = _NOTE.sub("", label).strip().strip("[]【】<>〈〉《》()（）-•·").strip()
    if core in NARRATION_WORDS:
        return Label.NARRATION
    if core in SPEECH_WORDS:
        return Label.SPEECH
    if core in names:
        return Label.NAME
    owner, _, what = core.partition(" ")
    if owner in names or owner.removesuffix("의") in names:
        return Label.NARRATION if what in NARRATION_WORDS else Label.SPEECH if what in SPEECH_WORDS else _titled(what)
    if only_known or not _WORD.fullmatch(core) or core in _CONTENT_WORDS or _SENTENCE_LIKE.search(core):
        return None
    starts = rest[:1]
    if not any(char.isalnum() for char in rest) or (core[-1].isdigit() and starts.isdigit()) or starts in "\\/":
        return None
    return Label.NAME


def _titled(what: str) -> Label | None:
    """Accept a title behind a name (사야 선배), not the rest of a sentence."""
    return Label.NAME if re.fullmatch(r"[가-힣]{1,4}", what) and not _SENTENCE_LIKE.search(what) else None
