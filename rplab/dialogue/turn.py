"""A turn of a dialogue taken apart: narration before, speech on the last line; and what can be mended in it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from rplab.character import Register
from rplab.dialogue.pack_tables import Side

_LABELS = "서술|대사|행동|반응|대답|지문"
LINE_LABEL = re.compile(
    rf"^\s*(?:-\s+(?=(?:{_LABELS})\s*[:：]))?"
    rf"(?:\[[^\]\n]{{1,20}}\]|ACT\s*\d+\b|\d+[.)]|(?:{_LABELS})(?=\s|[:：]))\s*[:：]?\s*",
    re.IGNORECASE,
)
_BRACKETED_NAME = re.compile(rf"\[(?!(?:{_LABELS})\])([가-힣A-Za-z]{{1,20}})\](?=(?:은|는|이|가|을|를|의|에게|에|와|과|도|만|께|한테)\s)")
"""A word in brackets with a particle after them is part of its sentence, no label."""
OWNED_LABEL = re.compile(r"^\s*[^\s\"]{1,12}의\s(?:서술|대사|행동|반응|대답)\s*[:：]\s*")
_OUT_OF_THE_ORDINARY = re.compile(r"[^가-힣0-9 \n\".,!?…~'-]")
_SYLLABLE = re.compile(r"[가-힣]")
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")
_POLICY_LINE = re.compile(r"^\s*(?:장르|시대|관계|흐름|신호|관계 상태|관계 단계|행동 단계|장면 허용)\s*[:：]?\s+\S{1,20}$")


@dataclass(frozen=True)
class Turn:
    """A turn taken apart."""

    text: str
    lines: tuple[str, ...]
    """Non-blank lines, stripped."""
    narration: str
    """Everything before the last line; empty when the turn is one line."""
    speech: str
    """The last line without its outer quotes."""

    @functools.cached_property
    def is_ordinary(self) -> bool:
        """Whether there is Hangul, and nothing beside it but digits, blanks and common punctuation.

        Most turns are so, and half of the checks have nothing to look for in them.
        """
        return _OUT_OF_THE_ORDINARY.search(self.text) is None and _SYLLABLE.search(self.text) is not None

    @functools.cached_property
    def narration_sentences(self) -> tuple[str, ...]:
        """The sentences of the narration, stripped."""
        return tuple(sentences(self.narration))


@dataclass(frozen=True)
class TurnContext:
    """What a turn is checked against."""

    side: Side
    protagonist: str
    player: str
    register: Register | None = None
    """Speech level asked of the protagonist; None = not checked."""
    other: tuple[str, ...] = ()
    """The other side's turns so far, oldest first."""
    own: tuple[str, ...] = ()
    """This side's turns so far, oldest first."""


@functools.lru_cache(maxsize=4096)
def split_turn(text: str) -> Turn:
    """Take a turn apart; nothing is changed."""
    lines = tuple(line.strip() for line in text.split("\n") if line.strip())
    last = lines[-1] if lines else ""
    speech = last[1:-1].strip() if len(last) >= 2 and last[0] == last[-1] == '"' else last
    return Turn(text, lines, " ".join(lines[:-1]), speech)


def mend(text: str) -> str:
    """Repair what can be repaired without losing what was said: straight quotes, line labels, leaked label lines."""
    text = text.strip().replace("“", '"').replace("”", '"').replace("「", '"').replace("」", '"')
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > 1:
        lines = [line for line in lines if not _POLICY_LINE.fullmatch(line)] or lines
    lines = [LINE_LABEL.sub("", OWNED_LABEL.sub("", _BRACKETED_NAME.sub(r"\1", line))) for line in lines]
    return "\n".join(line for line in lines if line)


def sentences(text: str) -> list[str]:
    """Return the sentences of a narration, stripped."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def is_quote(line: str) -> bool:
    """Return whether a line is one quotation in straight quotes and nothing else."""
    return len(line) > 2 and line[0] == line[-1] == '"' and '"' not in line[1:-1]
