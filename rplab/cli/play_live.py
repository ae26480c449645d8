"""`rplab play` with somebody at the keyboard: a terminal with a live prompt, or plain lines.

Light at the top: the prompt is there before anything heavy is imported.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.cli.play_session import Loaded
    from rplab.play.config import PlayConfig
    from rplab.play.conversation import Conversation
    from rplab.play.published import Published
    from rplab.play.session import PlaySession


async def play_lines(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> int:
    """Line mode: read a line, answer it, speak it, read the next."""
    from rplab.cli.play_session import load_session
    from rplab.play.conversation import Conversation
    from rplab.play.screen import PlainScreen

    screen = PlainScreen(sys.stdout)
    loaded = load_session(arguments, published, config)
    conversation = Conversation(loaded.session, loaded.opened, screen, loaded.host)
    _greet(conversation, loaded.notes)
    loop = asyncio.get_running_loop()
    try:
        while not conversation.ended:
            sys.stdout.write(tr("나> ", "you> "))
            sys.stdout.flush()
            line = (await loop.run_in_executor(None, sys.stdin.buffer.readline)).decode("utf-8", "replace")
            if not line:
                await loaded.session.rest()
                break
            if not sys.stdin.isatty():
                screen.info(line.rstrip("\n"))  # a pipe does not echo
            if line.strip():
                await conversation.handle(line)
    finally:
        await loaded.session.aclose()
    screen.info("")
    return 0


async def play_terminal(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> int:
    """A live prompt at once; the models load behind it."""
    from rplab.play.terminal import Terminal
    from rplab.play.terminal_screen import TerminalScreen
    from rplab.play.threads import Threads

    screen, threads = TerminalScreen(), Threads()
    terminal = Terminal(screen, history=arguments.store / "sessions" / ".typed")
    opened: list[PlaySession] = []

    async def load() -> Conversation:
        loaded = await threads.call("load", _load, arguments, published, config, timeout_s=3600.0)
        from rplab.play.conversation import Conversation

        opened.append(loaded.session)
        conversation = Conversation(loaded.session, loaded.opened, screen, loaded.host)
        _greet(conversation, loaded.notes)
        return conversation

    screen.info(tr(f"{published.card.name} · /도움말 로 명령을 볼 수 있습니다.", f"{published.card.name} · /help lists the commands"))
    with _stderr_in(arguments.store / "sessions" / ".stderr.log"):
        try:
            await terminal.run(load())
        finally:
            threads.close()
            for session in opened:
                await session.aclose()
    return 0


@contextlib.contextmanager
def _stderr_in(path: Path) -> Generator[None]:
    """Send what libraries write to the standard error (ALSA does at every underrun) into a file: it would tear the screen."""
    log = os.open(_log_file(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(log, 2)
        os.close(log)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _log_file(path: Path) -> Path:
    """Return the file, or nowhere when its folder cannot be written."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path
    return Path(os.devnull)


def _load(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> Loaded:
    from rplab.cli.play_session import load_session

    return load_session(arguments, published, config)


def _greet(conversation: Conversation, notes: list[str]) -> None:
    """Say what is used, then what was said last, or the character's greeting."""
    from rplab.play.command import describe_place

    for note in notes:
        conversation.screen.info(note)
    place = describe_place(conversation.timeline.tree.path(), conversation.session.scene.greeting)
    conversation.screen.info(place)
