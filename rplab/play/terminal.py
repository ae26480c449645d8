"""The terminal: the reply streams above a prompt in which one can go on typing.

prompt_toolkit owns the prompt, so Hangul is composed at the real cursor. Typing, Enter or Esc while the character speaks
interrupts it; Ctrl-C stops the turn, a second one leaves. What is shown above is `rplab.play.terminal_screen`; nothing here
waits for the models, which load behind the prompt.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Awaitable, Generator, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style

from rplab.l10n import tr
from rplab.play.status_bar import describe_status
from rplab.play.terminal_screen import TerminalScreen, split_cells

if TYPE_CHECKING:
    from rplab.play.command import Command
    from rplab.play.conversation import Conversation

_STYLE = Style.from_dict(
    {
        "narration": "italic #888888",
        "dialogue": "bold",
        "you": "ansigreen bold",
        "bottom-toolbar": "noreverse #888888",
        "heard": "ansicyan",
        "warning": "ansiyellow",
    }
)
_SECOND_CTRL_C_S = 2.0
_ESCAPE_WAIT_S = 0.05
"""How long Esc waits for the rest of an escape sequence (an arrow key sends three bytes at once)."""
_QUIT = (["/quit"], ["/exit"], ["/끝"])


class _InterruptError(Exception):
    """Ctrl-C at the prompt; a KeyboardInterrupt inside a task would end the whole event loop."""


class CommandCompleter(Completer):
    """Completes slash commands and the words behind them."""

    def __init__(self) -> None:
        """Know nothing until the conversation is there."""
        self.commands: list[Command] = []

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """See `Completer`."""
        del complete_event
        text = document.text_before_cursor
        if not text.startswith("/"):
            return
        name, space, argument = text.partition(" ")
        for command in self.commands:
            if not space:
                names = (known for known in command.names if known.startswith(name.lower()))
                yield from (Completion(known, -len(name), display_meta=command.explanation) for known in names)
            elif name.lower() in command.names:
                yield from (Completion(word, -len(argument)) for word in command.choices if word.startswith(argument))


class Terminal:
    """Reads lines and hands them to the conversation, without ever waiting for it."""

    def __init__(
        self, screen: TerminalScreen, *, history: Path | None = None, given_input: Input | None = None, output: Output | None = None
    ) -> None:
        """Prepare the prompt.

        Args:
            screen: What is shown above it.
            history: File of the lines that were typed, for the arrow keys; None keeps them for this run only.
            given_input: Where keys come from; the terminal when None.
            output: Where it is drawn; the terminal when None.
        """
        self.screen = screen
        self._conversation: Conversation | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_ctrl_c = 0.0
        self._completer = CommandCompleter()
        self._prompt: PromptSession[str] = PromptSession(
            message=self._message,
            style=_STYLE,
            bottom_toolbar=self._toolbar,
            interrupt_exception=_InterruptError,
            completer=self._completer,
            complete_while_typing=False,
            history=_open_history(history),
            key_bindings=self._keys(),
            refresh_interval=0.25,
            input=given_input,
            output=output,
        )
        application: Any = self._prompt.app
        application.ttimeoutlen = _ESCAPE_WAIT_S
        self._prompt.default_buffer.on_text_insert += self._typed
        screen.on_change = application.invalidate
        self._output: Output = application.output

    async def run(self, loading: Awaitable[Conversation]) -> None:
        """Talk until the player leaves.

        Args:
            loading: Gives the conversation when the models are loaded; what it raises ends the terminal.
        """
        ready = asyncio.ensure_future(loading)
        with patch_stdout(raw=True), self._ctrl_c_as_signal():
            while not (self._conversation and self._conversation.ended):
                line = await self._read_line(ready)
                self.screen.leave_prompt()
                if line is None or line.split()[:1] in _QUIT:
                    break
                if line.strip() and not ready.done():
                    self.screen.info(tr("모델을 불러오는 대로 답합니다…", "the answer comes as soon as the models are loaded…"))
                self._start(self._handle(ready, line))
            if ready.done() and not ready.cancelled() and ready.exception() is None:
                await ready.result().session.stop()
            ready.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read_line(self, ready: asyncio.Future[Conversation]) -> str | None:
        """Return what was typed; None to leave. Raises what loading raised as soon as it did."""
        while True:
            typing = asyncio.ensure_future(self._prompt.prompt_async(handle_sigint=False))
            if not ready.done():
                await asyncio.wait({typing, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and (ready.cancelled() or ready.exception() is not None):
                typing.cancel()
                with contextlib.suppress(asyncio.CancelledError, EOFError, _InterruptError):
                    await typing
                ready.result()
            if ready.done() and self._conversation is None:
                self._conversation = ready.result()
                self._completer.commands = self._conversation.commands
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
        await self._stop()
        self.screen.info(tr("멈췄습니다. 끝내려면 Ctrl-C를 한 번 더 누르세요.", "stopped; press Ctrl-C again to leave"))
        self._last_ctrl_c = time.monotonic()  # stopping may have taken a while: the second one counts from these words
        return False

    @contextlib.contextmanager
    def _ctrl_c_as_signal(self) -> Generator[None]:
        """Let a Ctrl-C that comes as a signal (no prompt reads keys, or something is being printed) do what the key does.

        asyncio's own handler would cancel the terminal, and prompt_toolkit's loses a signal that comes while a prompt begins or ends.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def receive(number: int, frame: FrameType | None) -> None:
            del number, frame
            loop.call_soon_threadsafe(self._ctrl_c)

        before = signal.signal(signal.SIGINT, receive)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _ctrl_c(self) -> None:
        self._start(self._interrupt_or_leave())

    async def _interrupt_or_leave(self) -> None:
        self.screen.leave_prompt()
        if await self._interrupt():
            await self._leave()

    async def _leave(self) -> None:
        """End the prompt, also one that is only about to begin; `run` cancels this when it has ended."""
        application: Any = self._prompt.app
        while True:
            if application.is_running and not application.is_done:
                application.exit(result="/quit")
            await asyncio.sleep(0.05)

    async def _stop(self) -> None:
        if self._conversation is not None:
            await self._conversation.session.stop()

    async def _handle(self, ready: asyncio.Future[Conversation], line: str) -> None:
        conversation = await asyncio.shield(ready)
        await conversation.handle(line)
        if conversation.ended:
            await self._leave()

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _typed(self, _buffer: object) -> None:
        """Interrupt the speech at the first letter of an answer; a command lets it go on."""
        if self.screen.speaking and not self._prompt.default_buffer.text.startswith("/"):
            self._start(self._stop())

    def _keys(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add("escape", eager=True)
        def _(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction]
            """Stop text and sound; what is typed stays."""
            del event
            self._start(self._stop())

        return bindings

    def _message(self) -> StyleAndTextTuples:
        self.screen.columns = self._output.get_size().columns
        return self.screen.message()

    def _toolbar(self) -> StyleAndTextTuples:
        session = self._conversation.session if self._conversation is not None else None
        columns = self._output.get_size().columns
        status = describe_status(session, self.screen.speaking, self.screen.heard)
        shown, _ = split_cells([("", " "), *status], columns - 1)
        return list(shown)


def _open_history(path: Path | None) -> History:
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:  # a folder that cannot be written costs the arrow keys only
        return InMemoryHistory()
    return FileHistory(str(path))
