"""The terminal: the reply streams above a prompt in which one can go on typing.

prompt_toolkit owns the prompt; the line that is being written is part of the prompt's message, so that it can grow by single
characters, and moves into the scrollback when it is complete (rich adds the colours). Typing Enter while the character
speaks interrupts it. Ctrl-C stops the turn, a second one leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth
from rich.console import Console
from rich.text import Text

from rplab.l10n import tr
from rplab.play.conversation import Conversation
from rplab.play.events import Delta, Notice, SessionEvent, Spoken, Translated

_STYLE = Style.from_dict(
    {"narration": "italic #888888", "dialogue": "bold", "you": "ansigreen bold", "bottom-toolbar": "noreverse #888888"}
)
_RICH = {"narration": "dim italic", "dialogue": "bold", "ja": "cyan", "note": "yellow", "info": "dim"}
_SECOND_CTRL_C_S = 2.0


class _InterruptError(Exception):
    """Ctrl-C at the prompt; a KeyboardInterrupt inside a task would end the whole event loop."""


class TerminalScreen:
    """Shows a conversation above the prompt. Everything runs in the prompt's event loop."""

    def __init__(self, *, subtitles: bool = True, console: Console | None = None) -> None:
        """Start with nothing on the live line."""
        self.subtitles = subtitles
        self.speaking = ""
        """Japanese that is being spoken, for the status bar."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when the prompt must be drawn again."""
        self.columns = 80
        """Width of the terminal in cells."""
        self._console = console
        self._live: list[tuple[str, str]] = []
        self._later: list[tuple[str, str]] = []
        self._writing = False

    def show(self, event: SessionEvent) -> None:
        """Show an event."""
        if isinstance(event, Delta):
            self._writing = True
            self._grow(event.kind, event.text)
        elif isinstance(event, Translated) and self.subtitles:
            self._line("ja", f"  {event.japanese}")
        elif isinstance(event, Spoken):
            self.speaking = event.japanese
        elif isinstance(event, Notice):
            self._line("note", f"  {tr('알림', 'note')}: {event.message}")
        self.on_change()

    def end_text(self) -> None:
        """Move the live line into the scrollback, then what waited behind it."""
        self._writing = False
        if self._live:
            self._flush()
        later, self._later = self._later, []
        for style, text in later:
            self._line(style, text)

    def end_turn(self) -> None:
        """Nothing is spoken any more."""
        self.speaking = ""
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
        self._live.append((style, first))
        for line in rest:
            self._flush()
            self._live.append((style, line))

    def _flush(self) -> None:
        line = Text()
        for style, text in self._live:
            line.append(text, style=_RICH[style])
        self._live = []
        self._print(line)

    def _line(self, style: str, text: str) -> None:
        if self._writing:
            self._later.append((style, text))
        else:
            self._print(Text(text, style=_RICH[style]))

    def _print(self, text: Text) -> None:
        # made anew each time: patch_stdout has replaced sys.stdout since
        console = self._console or Console(file=sys.stdout, force_terminal=True, highlight=False, soft_wrap=True)
        console.print(text)


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


class Terminal:
    """Reads lines and hands them to the conversation, without ever waiting for it."""

    def __init__(self, screen: TerminalScreen, *, given_input: Input | None = None, output: Output | None = None) -> None:
        """Prepare the prompt.

        Args:
            screen: What is shown above it.
            given_input: Where keys come from; the terminal when None.
            output: Where it is drawn; the terminal when None.
        """
        self.screen = screen
        self.status = ""
        """Left part of the status bar while there is no turn."""
        self._conversation: Conversation | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_ctrl_c = 0.0
        self._prompt: PromptSession[str] = PromptSession(
            message=self._message,
            style=_STYLE,
            bottom_toolbar=self._toolbar,
            interrupt_exception=_InterruptError,
            input=given_input,
            output=output,
        )
        application: Any = self._prompt.app
        screen.on_change = application.invalidate
        self._output: Output = application.output

    async def run(self, loading: Awaitable[Conversation]) -> None:
        """Talk until the player leaves.

        Args:
            loading: Gives the conversation when the models are loaded; what it raises ends the terminal.
        """
        ready = asyncio.ensure_future(loading)
        with patch_stdout(raw=True):
            while not (self._conversation and self._conversation.ended):
                line = await self._read_line(ready)
                self.screen.leave_prompt()
                if line is None:
                    break
                if line.split()[:1] in (["/quit"], ["/exit"], ["/끝"]):
                    break
                if line.strip() and not ready.done():
                    self.screen.info(tr("모델을 불러오는 대로 답합니다…", "the answer comes as soon as the models are loaded…"))
                task = asyncio.create_task(self._handle(ready, line))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if ready.done() and not ready.cancelled() and ready.exception() is None:
                await ready.result().session.stop()
            ready.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read_line(self, ready: asyncio.Future[Conversation]) -> str | None:
        """Return what was typed; None to leave. Raises what loading raised as soon as it did."""
        while True:
            typing = asyncio.ensure_future(self._prompt.prompt_async())
            if not ready.done():
                await asyncio.wait({typing, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and (ready.cancelled() or ready.exception() is not None):
                typing.cancel()
                with contextlib.suppress(asyncio.CancelledError, EOFError, _InterruptError):
                    await typing
                ready.result()
            if ready.done():
                self._conversation = ready.result()
            try:
                return await typing
            except EOFError:
                return None
            except _InterruptError:
                self.screen.leave_prompt()
                if await self._interrupt():
                    return None

    async def _interrupt(self) -> bool:
        """Stop the turn; True when Ctrl-C came twice."""
        now = time.monotonic()
        if now - self._last_ctrl_c < _SECOND_CTRL_C_S:
            return True
        self._last_ctrl_c = now
        if self._conversation is not None:
            await self._conversation.session.stop()
        self.screen.info(tr("멈췄습니다. 끝내려면 Ctrl-C를 한 번 더 누르세요.", "stopped; press Ctrl-C again to leave"))
        return False

    async def _handle(self, ready: asyncio.Future[Conversation], line: str) -> None:
        conversation = await asyncio.shield(ready)
        await conversation.handle(line)

    def _message(self) -> StyleAndTextTuples:
        self.screen.columns = self._output.get_size().columns
        return self.screen.message()

    def _toolbar(self) -> str:
        conversation = self._conversation
        if conversation is None:
            return " " + tr("모델을 불러오는 중…", "loading the models…")
        parts = [self.status]
        if conversation.session.metrics:
            metrics = conversation.session.metrics[-1]
            numbers = (
                (tr("첫 글자", "text"), metrics.ttft_s, "s"),
                (tr("첫 소리", "sound"), metrics.ttfa_s, "s"),
                ("", metrics.pieces_per_s, "tok/s"),
            )
            parts += [f"{name} {value:.2f} {unit}".strip() for name, value, unit in numbers if value is not None]
        if self.screen.speaking:
            parts.append(f"♪ {self.screen.speaking}")
        return " " + " · ".join(part for part in parts if part)
