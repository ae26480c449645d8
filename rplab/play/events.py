"""What the parser and the session tell the screen, the transcript and the voice."""

from __future__ import annotations

from collections.abc import Iterable
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


@dataclass(frozen=True)
class ParsedReply:
    """A whole reply, parsed."""

    narration: tuple[str, ...]
    dialogue: tuple[Sentence, ...]
    shown: str
    """What the reader sees: the reply without tags, labels and what followed a cut."""
    cut: str = ""


def collect(events: Iterable[ParseEvent]) -> ParsedReply:
    """Gather events into a reply."""
    events = list(events)
    return ParsedReply(
        narration=tuple(event.text for event in events if isinstance(event, Narration)),
        dialogue=tuple(event for event in events if isinstance(event, Sentence)),
        shown="".join(event.text for event in events if isinstance(event, Delta)),
        cut=next((event.reason for event in events if isinstance(event, Cut)), ""),
    )


@dataclass(frozen=True)
class Translated:
    """The Japanese of one sentence of speech."""

    text: str
    japanese: str
    utterance: int


@dataclass(frozen=True)
class Spoken:
    """A sentence is on its way to the speaker."""

    japanese: str
    audio_s: float
    style: str = ""
    """Speaking style; empty is the voice's own."""
    feeling: str = "neutral"
    """What the words around the sentence told (`rplab.play.emotion`)."""


@dataclass(frozen=True)
class Heard:
    """The play clock stands in a sentence, or has passed it."""

    text: str
    japanese: str
    share: float
    """Of the sentence, 0..1."""


@dataclass(frozen=True)
class Notice:
    """Something did not work and was replaced by less: told once a turn for each part."""

    part: Literal["reply", "translation", "voice", "audio", "store"]
    message: str


SessionEvent: TypeAlias = ParseEvent | Translated | Spoken | Heard | Notice
