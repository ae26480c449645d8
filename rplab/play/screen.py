"""The conversation as plain lines, for pipes and logs: no colours, no cursor movement."""

from __future__ import annotations

from typing import TextIO

from rplab.l10n import tr
from rplab.play.events import Delta, Notice, SessionEvent, Translated


class PlainScreen:
    """Writes text as it comes; subtitles and notices wait for the end of the line that is being written."""

    def __init__(self, out: TextIO, *, subtitles: bool = True) -> None:
        """Write to `out`."""
        self.subtitles = subtitles
        self._out = out
        self._in_line = False
        self._writing = False
        self._later: list[str] = []

    def show(self, event: SessionEvent) -> None:
        """Show an event."""
        if isinstance(event, Delta):
            self._writing = True
            self._write(event.text)
        elif isinstance(event, Translated) and self.subtitles:
            self._line(f"  [ja] {event.japanese}")
        elif isinstance(event, Notice):
            self._line(f"  [{tr('알림', 'note')}] {event.message}")

    def end_text(self) -> None:
        """Close the line and show what waited."""
        self._writing = False
        if self._in_line:
            self._write("\n")
        later, self._later = self._later, []
        for line in later:
            self._line(line)

    def end_turn(self) -> None:
        """A blank line between turns."""
        self._write("\n")

    def info(self, text: str) -> None:
        """Show a message of the program."""
        self._line(text)

    def _line(self, text: str) -> None:
        if self._writing:
            self._later.append(text)
        else:
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        self._in_line = not text.endswith("\n")
