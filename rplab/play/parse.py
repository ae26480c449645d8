"""Split a reply into narration and speech while it is being written.

The wanted form is one plain narration line and one line of `"speech"`, but a small model strays: other quotation marks,
several quotations, none at all, unclosed ones, stage directions, role labels. Two promises hold whatever it writes:
narration is never spoken, speech is never lost. A third makes it testable: the events do not depend on how the stream was
cut into pieces (`coalesce` joins neighbouring deltas).

    OUT --opening mark--> IN --closing mark, line end, end--> OUT        * and ( ) open an aside in both

- Straight quotes toggle; inside speech one after a blank and before a letter opens a nested quotation (`걔가 "싫어"라고`).
- A straight quote after text and before a blank closes what was never opened: the speech before it is found by guessing.
- Lines without quotation marks are judged sentence by sentence (`rplab.play.guess`); unsure ones wait: with a quotation
  anywhere they are narration, in a reply without any they are speech.
- A line of the other side (`USER:`, the player's name) ends the reply: `Cut`.

Differs on purpose from the predecessor, which kept only the first straight-quoted run and spoke everything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rplab.play.clean import END_TOKEN, ESCAPED_QUOTE, Cleaner
from rplab.play.events import Cut, Delta, Kind, Narration, ParseEvent, Sentence, Speaker
from rplab.play.guess import guess_kind
from rplab.play.sentences import SentenceCutter, split_sentences

_STRAIGHT = frozenset('"＂')
_OPENERS = {"“": "”", "„": "”", "〝": "〟", "「": "」", "『": "』", "«": "»"}
_CLOSERS = frozenset({*_OPENERS.values(), "“"})
_ASIDES = {"*": "*", "(": ")", "（": "）"}
_END_MARKS = frozenset(".?!。？！…~～,—")
_MODEL_LABELS = ("assistant", "어시스턴트", "ai", "bot", "char", "character")
_OTHER_LABELS = ("user", "human", "system", "사용자", "유저", "시스템", "player", "플레이어")
_KIND_LABELS: dict[str, Kind] = {
    "narration": "narration", "나레이션": "narration", "내레이션": "narration", "지문": "narration", "서술": "narration",
    "dialogue": "dialogue", "대사": "dialogue",
}  # fmt: skip
_SINGLE_QUOTED = re.compile(r"^\s*['‘](?P<text>.+?)['’]\s*$")


@dataclass
class _Line:
    """What is known of the line that is being read."""

    head: str | None = ""
    """Characters held while they may still be a role label; None once decided."""
    parts: list[tuple[Literal["plain", "aside"], str]] = field(default_factory=list[tuple[Literal["plain", "aside"], str]])
    has_speech: bool = False
    label: Kind | None = None
    """Kind that a label at the start of the line announced."""


@dataclass
class _Quote:
    """An open quotation."""

    opener: str
    closer: str
    has_text: bool = False
    nested: list[str] = field(default_factory=list[str])
    speaker: Speaker = "character"


class ReplyParser:
    """Feed it pieces of a reply, `finish` at the end; both return events."""

    def __init__(self, *, protagonist: Sequence[str] = (), player: Sequence[str] = (), first_clause_chars: int = 0) -> None:
        """Start a reply.

        Args:
            protagonist: Names of the character (Korean, kana).
            player: Names of the other side.
            first_clause_chars: See `SentenceCutter`.
        """
        self._protagonist, self._player = tuple(protagonist), tuple(player)
        self._cleaner = Cleaner()
        self._cutter = SentenceCutter(first_clause_chars=first_clause_chars)
        self._events: list[ParseEvent] = []
        self._line = _Line()
        self._quote: _Quote | None = None
        self._aside: tuple[str, str] | None = None
        self._held = ""
        self._previous = "\n"
        self._waiting: list[tuple[Kind | None, str]] = []
        self._utterance = -1
        self._any_quotation = False
        self._unclosed = False
        self._last_narration = ""
        self._is_cut = False
        self._break = 0
        self._stars = 0

    @property
    def is_cut(self) -> bool:
        """Whether the reply ended early because the model wrote for somebody else."""
        return self._is_cut

    def feed(self, piece: str) -> list[ParseEvent]:
        """Take the next piece of the reply."""
        for character in self._cleaner.feed(piece):
            self._accept(character)
        return self._take()

    def finish(self) -> list[ParseEvent]:
        """End the reply and return what was still open or undecided."""
        for character in self._cleaner.flush():
            self._accept(character)
        if not self._is_cut:
            self._release_head()
            self._end_line()
        self._resolve(quotation=self._any_quotation)
        return self._take()

    # -- characters -------------------------------------------------------------------------------------------------

    def _accept(self, character: str) -> None:
        if self._is_cut:
            return
        if character == END_TOKEN:
            self._end_line()
            self._cut("template token")
        elif self._line.head is not None and self._quote is None:
            self._read_head(character)
        else:
            self._step(character)

    def _read_head(self, character: str) -> None:
        """Hold the start of a line as long as it may be a role label."""
        head = self._line.head or ""
        name = head.strip().casefold()
        if character in ":：" and name in self._labels():
            self._apply_label(name)
            return
        longer = (head + character).lstrip().casefold()
        if character != "\n" and any(label.startswith(longer.rstrip()) for label in self._labels()) and len(longer) < 24:
            self._line.head = head + character
            return
        self._release_head()
        if not self._is_cut:
            self._step(character)

    def _labels(self) -> tuple[str, ...]:
        names = (*self._protagonist, *self._player)
        return (*_MODEL_LABELS, *_OTHER_LABELS, *_KIND_LABELS, *(name.casefold() for name in names if name))

    def _apply_label(self, name: str) -> None:
        self._line.head = None
        if name in _OTHER_LABELS or name in {player.casefold() for player in self._player}:
            self._cut(f"wrote a line for {name}")
        elif name in _KIND_LABELS:
            self._line.label = _KIND_LABELS[name]
        elif name not in _MODEL_LABELS:
            self._line.label = "dialogue"

    def _release_head(self) -> None:
        head, self._line.head = self._line.head or "", None
        for character in head:
            self._step(character)

    def _step(self, character: str) -> None:
        """Handle one character whose predecessor may be a mark that waited for it."""
        if self._stars:
            if character == "*":
                self._stars += 1
                return
            count, self._stars = self._stars, 0
            if count == 1:
                self._star(character)
        if self._held:
            mark, self._held = self._held, ""
            self._quotation_mark(mark, character)
        if character == "\n":
            self._end_line()
        elif character == "*":
            self._stars = 1
        elif self._quote is None:
            self._step_out(character)
        else:
            self._step_in(character, self._quote)

    def _step_out(self, character: str) -> None:
        if character in _STRAIGHT or character == ESCAPED_QUOTE:
            self._held = character
        elif character in _OPENERS:
            self._open(character, _OPENERS[character])
        elif character in "”」』»〟":
            self._stray_close(character)
        elif self._aside and character == self._aside[0] != "*":
            self._close_aside()
        elif character in "(（" and not self._plain_tail().strip() and not self._aside:
            self._aside = (_ASIDES[character], "")
        else:
            self._add_plain(character)

    def _step_in(self, character: str, quote: _Quote) -> None:
        if character == ESCAPED_QUOTE and quote.opener != ESCAPED_QUOTE:
            self._say('"', quote)
        elif character == ESCAPED_QUOTE:
            self._close()
        elif quote.nested and character == quote.nested[-1]:
            quote.nested.pop()
            self._say(character, quote)
        elif character in _STRAIGHT:
            if self._previous.isspace() and quote.has_text:
                self._held = character
            else:
                self._quotation_mark(character, "")
        elif character in _CLOSERS and (character == quote.closer or quote.opener in _STRAIGHT) and character != "“":
            self._close()
        elif character in _OPENERS:
            quote.nested.append(_OPENERS[character])
            self._say(character, quote)
        elif self._aside and character == self._aside[0] != "*":
            self._close_aside()
        elif character in "(（" and self._cutter.is_empty and not self._aside:
            self._aside = (_ASIDES[character], "")
            self._previous = character
        else:
            self._say(character, quote)

    def _quotation_mark(self, mark: str, following: str) -> None:
        """Decide what a straight quote is, now that the character after it is known (`""` when that does not matter)."""
        quote = self._quote
        if quote is None:
            if self._plain_tail().strip() and not self._previous.isspace() and (not following or following.isspace()):
                self._stray_close('"' if mark == ESCAPED_QUOTE else mark)
            else:
                self._open(mark, '"')
        elif following and not following.isspace() and following not in _END_MARKS and following not in _STRAIGHT:
            quote.nested.append('"')
            self._say(mark, quote)
        else:
            self._close()

    def _star(self, following: str) -> None:
        """A lone `*`: opens or closes an aside, or is a sign between blanks (5 * 3)."""
        if self._aside and self._aside[0] == "*":
            self._close_aside()
        elif self._aside is None and not (following.isspace() and (self._previous.isspace() or self._previous.isdigit())):
            self._aside = ("*", "")
        elif self._quote is not None:
            self._say("*", self._quote)
        else:
            self._add_plain("*")

    # -- narration side ---------------------------------------------------------------------------------------------

    def _plain_tail(self) -> str:
        return self._line.parts[-1][1] if self._line.parts and self._line.parts[-1][0] == "plain" else ""

    def _add_plain(self, character: str) -> None:
        self._show("narration", character)
        self._previous = character
        if self._aside:
            self._aside = (self._aside[0], self._aside[1] + character)
        elif self._line.parts and self._line.parts[-1][0] == "plain":
            self._line.parts[-1] = ("plain", self._line.parts[-1][1] + character)
        else:
            self._line.parts.append(("plain", character))

    def _close_aside(self) -> None:
        """End a stage direction: narration, wherever it stands."""
        text = self._aside[1].strip() if self._aside else ""
        self._aside = None
        if not text:
            return
        if self._quote is None:
            self._line.parts.append(("aside", text))
            return
        if not self._quote.has_text:
            self._emit_parts()
        self._emit_narration(text)

    def _revert_aside(self) -> None:
        """An aside that never closed was none: give its text back to where it stood."""
        text = self._aside[1] if self._aside else ""
        self._aside = None
        if not text:
            return
        if self._quote is not None:
            self._quote.has_text = True
            self._emit_sentences(self._cutter.feed(text), self._quote.speaker)
        else:
            self._line.parts.append(("plain", text))

    def _emit_parts(self) -> None:
        """Everything outside the quotation marks of a line with speech is narration."""
        text = "".join(f" {part} " if kind == "aside" else part for kind, part in self._line.parts)
        self._line.parts = []
        if self._line.label != "dialogue" or text.strip():
            self._emit_narration(" ".join(text.split()))

    def _emit_narration(self, text: str) -> None:
        text = text.strip(" *")
        if not any(character.isalnum() for character in text):
            return
        if self._waiting and not self._any_quotation:
            self._waiting.append(("narration", text))
        else:
            self._events.append(Narration(text))
        self._last_narration = text

    # -- speech side ------------------------------------------------------------------------------------------------

    def _open(self, opener: str, closer: str) -> None:
        if self._aside and self._quote is None:
            self._revert_aside()
        self._quote = _Quote(opener, closer)
        self._show("dialogue", opener if opener != ESCAPED_QUOTE else '"')
        self._previous = opener

    def _say(self, character: str, quote: _Quote) -> None:
        self._previous = character
        if self._aside:
            self._show("narration", character)
            self._aside = (self._aside[0], self._aside[1] + character)
            return
        self._show("dialogue", character)
        if not quote.has_text and not character.isspace():
            self._begin_speech(quote)
        self._emit_sentences(self._cutter.feed(character), quote.speaker)

    def _begin_speech(self, quote: _Quote) -> None:
        """The first letter inside a quotation settles all that waited before it."""
        quote.has_text = True
        self._any_quotation = True
        self._line.has_speech = True
        self._unclosed = False
        self._resolve(quotation=True)
        self._emit_parts()
        self._utterance += 1
        quote.speaker = self._who_speaks()

    def _who_speaks(self) -> Speaker:
        """The player speaks when the narration just before says so (`카즈키가 말했다.`) and does not name the character."""
        last = split_sentences(self._last_narration)[-1:] or [""]
        is_player = any(re.match(re.escape(name) + "(?:은|는|이|가|도)(?=\\s|$)", last[0]) for name in self._player if name)
        return "player" if is_player and not any(name in last[0] for name in self._protagonist if name) else "character"

    def _close(self) -> None:
        quote = self._quote
        if quote is None:
            return
        if self._aside:
            self._revert_aside()
        self._emit_sentences(self._cutter.flush(), quote.speaker)
        self._show("dialogue", quote.closer)
        self._quote = None
        self._previous = quote.closer
        self._last_narration = ""

    def _stray_close(self, mark: str) -> None:
        """A closing mark without an opening one: the end of the plain text before it was speech."""
        self._show("narration", mark)
        self._previous = mark
        text = self._plain_tail()
        if not text.strip():
            return
        self._line.parts.pop()
        self._any_quotation = True
        self._resolve(quotation=True)
        self._emit_parts()
        sentences = split_sentences(text)
        speech_from = 0 if self._unclosed else len(sentences) - 1
        while not self._unclosed and speech_from and guess_kind(sentences[speech_from - 1], self._names()) != "narration":
            speech_from -= 1
        self._unclosed = False
        self._emit_narration(" ".join(sentences[:speech_from]))
        self._speak_apart(sentences[speech_from:])
        self._line.has_speech = True

    def _speak_apart(self, sentences: Iterable[str], speaker: Speaker = "character") -> None:
        """Emit sentences as a quotation of their own."""
        self._utterance += 1
        self._emit_sentences(sentences, speaker)

    def _emit_sentences(self, sentences: Iterable[str], speaker: Speaker) -> None:
        for text in sentences:
            if any(character.isalnum() for character in text) or re.search(r"[…?!？！]|\.\.", text):
                self._events.append(Sentence(text, max(self._utterance, 0), speaker))

    # -- line ends --------------------------------------------------------------------------------------------------

    def _end_line(self) -> None:
        if self._stars == 1:
            self._star("\n")
        self._stars = 0
        if self._held:
            mark, self._held = self._held, ""
            self._quotation_mark(mark, "\n")
        if self._quote is not None:
            was_open = self._quote.has_text or bool(self._aside)
            self._end_open_quote(self._quote)
            self._unclosed = was_open
        else:
            self._end_plain_line()
        if self._aside:
            self._aside = None
        self._break += 1
        self._line = _Line()
        self._previous = "\n"

    def _end_open_quote(self, quote: _Quote) -> None:
        if self._aside:
            if not quote.has_text:
                self._begin_speech(quote)
            self._revert_aside()
        if quote.has_text:
            self._emit_sentences(self._cutter.flush(), quote.speaker)
        self._quote = None
        if not quote.has_text:
            self._end_plain_line()

    def _end_plain_line(self) -> None:
        if self._aside and self._aside[1].strip():
            self._line.parts.append(("aside" if self._aside[0] == "*" else "plain", self._aside[1]))
        self._aside = None
        if self._line.has_speech:
            self._emit_parts()
            return
        has_aside = any(kind == "aside" for kind, _ in self._line.parts)
        for kind, text in self._line.parts:
            if kind == "aside":
                self._queue("narration", text)
            else:
                self._judge_plain(text, beside_aside=has_aside)
        self._unclosed = self._unclosed and not self._line.parts
        if not any(kind is None for kind, _ in self._waiting):
            self._resolve(quotation=self._any_quotation)

    def _judge_plain(self, text: str, *, beside_aside: bool) -> None:
        if match := _SINGLE_QUOTED.match(text):
            self._queue("dialogue", match["text"].strip())
            return
        for sentence in split_sentences(text):
            kind = self._line.label if self._line.label == "narration" else guess_kind(sentence, self._names())
            if kind is None and (beside_aside or self._unclosed or self._line.label == "dialogue"):
                kind = "dialogue"
            self._queue(kind, sentence)

    def _queue(self, kind: Kind | None, text: str) -> None:
        if any(character.isalnum() for character in text):
            self._waiting.append((kind, text.strip()))

    def _resolve(self, *, quotation: bool) -> None:
        """Emit the lines that waited, in order; the unsure ones are narration when the reply uses quotation marks."""
        waiting, self._waiting = self._waiting, []
        last: Kind | None = None
        for kind, text in waiting:
            settled = kind or ("narration" if quotation else "dialogue")
            if settled == "narration":
                self._events.append(Narration(text))
                self._last_narration = text
            else:
                if last != "dialogue":
                    self._utterance += 1
                self._emit_sentences([text], "character")
            last = settled

    def _names(self) -> tuple[str, ...]:
        return (*self._protagonist, *self._player)

    def _cut(self, reason: str) -> None:
        self._is_cut = True
        self._events.append(Cut(reason))

    # -- output -----------------------------------------------------------------------------------------------------

    def _show(self, kind: Kind, text: str) -> None:
        """Show text at once; line ends wait for the next visible character, so none leads or trails."""
        if self._break and text.strip():
            shown = any(isinstance(event, Delta) for event in self._events) or self._shown
            text = ("\n" if shown else "") + text
            self._break = 0
        if text.strip():
            self._shown = True
        if self._shown:
            self._events.append(Delta(kind, text))

    _shown = False

    def _take(self) -> list[ParseEvent]:
        events, self._events = self._events, []
        return coalesce(events)


def coalesce(events: Iterable[ParseEvent]) -> list[ParseEvent]:
    """Join neighbouring deltas of one kind."""
    joined: list[ParseEvent] = []
    for event in events:
        if isinstance(event, Delta) and joined and isinstance(joined[-1], Delta) and joined[-1].kind == event.kind:
            joined[-1] = Delta(event.kind, joined[-1].text + event.text)
        else:
            joined.append(event)
    return joined


@dataclass(frozen=True)
class ParsedReply:
    """A whole reply, parsed."""

    narration: tuple[str, ...]
    dialogue: tuple[Sentence, ...]
    shown: str
    """What the reader sees: the reply without tags, labels and what followed a cut."""
    cut: str = ""


def parse_reply(text: str, *, protagonist: Sequence[str] = (), player: Sequence[str] = ()) -> ParsedReply:
    """Parse a finished reply.

    Example:
        >>> parse_reply('사야는 웃었다.\\n“오늘 재밌었어.”', protagonist=["사야"]).dialogue[0].text
        '오늘 재밌었어.'
    """
    parser = ReplyParser(protagonist=protagonist, player=player)
    return collect([*parser.feed(text), *parser.finish()])


def collect(events: Iterable[ParseEvent]) -> ParsedReply:
    """Gather events into a reply."""
    events = list(events)
    return ParsedReply(
        narration=tuple(event.text for event in events if isinstance(event, Narration)),
        dialogue=tuple(event for event in events if isinstance(event, Sentence)),
        shown="".join(event.text for event in events if isinstance(event, Delta)),
        cut=next((event.reason for event in events if isinstance(event, Cut)), ""),
    )
