"""What the terminal shows above its prompt: the line that is being written, subtitles, notices.

The line that is being written is part of the prompt's message, so that it can grow by single characters; when it is
complete it moves into the scrollback, where rich gives it its colours (none where NO_COLOR is set).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.utils import get_cwidth
from rich.console import Console
from rich.text import Text

from rplab.l10n import tr
from rplab.play.events import Delta, Heard, Notice, SessionEvent, Spoken, Translated

_RICH = {"narration": "dim italic", "dialogue": "bold", "ja": "cyan", "note": "yellow", "info": "dim"}
_MAX_LIVE_ROWS = 6
"""Rows of the live line; above them it moves into the scrollback row by row, so that the prompt always has its place."""


class TerminalScreen:
    """Shows a conversation above the prompt. Everything runs in the prompt's event loop."""

    def __init__(self, *, subtitles: bool = True, console: Console | None = None) -> None:
        """Start with nothing on the live line."""
        self.subtitles = subtitles
        self.speaking = ""
        """Japanese that is being spoken, for the status bar."""
        self.heard = 0.0
        """Share of it that was heard, 0..1."""
        self.writing = False
        """Whether a reply is being written."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when the prompt must be drawn again."""
        self.columns = 80
        """Width of the terminal in cells."""
        self._console = console
        self._live: list[tuple[str, str]] = []
        self._later: list[tuple[str, str]] = []

    def show(self, event: SessionEvent) -> None:
        """Show an event."""
        if isinstance(event, Delta):
            self.writing = True
            self._grow(event.kind, event.text)
        elif isinstance(event, Translated) and self.subtitles:
            self._line("ja", f"  {event.japanese}")
        elif isinstance(event, Spoken) and not self.speaking:
            self.speaking, self.heard = event.japanese, 0.0
        elif isinstance(event, Heard):
            self.speaking, self.heard = event.japanese, event.share
        elif isinstance(event, Notice):
            self._line("note", f"  {tr('알림', 'note')}: {event.message}")
        self.on_change()

    def end_text(self) -> None:
        """Move the live line into the scrollback, then what waited behind it."""
        self.writing = False
        if self._live:
            self._flush()
        later, self._later = self._later, []
        for style, text in later:
            self._line(style, text)

    def end_turn(self) -> None:
        """Nothing is spoken any more."""
        self.speaking, self.heard = "", 0.0
        self._print(Text())
        self.on_change()

    def info(self, text: str) -> None:
        """Show a message of the program."""
        self._line("info", text)

    def message(self) -> StyleAndTextTuples:
        """Return the prompt: the line that is being written, then the place to type."""
        live = wrap_cells(self._live, self.columns)
        return [*live, *([("", "\n")] if live else []), ("class:you", tr("나> ", "you> "))]

    def leave_prompt(self) -> None:
        """Enter was pressed: the prompt stays in the scrollback as it was drawn, with what the live line held by then."""
        self._live = []

    def _grow(self, style: str, text: str) -> None:
        first, *rest = text.split("\n")
        self._append(style, first)
        for line in rest:
            self._flush()
            self._append(style, line)

    def _append(self, style: str, text: str) -> None:
        self._live.append((style, text))
        while sum(get_cwidth(part) for _, part in self._live) > _MAX_LIVE_ROWS * self.columns:
            row, self._live = split_cells(self._live, self.columns)
            self._print(_styled(row))

    def _flush(self) -> None:
        live, self._live = self._live, []
        self._print(_styled(live))

    def _line(self, style: str, text: str) -> None:
        if self.writing:
            self._later.append((style, text))
        else:
            self._print(Text(text, style=_RICH[style]))

    def _print(self, text: Text) -> None:
        # made anew each time: patch_stdout has replaced sys.stdout since
        plain = bool(os.environ.get("NO_COLOR"))
        console = self._console or Console(file=sys.stdout, force_terminal=True, highlight=False, soft_wrap=True, no_color=plain or None)
        console.print(text)


def _styled(pieces: Sequence[tuple[str, str]]) -> Text:
    line = Text()
    for style, text in pieces:
        line.append(text, style=_RICH[style])
    return line


def split_cells(pieces: Sequence[tuple[str, str]], columns: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Cut styled text after at most `columns` cells (a Hangul syllable takes two)."""
    row: list[tuple[str, str]] = []
    used = 0
    for index, (style, text) in enumerate(pieces):
        for place, character in enumerate(text):
            cells = get_cwidth(character)
            if used + cells > columns:
                return [*row, (style, text[:place])], [(style, text[place:]), *pieces[index + 1 :]]
            used += cells
        row.append((style, text))
    return row, []


def wrap_cells(pieces: Sequence[tuple[str, str]], columns: int) -> StyleAndTextTuples:
    """Break styled text into lines of at most `columns` cells (a Hangul syllable takes two): a prompt's message does not wrap."""
    wrapped: StyleAndTextTuples = []
    used = 0
    for style, text in pieces:
        line = ""
        for character in text:
            cells = get_cwidth(character)
            if used + cells > columns:
                line += "\n"
                used = 0
            line += character
            used += cells
        wrapped.append((f"class:{style}", line))
    return wrapped
