"""What the parser and the session tell the screen, the transcript and the voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["narration", "dialogue"]
Speaker: TypeAlias = Literal["character", "player"]


@dataclass(frozen=True)
class Delta:
    """Text to show at once. Its kind is the best knowledge so far; an unquoted line may turn out to be speech later."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Narration:
    """A finished piece of narration: never spoken."""

    text: str


@dataclass(frozen=True)
class Sentence:
    """A finished sentence of speech, without its quotation marks."""

    text: str
    utterance: int
    """Sentences of one quotation share a number, counted from 0."""
    speaker: Speaker = "character"
    """`player` when the model put words into the player's mouth: shown, never spoken."""


@dataclass(frozen=True)
class Cut:
    """The model began to write for somebody else (a role label, a template token): nothing after this counts."""

    reason: str


ParseEvent: TypeAlias = Delta | Narration | Sentence | Cut
