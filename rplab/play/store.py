"""Conversations on disk: one append-only JSON-lines file a session.

    {"type": "session", "version": 1, "id": ..., "created": ..., "character": ...}
    {"type": "turn", "user": ..., "reply": ..., "replaces": false, "complete": true, "at": ...}
    {"type": "speech", "japanese": [...], "metrics": {...}, "notices": [...]}       belongs to the turn before it
    {"type": "undo", "at": ...}

Every line is flushed to the disk before the conversation goes on. A line that a crash tore in half is passed over at the
next start, and the file goes on after it. One process at a time writes to a session.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

from rplab.errors import ConfigError, StorageError
from rplab.jsonl import dumps, storage_error
from rplab.play.history import Exchange
from rplab.seeding import content_id

logger = logging.getLogger(__name__)

_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class SessionLog:
    """An open session file."""

    def __init__(self, path: Path, session_id: str) -> None:
        """Use `open_session`."""
        self.path = path
        self.session_id = session_id
        self.exchanges: list[Exchange] = []
        self.num_torn = 0
        """Lines that could not be read."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = path.open("a+b", buffering=0)
        except OSError as error:
            raise storage_error(error, path) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._handle.close()
            raise ConfigError(f"session {session_id} is open in another window. Close it there, or start another with --session") from None
        self._read()

    def append_turn(self, exchange: Exchange, *, replaces: bool, complete: bool) -> None:
        """Save an exchange. Raises StorageError when the disk refuses."""
        if replaces and self.exchanges:
            self.exchanges.pop()
        self.exchanges.append(exchange)
        self._append(
            {"type": "turn", "user": exchange.user, "reply": exchange.reply, "replaces": replaces, "complete": complete, "at": _now()}
        )

    def append_speech(self, japanese: list[str], metrics: dict[str, Any], notices: list[str]) -> None:
        """Save what became of the last turn's speech. Raises StorageError when the disk refuses."""
        self._append({"type": "speech", "japanese": japanese, "metrics": metrics, "notices": notices})

    def append_undo(self) -> None:
        """Save that the last exchange was taken back. Raises StorageError when the disk refuses."""
        if self.exchanges:
            self.exchanges.pop()
        self._append({"type": "undo", "at": _now()})

    def close(self) -> None:
        """Let the file go."""
        self._handle.close()

    def start(self, character: str) -> None:
        """Write the first line of a new session. Raises StorageError when the disk refuses."""
        if self._handle.seek(0, os.SEEK_END) == 0:
            self._append({"type": "session", "version": 1, "id": self.session_id, "created": _now(), "character": character})

    def _append(self, row: dict[str, Any]) -> None:
        try:
            end = self._handle.seek(0, os.SEEK_END)
            data = (dumps(row) + "\n").encode()
            if end and os.pread(self._handle.fileno(), 1, end - 1) != b"\n":
                data = b"\n" + data  # the last line was torn: leave it, start a new one
            written = self._handle.write(data)
            if written != len(data):
                raise StorageError(f"{self.path}: the disk is full. Free some space; the conversation goes on unsaved")
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise storage_error(error, self.path) from error

    def _read(self) -> None:
        self._handle.seek(0)
        for raw in self._handle.read().splitlines():
            try:
                row = json.loads(raw)
                self._apply(row)
            except (ValueError, KeyError, TypeError):
                self.num_torn += 1
        if self.num_torn:
            logger.warning("%s: %d lines could not be read and were passed over", self.path, self.num_torn)

    def _apply(self, row: dict[str, Any]) -> None:
        kind = row["type"]
        if kind == "turn":
            exchange = Exchange(str(row["user"]), str(row["reply"]))
            if row["replaces"] and self.exchanges:
                self.exchanges.pop()
            self.exchanges.append(exchange)
        elif kind == "undo" and self.exchanges:
            self.exchanges.pop()


def open_session(folder: Path, session_id: str | None, character: str) -> SessionLog:
    """Open a session by id, or start a new one.

    Args:
        folder: Where sessions lie.
        session_id: Id of a session to go on with (or to start under that name); None makes a new id.
        character: Name of the character, for the file's first line.

    Raises:
        ConfigError: The id is not made of letters, digits, - and _, or another process has the session open.
        StorageError: The folder cannot be written.
    """
    if session_id is None:
        session_id = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{content_id('s', os.getpid(), os.urandom(8).hex())[2:6]}"
    elif not _SESSION_ID.fullmatch(session_id):
        raise ConfigError(f"{session_id!r} is no session id: use up to 64 letters, digits, - and _, for example --session evening-1")
    log = SessionLog(folder / f"{session_id}.jsonl", session_id)
    log.start(character)
    return log


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
