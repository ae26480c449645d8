"""Split a reply into narration and speech while it is being written.

The wanted form is one plain narration line and one line of `"speech"`, but a small model strays: other quotation marks,
several quotations, none at all, unclosed ones, stage directions, role labels. Two promises hold whatever it writes:
narration is never spoken, speech is never lost. A third makes it testable: the events do not depend on how the stream was
cut into pieces (`coalesce` joins neighbouring deltas).

    OUT --opening mark--> IN --closing mark, line end, end--> OUT        * and ( ) open an aside in both

- Straight quotes toggle; inside speech one after a blank and before a letter opens a nested quotation (`걔가 "싫어"라고`).
- A straight quote after text and before a blank closes what was never opened: the speech before it is found by guessing.
- Lines without quotation marks are judged sentence by sentence (`rplab.play.settle`); unsure ones wait: with a quotation
  anywhere they are narration, in a reply without any they are speech.
- A line of the other side (`USER:`, the player's name) ends the reply: `Cut`.

Differs on purpose from the predecessor, which kept only the first straight-quoted run and spoke everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rplab.play.clean import END_TOKEN, ESCAPED_QUOTE, Cleaner
from rplab.play.events import Kind, ParsedReply, ParseEvent, Speaker, collect
from rplab.play.labels import LabelReader
from rplab.play.sentences import SentenceCutter, split_sentences
from rplab.play.settle import Settler

_STRAIGHT = frozenset('"＂')
_OPENERS = {"“": "”", "„": "”", "〝": "〟", "「": "」", "『": "』", "«": "»"}
_CLOSERS = frozenset(_OPENERS.values())
_PARENTHESES = {"(": ")", "（": "）", "[": "]", "【": "】", "〔": "〕"}
_TITLE_MARKS = frozenset("「『")
_TITLE_PARTICLES = frozenset("을를의은는에과와가도")
"""Right behind a corner bracket they make it a title that is spoken of (『어린 왕자』를 읽었다), not speech."""
_END_MARKS = frozenset(".?!。？！…~～,—")


@dataclass
class _Line:
    """What is known of the line that is being read."""

    head: str | None = ""
    """Characters held while they may still be a role label; None once decided."""
    parts: list[tuple[Literal["plain", "aside"], str]] = field(default_factory=list[tuple[Literal["plain", "aside"], str]])
    has_speech: bool = False
    label: Kind | None = None
    """What a label at the start of the line announced."""


@dataclass
class _Quote:
    """An open quotation."""

    opener: str
    closer: str
    has_text: bool = False
    has_begun: bool = False
    """A sentence of it was emitted; until then it may still be a title."""
    nested: list[str] = field(default_factory=list[str])
    speaker: Speaker = "character"


@dataclass
class _Aside:
    """An open stage direction."""

    closer: str
    text: str = ""


class ReplyParser:
    """Feed it pieces of a reply, `finish` at the end; both return events."""

    def __init__(self, *, protagonist: Sequence[str] = (), player: Sequence[str] = (), first_clause_chars: int = 0) -> None:
        """Start a reply.

        Args:
            protagonist: Names of the character (Korean, kana).
            player: Names of the other side.
            first_clause_chars: See `SentenceCutter`.
        """
        self._cleaner = Cleaner()
        self._labels = LabelReader(protagonist, player)
        self._cutter = SentenceCutter(first_clause_chars=first_clause_chars)
        self._settler = Settler(protagonist, player)
        self._line = _Line()
        self._quote: _Quote | None = None
        self._aside: _Aside | None = None
        self._held_mark = ""
        """A quotation mark that waits for the next character."""
        self._held_stars = 0
        self._held_title: _Quote | None = None
        """A closed quotation in corner brackets that may be a title; the next character tells."""
        self._previous = "\n"
        self._left_open = False
        """The last quotation was never closed: unquoted speech may go on in the next line."""
        self._is_cut = False

    @property
    def is_cut(self) -> bool:
        """Whether the reply ended early because the model wrote for somebody else."""
        return self._is_cut

    def feed(self, piece: str) -> list[ParseEvent]:
        """Take the next piece of the reply."""
        for character in self._cleaner.feed(piece):
            self._accept(character)
        return self._settler.take()

    def finish(self) -> list[ParseEvent]:
        """End the reply and return what was still open or undecided."""
        for character in self._cleaner.flush():
            self._accept(character)
        if not self._is_cut:
            self._release_head()
            self._end_line()
        self._settler.resolve()
        return self._settler.take()

    # -- characters

    def _accept(self, character: str) -> None:
        if self._is_cut:
            return
        if character == END_TOKEN:
            self._release_head()
            self._end_line()
            self._cut("a token of the chat template")
        elif self._line.head is not None and self._quote is None:
            self._read_head(self._line.head, character)
        else:
            self._step(character)

    def _read_head(self, head: str, character: str) -> None:
        """Hold the start of a line as long as it may be a role label."""
        label = self._labels.read(head) if character in ":：" else None
        if label is not None:
            self._line.head, self._line.label = None, label.kind
            if label.is_other:
                self._cut(f"a line for {head.strip()}")
        elif character != "\n" and self._labels.may_become(head + character):
            self._line.head = head + character
        else:
            self._release_head()
            self._step(character)

    def _release_head(self) -> None:
        head, self._line.head = self._line.head or "", None
        for character in head:
            self._step(character)

    def _cut(self, reason: str) -> None:
        self._is_cut = True
        self._settler.cut(reason)

    def _step(self, character: str) -> None:
        """Handle one character, after the marks before it that waited for it."""
        if self._held_title is not None:
            self._settle_title(self._held_title, is_title=character in _TITLE_PARTICLES)
        if self._held_stars and character == "*":
            self._held_stars += 1
            return
        self._release_marks(character)
        if character == "\n":
            self._end_line()
        elif character == "*":
            self._held_stars = 1
        elif self._quote is None:
            self._step_out(character)
        else:
            self._step_in(character, self._quote)

    def _release_marks(self, following: str) -> None:
        stars, self._held_stars = self._held_stars, 0
        if stars == 1:  # two and more are bold type: the words stay where they are
            self._star(following)
        mark, self._held_mark = self._held_mark, ""
        if mark:
            self._quotation_mark(mark, following)

    def _step_out(self, character: str) -> None:
        if character in _STRAIGHT or character == ESCAPED_QUOTE:
            self._held_mark = character
        elif character in _OPENERS:
            self._open(character, _OPENERS[character])
        elif character in _CLOSERS:
            self._stray_close(character)
        elif self._aside and character == self._aside.closer != "*":
            self._close_aside()
        elif character in _PARENTHESES and not self._aside and not self._plain_tail().strip():
            self._aside = _Aside(_PARENTHESES[character])
        else:
            self._add_plain(character)

    def _step_in(self, character: str, quote: _Quote) -> None:
        if character == ESCAPED_QUOTE and quote.opener != ESCAPED_QUOTE:
            self._say('"', quote)
        elif quote.nested and character == quote.nested[-1]:
            quote.nested.pop()
            self._say(character, quote)
        elif character in _STRAIGHT or character == ESCAPED_QUOTE:
            if self._previous.isspace() and quote.has_text:
                self._held_mark = character
            else:
                self._close(quote)
        elif character == quote.closer or (character in _CLOSERS and quote.opener in _STRAIGHT):
            self._close(quote)
        elif character in _OPENERS:
            quote.nested.append(_OPENERS[character])
            self._say(character, quote)
        elif self._aside and character == self._aside.closer != "*":
            self._close_aside()
        elif character in _PARENTHESES and not self._aside and self._cutter.is_empty:
            self._aside = _Aside(_PARENTHESES[character])
        else:
            self._say(character, quote)

    def _quotation_mark(self, mark: str, following: str) -> None:
        """Decide what a straight quote is, now that the character after it is known."""
        quote = self._quote
        if quote is None:
            if self._plain_tail().strip() and not self._previous.isspace() and following.isspace():
                self._stray_close(mark)
            else:
                self._open(mark, '"')
        elif following.isspace() or following in _END_MARKS or following in _STRAIGHT:
            self._close(quote)
        else:
            quote.nested.append('"')
            self._say(mark, quote)

    # -- stage directions

    def _star(self, following: str) -> None:
        """A lone `*` opens or closes an aside, or is a sign between blanks (5 * 3)."""
        if self._aside and self._aside.closer == "*":
            self._close_aside()
        elif self._aside is None and not (following.isspace() and (self._previous.isspace() or self._previous.isdigit())):
            self._aside = _Aside("*")
        elif self._quote is not None:
            self._say("*", self._quote)
        else:
            self._add_plain("*")

    def _close_aside(self) -> None:
        """End a stage direction: narration, wherever it stands."""
        text = self._aside.text.strip() if self._aside else ""
        self._aside = None
        if not text:
            return
        if self._quote is None:
            self._line.parts.append(("aside", text))
            return
        if self._quote.has_text:
            self._begin_speech(self._quote)
        else:
            self._narrate_parts()
        self._settler.narrate(text)

    def _revert_aside(self) -> None:
        """An aside that never closed was none: its text belongs where it stands."""
        text = self._aside.text if self._aside else ""
        self._aside = None
        if not text.strip():
            return
        if self._quote is None:
            self._line.parts.append(("plain", text))
            return
        self._quote.has_text = True
        self._begin_speech(self._quote)
        self._settler.speak(self._cutter.feed(text), self._quote.speaker)

    # -- outside of quotations

    def _plain_tail(self) -> str:
        return self._line.parts[-1][1] if self._line.parts and self._line.parts[-1][0] == "plain" else ""

    def _add_plain(self, character: str) -> None:
        self._settler.show("narration", character)
        self._previous = character
        if self._aside:
            self._aside.text += character
        else:
            self._append_plain(character)

    def _append_plain(self, text: str) -> None:
        if self._line.parts and self._line.parts[-1][0] == "plain":
            self._line.parts[-1] = ("plain", self._line.parts[-1][1] + text)
        else:
            self._line.parts.append(("plain", text))

    def _narrate_parts(self) -> None:
        """Everything outside the quotation marks of a line with speech is narration."""
        text = "".join(f" {part} " if kind == "aside" else part for kind, part in self._line.parts)
        self._line.parts = []
        self._settler.narrate(" ".join(text.split()))

    def _stray_close(self, mark: str) -> None:
        """A closing mark without an opening one: the end of the plain text before it was speech."""
        self._settler.show("narration", '"' if mark == ESCAPED_QUOTE else mark)
        self._previous = mark
        text = self._plain_tail()
        if not text.strip():
            return
        self._line.parts.pop()
        self._line.has_speech = True
        self._settler.quotation_begins()
        self._narrate_parts()
        sentences = split_sentences(text)
        start = 0 if self._left_open else len(sentences) - 1
        while start and self._settler.guess(sentences[start - 1]) != "narration":
            start -= 1
        self._left_open = False
        self._settler.narrate(" ".join(sentences[:start]))
        self._settler.speak_apart(sentences[start:])

    # -- inside of quotations

    def _open(self, opener: str, closer: str) -> None:
        if self._aside:
            self._revert_aside()
        self._quote = _Quote(opener, closer)
        self._settler.show("dialogue", '"' if opener == ESCAPED_QUOTE else opener)
        self._previous = opener

    def _say(self, character: str, quote: _Quote) -> None:
        self._previous = character
        if self._aside:
            self._settler.show("narration", character)
            self._aside.text += character
            return
        self._settler.show("dialogue", character)
        if not character.isspace():
            quote.has_text = True
            if quote.opener not in _TITLE_MARKS:
                self._begin_speech(quote)
        if sentences := self._cutter.feed(character):
            self._begin_speech(quote)
            self._settler.speak(sentences, quote.speaker)

    def _begin_speech(self, quote: _Quote) -> None:
        """What is certainly speech settles all that waited before it."""
        if quote.has_begun:
            return
        quote.has_begun = True
        self._line.has_speech = True
        self._left_open = False
        self._settler.quotation_begins()
        self._narrate_parts()
        quote.speaker = self._settler.begin_utterance()

    def _close(self, quote: _Quote) -> None:
        self._revert_aside()
        self._settler.show("dialogue", quote.closer)
        self._quote = None
        self._previous = quote.closer
        if quote.has_text and not quote.has_begun and not self._cutter.has_mark:
            self._held_title = quote
        else:
            self._end_speech(quote)

    def _end_speech(self, quote: _Quote) -> None:
        if quote.has_text:
            self._begin_speech(quote)
        self._settler.speak(self._cutter.flush(), quote.speaker)
        self._settler.end_utterance()

    def _settle_title(self, quote: _Quote, *, is_title: bool) -> None:
        """Decide what a quotation in corner brackets was, now that the character after it is known."""
        self._held_title = None
        if is_title:
            self._append_plain(f"{quote.opener}{' '.join(self._cutter.flush())}{quote.closer}")
        else:
            self._end_speech(quote)

    # -- line ends

    def _end_line(self) -> None:
        if self._held_title is not None:
            self._settle_title(self._held_title, is_title=False)
        self._release_marks("\n")
        quote = self._quote
        if quote is not None:
            self._revert_aside()
            if quote.has_text:
                self._begin_speech(quote)
            self._settler.speak(self._cutter.flush(), quote.speaker)
            self._quote = None
        if quote is not None and quote.has_text:
            self._left_open = True
        else:
            self._end_plain_line()
        self._aside = None
        self._settler.end_line()
        self._line = _Line()
        self._previous = "\n"

    def _end_plain_line(self) -> None:
        if self._aside and self._aside.text.strip():
            self._line.parts.append(("aside" if self._aside.closer == "*" else "plain", self._aside.text))
        if self._line.has_speech:
            self._narrate_parts()
            return
        goes_on = self._left_open or self._line.label == "dialogue" or any(kind == "aside" for kind, _ in self._line.parts)
        for kind, text in self._line.parts:
            is_aside = kind == "aside"
            self._settler.judge(text, label="narration" if is_aside else self._line.label, default="dialogue" if goes_on else None)
        self._left_open = self._left_open and not self._line.parts
        self._settler.resolve_sure()


def parse_reply(text: str, *, protagonist: Sequence[str] = (), player: Sequence[str] = ()) -> ParsedReply:
    """Parse a finished reply.

    Example:
        >>> parse_reply('사야는 웃었다. “오늘 재밌었어.”', protagonist=["사야"]).dialogue[0].text
        '오늘 재밌었어.'
    """
    parser = ReplyParser(protagonist=protagonist, player=player)
    return collect([*parser.feed(text), *parser.finish()])
