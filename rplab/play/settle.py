"""Settle what the parts of a reply are, and emit them in order.

The parser says "this stood in quotation marks", "this stood outside"; here an unquoted line is judged sentence by sentence,
unsure ones wait until a quotation or the end of the reply tells, and everything behind them waits too, so that the order of
the reply is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rplab.play.events import Cut, Delta, Kind, Narration, ParseEvent, Sentence, Speaker
from rplab.play.guess import guess_kind
from rplab.play.sentences import split_sentences

_SINGLE_QUOTED = re.compile(r"^\s*['‘](?P<text>.+?)['’]\s*$")
_SAYS = re.compile(r"말했|말한|말하|물었|물어|묻는|묻자|대답|답했|답한|외쳤|외친|외치|속삭|중얼|인사|불렀|부른|부르|입을 [열연]|덧붙")
"""Words with which narration announces speech."""
_WORDLESS_SPEECH = re.compile(r"[…?!？！]|\.\.")


class Settler:
    """Collects the events of one reply."""

    def __init__(self, protagonist: Sequence[str], player: Sequence[str]) -> None:
        """Start a reply between these people."""
        self._protagonist = tuple(name for name in protagonist if name)
        self._player = tuple(name for name in player if name)
        self._events: list[ParseEvent] = []
        self._waiting: list[tuple[Kind | None, str]] = []
        self._utterance = -1
        self._last_narration = ""
        self._any_quotation = False
        self._shown = False
        self._line_ended = False

    def take(self) -> list[ParseEvent]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return coalesce(events)

    def show(self, kind: Kind, text: str) -> None:
        """Show text at once; a line end waits for the next visible character, so that none leads or trails."""
        if text.strip():
            text = "\n" + text if self._line_ended and self._shown else text
            self._line_ended = False
            self._shown = True
        if self._shown and not self._line_ended:
            self._events.append(Delta(kind, text))

    def end_line(self) -> None:
        """A line of the reply is over."""
        self._line_ended = True

    def cut(self, reason: str) -> None:
        """Nothing after this counts."""
        self._events.append(Cut(reason))

    def quotation_begins(self) -> None:
        """Settle what waited: in a reply with quotation marks, unsure lines outside of them are narration."""
        self._any_quotation = True
        self.resolve()

    def begin_utterance(self) -> Speaker:
        """Count a new quotation and say whose it is.

        It is the player's when the narration just before says so (`카즈키가 말했다.`) and does not name the character;
        `카즈키가 문을 두드렸다.` is followed by the character's answer.
        """
        self._utterance += 1
        last = (split_sentences(self._last_narration) or [""])[-1]
        is_player = any(re.match(re.escape(name) + r"(?:은|는|이|가|도)(?=\s|$)", last) for name in self._player)
        announces = bool(_SAYS.search(last)) and not any(name in last for name in self._protagonist)
        return "player" if is_player and announces else "character"

    def end_utterance(self) -> None:
        """Narration from before a quotation says nothing about the next one."""
        self._last_narration = ""

    def speak(self, sentences: Iterable[str], speaker: Speaker = "character") -> None:
        """Emit sentences of the current quotation; marks alone are kept only when they sound (…, ?!)."""
        for text in sentences:
            if _has_word(text) or _WORDLESS_SPEECH.search(text):
                self._events.append(Sentence(text, max(self._utterance, 0), speaker))

    def speak_apart(self, sentences: Sequence[str]) -> None:
        """Emit sentences as a quotation of their own."""
        if sentences:
            self._utterance += 1
            self.speak(sentences)

    def narrate(self, text: str) -> None:
        """Emit narration, behind what still waits."""
        text = text.strip(" *_")
        if not _has_word(text):
            return
        if self._waiting:
            self._waiting.append(("narration", text))
        else:
            self._events.append(Narration(text))
            self._last_narration = text

    def judge(self, text: str, *, label: Kind | None, default: Kind | None) -> None:
        """Judge unquoted text sentence by sentence.

        Args:
            text: Part of a line.
            label: What a label at the start of the line said; narration overrules the guess.
            default: What unsure sentences are; None lets them wait.
        """
        if match := _SINGLE_QUOTED.match(text):
            self._queue("dialogue", match["text"])
            return
        for sentence in split_sentences(text):
            kind = label if label == "narration" else self.guess(sentence) or default
            self._queue(kind, sentence)

    def guess(self, sentence: str) -> Kind | None:
        """See `guess_kind`."""
        return guess_kind(sentence, (*self._protagonist, *self._player))

    def resolve_sure(self) -> None:
        """Emit what waits unless something in it is unsure."""
        if not any(kind is None for kind, _ in self._waiting):
            self.resolve()

    def resolve(self) -> None:
        """Emit everything that waits; unsure lines are narration beside quotation marks, else speech."""
        waiting, self._waiting = self._waiting, []
        last: Kind | None = None
        for kind, text in waiting:
            settled: Kind = kind or ("narration" if self._any_quotation else "dialogue")
            if settled == "narration":
                self._events.append(Narration(text))
                self._last_narration = text
            else:
                self._utterance += last != "dialogue"
                self.speak([text])
            last = settled

    def _queue(self, kind: Kind | None, text: str) -> None:
        if _has_word(text):
            self._waiting.append((kind, text.strip().strip("_")))


def coalesce(events: Iterable[ParseEvent]) -> list[ParseEvent]:
    """Join neighbouring deltas of one kind."""
    joined: list[ParseEvent] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Delta) and isinstance(last, Delta) and last.kind == event.kind:
            joined[-1] = Delta(event.kind, last.text + event.text)
        else:
            joined.append(event)
    return joined


def _has_word(text: str) -> bool:
    return any(character.isalnum() for character in text)
