"""One assistant reply -> narration line and one quoted line of speech, keeping every word.

The steps: straighten quotation marks, take labels off, split into blocks (`rplab.text.quotes`), decide what unquoted
lines are, fold. What is decided for an unquoted line:

* a line labelled as speech is speech, a line labelled as narration is narration;
* nothing in the reply is quoted: the last line is the speech, except for leading sentences that tell what the
  protagonist does (`사야는 ...다.`) and except for a second line in plain narrative style (`바깥은 고요하다.`);
* something is quoted: unquoted lines are narration, except lines after the first speech that end like speech.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rplab.dataset.labels import Label, strip_label
from rplab.dataset.names import PLAYER_WORDS, PROTAGONIST_WORDS, Names
from rplab.text.quotes import SENTENCE_END, Block, Kind, blocks_of_lines, has_words, is_visible, quote, split_lines, straighten

_MAX_ROUNDS = 12
_SUBJECT = re.compile(r"([가-힣A-Za-z]{1,10}?)(?:은|는|이|가)(?=\s)")
_BULLET = re.compile(r"[-–—•·][ \t]+(?=\S)")
_FIRST_PERSON = re.compile(r"(?:나|내|난|날|너|넌|네|우리|저|전|제)(?:[가-힣]{0,2}\s|$)")
_PRONOUNS = ("그녀", "그")
_SPEECH_ENDING = re.compile(r"(?:요|니다|니까|까|어|아|야|지|자|네|래|게|군|걸|데|해|줘|봐|죠|마|라|니|나|응|게요|거든|잖아|뭐)$")


def strip_stars(text: str) -> str:
    """Delete Markdown stars; one between digits is a multiplication sign, two a power.

    >>> strip_stars("*3*4는 12야.*")
    '3×4는 12야.'
    """
    text = re.sub(r"(?<=\d)\*\*(?=\d)", "^", text)
    text = re.sub(r"(?<=\d)\*(?=\d)|(?<=\d )\*(?= \d)", "×", text)
    return text.replace("*", "")


@dataclass(frozen=True)
class _Line:
    text: str
    label: Label | None


def normalise_reply(content: str, names: Names) -> str | None:
    r"""Return the normal form of a reply.

    Args:
        content: The reply as written.
        names: Who takes part.

    Returns:
        `narration\n"speech"`, `"speech"`, or narration alone when nobody speaks; an empty string when the speech is
        there but empty (a label or a pair of marks with nothing behind); None when no stable form was found.
    """
    for _ in range(_MAX_ROUNDS):
        reply = _normalise_once(content, names)
        if reply in (content, ""):
            return reply
        content = reply
    flat = _normalise_once(content.replace('"', "'"), names)
    return flat if _normalise_once(flat, names) == flat else None


def _normalise_once(content: str, names: Names) -> str:
    raw = split_lines(straighten(re.sub(r"\\r?\\n|\\n", "\n", content)))
    known = {*names.protagonists, *names.players, *PLAYER_WORDS, *PROTAGONIST_WORDS, *_subjects(raw)}
    lines = [_strip_labels(text, known) for text in (_BULLET.sub("", text, count=1) for text in raw) if text]
    if not lines:
        return ""
    blocks = blocks_of_lines([line.text for line in lines]) if all(line.text for line in lines) else _blocks_with_gaps(lines)
    blocks = _decide(blocks, lines, names)
    speeches = [block.text for block in blocks if block.kind is Kind.SPEECH]
    narration = " ".join(block.text for block in blocks if block.kind is Kind.NARRATION and is_visible(block.text))
    if not speeches:
        return narration
    spoken = [text for text in speeches if has_words(text)]
    if not spoken:
        return ""
    speech = spoken[0] if len(spoken) == 1 else " ".join(text.strip() for text in spoken)
    return f"{narration}\n{quote(speech)}" if narration else quote(speech)


def _blocks_with_gaps(lines: Sequence[_Line]) -> list[Block]:
    """Split when a label stood alone on its line: that line is an empty speech."""
    kept = [(number, line.text) for number, line in enumerate(lines) if line.text]
    blocks = [block._replace(line=kept[block.line][0]) for block in blocks_of_lines([text for _, text in kept])]
    return [*blocks, *(Block(Kind.SPEECH, "", number, quoted=True) for number, line in enumerate(lines) if not line.text)]


def _subjects(lines: Sequence[str]) -> set[str]:
    """Return the first words of lines that carry a subject particle: who the narration tells about."""
    return {match[1] for line in lines if (match := _SUBJECT.match(line)) and len(match[1]) > 1}


def _strip_labels(text: str, known: Collection[str]) -> _Line:
    """Take all labels off a line, outside (`사야: "..."`) and just inside (`"사야: ..."`) its quotation marks."""
    found: Label | None = None
    while True:
        opening = '"' if text.startswith('"') else ""
        stripped = strip_label(text[len(opening) :].lstrip() if opening else text, known, only_known=bool(opening))
        if stripped.label is None or (opening and stripped.label is Label.NARRATION):
            return _Line(text, found)
        if opening and not has_words(stripped.rest):
            return _Line("", Label.SPEECH)
        text, found = opening + stripped.rest, stripped.label


def _decide(blocks: list[Block], lines: Sequence[_Line], names: Names) -> list[Block]:
    """Say for every unquoted block whether it is narration or speech."""
    first_speech = next((at for at, block in enumerate(blocks) if block.kind is Kind.SPEECH), len(blocks))
    decided = [
        block._replace(kind=Kind.SPEECH) if _is_unquoted_speech(block, _label_of(block, lines), after_speech=at > first_speech) else block
        for at, block in enumerate(blocks)
    ]
    if any(block.kind is Kind.SPEECH for block in decided):
        return [part for block in decided for part in (_split_closed(block, names) if block.kind is Kind.SPEECH else [block])]
    if not decided:
        return []
    *earlier, last = decided
    label = _label_of(last, lines)
    if label is Label.NARRATION or (label is None and _all_told(decided, names)):
        return decided
    return [*earlier, *_split_last(last, names)]


def _split_closed(block: Block, names: Names) -> list[Block]:
    """Take leading narration off a speech of which only the closing mark was written."""
    return [block] if block.quoted else _split_last(block, names)


def _split_last(block: Block, names: Names) -> list[Block]:
    told, said = _split_told(block.text, names)
    parts = [block._replace(kind=Kind.NARRATION, text=told)] if told else []
    return [*parts, block._replace(kind=Kind.SPEECH, text=said)] if said or not told else parts


def _all_told(blocks: Sequence[Block], names: Names) -> bool:
    """Return whether an unquoted reply of several lines is narration to its end.

    Its last line is in plain style, of several words, nobody speaks of themselves, and the lines before tell about the
    protagonist.
    """
    last = blocks[-1].text
    plain = re.fullmatch(r"\S+\s.*다[.…]*", last) is not None and _FIRST_PERSON.match(last) is None
    return len(blocks) > 1 and plain and not _split_told(" ".join(block.text for block in blocks), names)[1]


def _label_of(block: Block, lines: Sequence[_Line]) -> Label | None:
    return lines[block.line].label if block.line < len(lines) else None


def _is_unquoted_speech(block: Block, label: Label | None, *, after_speech: bool) -> bool:
    if block.kind is Kind.SPEECH or label is Label.NARRATION:
        return False
    if label is Label.SPEECH:
        return True
    text = block.text.rstrip(SENTENCE_END + " ")
    if label is Label.NAME:
        return not text.endswith("다")
    return after_speech and not text.endswith("다") and _SPEECH_ENDING.search(text) is not None


def _split_told(text: str, names: Names) -> tuple[str, str]:
    """Split an unquoted last line into what is told about the protagonist and what is said.

    >>> _split_told("사야는 웃는다. 지금 갈게.", Names(("사야",), (), None))
    ('사야는 웃는다.', '지금 갈게.')
    """
    subjects = "|".join(map(re.escape, (*names.protagonists, *_PRONOUNS)))
    about = re.compile(rf"(?:{subjects})(?:은|는|이|가|의)\s.*다[{re.escape(SENTENCE_END)}\"']*")
    sentences = re.findall(rf".+?(?:[{re.escape(SENTENCE_END)}]+[\"'”’)]*(?=\s|$)|$)\s*", text, re.DOTALL)
    told = 0
    for number, sentence in enumerate(sentences, start=1):
        plain = sentence.strip().rstrip(SENTENCE_END + "\"'").endswith("다")
        if about.fullmatch(sentence.strip()) or (told == number - 1 and told and plain):
            told = number
    return "".join(sentences[:told]).strip(), "".join(sentences[told:]).strip()
