"""Speech level of Korean lines: polite (존댓말), casual (반말), and plain narration (-다).

The level sits in the last final ending of a sentence. Frequent endings are read from a table; everything else goes to
Kiwi (Apache-2.0; its model is part of the wheel, so this works offline), loaded once at first need. A fragment without
an ending (정말?) has no level. Sentences are judged one by one; a text with both levels is MIXED.
"""

from __future__ import annotations

import functools
import re
from enum import StrEnum
from typing import Any, cast

from rplab.text.morphemes import load_kiwi


class Level(StrEnum):
    """Speech level of a text."""

    POLITE = "polite"
    CASUAL = "casual"
    MIXED = "mixed"
    UNKNOWN = "unknown"
    """Nothing in the text shows a level (fragments, interjections, foreign text)."""


_SENTENCE = re.compile(r"[^.!?…~。！？\n]+[.!?…~。！？]*[\"'”’」』)]*")
_TAIL = re.compile(r"[\s.!?…~。！？,\"'“”‘’「」『』()\[\]ㅋㅎㅠㅜ♪♥♡-]+$")
_HEAD = re.compile(r"^[\s.!?…~。！？,\"'“”‘’「」『』()\[\]-]+")

_POLITE = re.compile(
    r"(?:(?:습|입|합|갑|옵|줍|됩|랍|답|십|아닙|있|없)니[다까]|십시오|세요|셔요|에요|예요|[어아해여]요|[가-힣]네요|군요|[가-힣]죠|지요|까요|[가-힣]게요|래요|"
    r"데요|거든요|잖아요|나요|걸요|고요|구요|아니요|읍시다|합시다|갑시다)$"
)
_CASUAL = re.compile(
    r"(?:잖아|거든|구나|거야|[었았였했겠갔왔봤됐렸졌쳤]어|있어|없어|같아|싶어|[을할갈줄올볼될]게|[할갈볼올줄]래|하자|가자|보자|지\s?마|하지|겠지|는데|었지|았지|했지|"
    r"(?:는|은|한|된|간|온)다|[었았였했겠갔왔봤됐]다|했니|[었았겠]니|[느었았]냐|이야|아니야|몰라|그래|건데)$"
)
_POLITE_WORDS = frozenset({"네", "예", "아니요", "아뇨", "여보세요", "안녕하세요", "죄송해요", "저요"})
_CASUAL_WORDS = frozenset({"응", "어", "아니", "그래", "왜", "뭐", "야", "안녕", "미안", "고마워", "자", "그치", "웅", "얘"})
_INTERJECTIONS = frozenset({"네", "예", "응", "어", "아니", "그래", "왜", "뭐", "야", "자", "그치", "웅", "얘", "와", "저기"})
"""Alone in a sentence they show a level only when nothing else does ("응? 뭐라고요?" is polite)."""
_ENDS_IN_YO = re.compile(r"(?<!필)(?<!중)(?<!고)(?<!동)(?<!수)(?<!주)(?<!개)(?<!소)(?<!강)(?<!민)요$")
"""요 after anything that is no noun in 요 (필요, 중요, 고요, ...)."""
_CALL = re.compile(r"(?!뭐야|누구야|어디야|언제야|진짜야|바보야)[가-힣]{1,3}야")
"""A name called (사야, 소마야); one word, so a copula is not told apart."""
_POLITE_FORM = re.compile(r"(?:요|죠|니다|니까|시오|시다|나이다|소서|답니다|랍니다)$")
_BLUNT_FORM = re.compile(r"^(?:오|소|으오|구려|는구려|시게)$")


def split_sentences(text: str) -> list[str]:
    """Cut a text after its sentence marks and line breaks."""
    return [sentence.strip() for sentence in _SENTENCE.findall(text) if _bare(sentence)]


def speech_level(text: str) -> Level:
    """Return the speech level of a spoken text.

    >>> speech_level("네, 알겠어요. 같이 가요!").value, speech_level("같이 가자.").value
    ('polite', 'casual')
    """
    sentences = split_sentences(text)
    telling = [sentence for sentence in sentences if _bare(sentence) not in _INTERJECTIONS]
    found = {sentence_level(sentence) for sentence in telling} - {Level.UNKNOWN}
    if not found:
        found = {sentence_level(sentence) for sentence in sentences} - {Level.UNKNOWN}
    if len(found) > 1:
        return Level.MIXED
    return found.pop() if found else Level.UNKNOWN


@functools.lru_cache(maxsize=65536)
def sentence_level(sentence: str) -> Level:
    """Return the level of one sentence (never MIXED).

    The last clause with a level decides: what follows a comma is often a name or an adverb (고마워요, 하야토).
    """
    trails_off = sentence.rstrip("\"'”’」』) ").endswith(("…", "..", ","))
    for clause in reversed(sentence.split(",")):
        level = _clause_level(_bare(clause), trails_off=trails_off)
        if level is not Level.UNKNOWN:
            return level
        trails_off = True
    return Level.UNKNOWN


def _clause_level(bare: str, *, trails_off: bool) -> Level:
    if not bare:
        return Level.UNKNOWN
    if bare in _POLITE_WORDS or _POLITE.search(bare):
        return Level.POLITE
    if bare in _CASUAL_WORDS or _CASUAL.search(bare):
        return Level.CASUAL
    if _CALL.fullmatch(bare):
        return Level.UNKNOWN
    level = _level_by_morphemes(bare, trails_off=trails_off)
    return Level.POLITE if level is Level.UNKNOWN and _ENDS_IN_YO.search(bare) else level


def is_plain_narration(text: str) -> bool:
    """Return whether a text is narration in plain style: sentences end in -다, none is polite or ends like speech.

    A fragment between such sentences (천천히, 아주 천천히.) is allowed; words in quotation marks are passed over.
    """
    sentences = split_sentences(re.sub(r'"[^"\n]*"|「[^」\n]*」|“[^”\n]*”', "그것", text))
    plain = [_is_plain(sentence) for sentence in sentences]
    return any(plain) and all(ok or sentence_level(sentence) is Level.UNKNOWN for ok, sentence in zip(plain, sentences, strict=True))


def _is_plain(sentence: str) -> bool:
    bare = _bare(sentence)
    return bare.endswith("다") and sentence_level(sentence) is not Level.POLITE


def _bare(sentence: str) -> str:
    return _TAIL.sub("", _HEAD.sub("", sentence))


def _level_by_morphemes(clause: str, *, trails_off: bool) -> Level:
    """Judge by the last final ending (EF), or 요 after anything, or a connective ending used as a final one."""
    tokens = [(str(token.form), str(token.tag)) for token in cast("list[Any]", load_kiwi().tokenize(clause))]
    for form, tag in reversed(tokens):
        if form == "요" and tag in ("JX", "EF"):
            return Level.POLITE
        if tag == "EF":
            return Level.POLITE if _POLITE_FORM.search(form) or _BLUNT_FORM.match(form) else Level.CASUAL
    form, tag = tokens[-1] if tokens else ("", "")
    if tag == "EC" and not trails_off:
        return Level.POLITE if _POLITE_FORM.search(form) else Level.CASUAL
    return Level.UNKNOWN
