"""What a line that somebody typed does: a message to the character, or a command that starts with `/`.

Shared by the terminal, the line mode and scripts; all of them only read lines and show what comes back.

To add a command: write a function in the `commands_` module of its subject and add it to that module's table.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rplab.character import Card
from rplab.errors import BackendError, LabError
from rplab.l10n import tr
from rplab.play import commands_show, commands_sound, commands_story, commands_world
from rplab.play.command import Command
from rplab.play.embeddings import Embedder
from rplab.play.events import SessionEvent
from rplab.play.remember import Remembering
from rplab.play.session import PlaySession, Scene
from rplab.play.timeline import Timeline
from rplab.play.turn import Turn

logger = logging.getLogger(__name__)


class Screen(Protocol):
    """Where a conversation is shown."""

    subtitles: bool
    """Whether the Japanese is shown."""

    def show(self, event: SessionEvent) -> None:
        """Show an event of the session at once."""
        ...

    def end_text(self) -> None:
        """The reply's text is complete."""
        ...

    def end_turn(self) -> None:
        """Nothing more comes from this turn."""
        ...

    def info(self, text: str) -> None:
        """Show a message of the program."""
        ...


@dataclass(frozen=True)
class Opened:
    """A conversation with what belongs to it."""

    card: Card
    scene: Scene
    timeline: Timeline


class Host(Protocol):
    """Opens other conversations and cards for the running one."""

    @property
    def sessions(self) -> Path:
        """Folder of the saved conversations."""
        ...

    def open(self, session_id: str | None, card: str | None) -> Opened:
        """Open a saved conversation (or start one under this name; None: a new name), with another card when one is named."""
        ...


class Conversation:
    """A session behind a screen."""

    def __init__(self, session: PlaySession, opened: Opened, screen: Screen, host: Host | None = None) -> None:
        """Join them; `host` None leaves out what opens other conversations."""
        self.session = session
        self.screen = screen
        self.host = host
        self.ended = False
        self.commands: list[Command] = [
            *commands_story.commands(),
            *commands_world.commands(),
            *commands_sound.commands(),
            *commands_show.commands(),
        ]
        self.adopt(opened)

    def adopt(self, opened: Opened) -> None:
        """Go on with another conversation; the caller has stopped and closed the one before."""
        self.card = opened.card
        self.timeline = opened.timeline
        self.session.scene, self.session.chronicle = opened.scene, opened.timeline
        settings = self.timeline.prompter.world.config.embeddings
        self._embedder = Embedder(settings, self.timeline.archive) if settings is not None else None
        self.remembering = Remembering(self.session, self.timeline, self._embedder)
        self.session.afterwards = self.remembering

    async def handle(self, line: str) -> Turn | None:
        """Do what a line says; returns when its turn was spoken, or was interrupted by another."""
        line = line.strip()
        if not line:
            await self.session.stop()
            return None
        if not line.startswith("/"):
            return await self.say(line)
        name, _, argument = line.partition(" ")
        command = self.find(name)
        if command is None:
            self.screen.info(self._unknown(name))
            return None
        before = self.session.last
        try:
            await command.run(self, argument.strip())
        except LabError as error:
            self.screen.info(str(error))
        return self.session.last if self.session.last is not before else None

    async def say(self, text: str) -> Turn | None:
        """Send a message to the character."""
        await self.session.stop()
        await self._embed_query(text)
        return await self.show_turn(self.session.say(text, self.screen.show))

    def find(self, name: str) -> Command | None:
        """Return a command by one of its names."""
        return next((command for command in self.commands if name.lower() in command.names), None)

    async def show_turn(self, turn: Awaitable[Turn | None]) -> Turn | None:
        """Wait until a turn was written and spoken."""
        written = await turn
        self.screen.end_text()
        if written is not None:
            await self.session.finish(written)
        self.screen.end_turn()
        return written

    def _unknown(self, name: str) -> str:
        names = [known for command in self.commands for known in command.names]
        close = difflib.get_close_matches(name.lower(), names, 1)
        hint = tr(f" {close[0]} 말인가요?", f" Did you mean {close[0]}?") if close else ""
        return tr(f"모르는 명령입니다: {name}.{hint} (/도움말)", f"no such command: {name}.{hint} (see /help)")

    async def _embed_query(self, text: str) -> None:
        """Ask for the embedding of the message, for as long as the player may be kept waiting for it."""
        if self._embedder is None:
            return
        self.timeline.prompter.query_vector = None
        try:
            self.timeline.prompter.query_vector = await asyncio.to_thread(self._embedder.embed_query, text)
        except BackendError as error:
            logger.info("memories are found by words alone: %s", error)
