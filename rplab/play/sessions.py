"""Saved conversations: their names, the list of them, and those of the time when they were JSON lines.

A session is `<store>/sessions/<id>.sqlite3` (`rplab.play.archive`). A session of an earlier version, `<id>.jsonl`, is
taken over when it is opened under its name; the old file stays as it is.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.errors import ConfigError, StorageError
from rplab.jsonl import dumps
from rplab.play.archive import Archive, Statement
from rplab.seeding import content_id

_SESSION_ID = re.compile(r"[\w][\w-]{0,63}")
_DAMAGED = ".damaged-"
_TURN = "INSERT INTO turn VALUES (?, ?, ?, ?, ?, NULL, 'drawn', ?)"


@dataclass(frozen=True)
class SessionEntry:
    """One line of the list."""

    session_id: str
    num_turns: int
    changed: float
    """Seconds since the epoch."""
    character: str = ""
    last: str = ""
    """What the player wrote last."""
    problem: str = ""
    """Why it cannot be read."""


def session_path(folder: Path, session_id: str | None) -> Path:
    """Return the file of a session; None makes a new id.

    Raises:
        ConfigError: The id could not be a file name everywhere.
    """
    if session_id is None:
        session_id = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{content_id('s', os.getpid(), os.urandom(8).hex())[2:6]}"
    elif not _SESSION_ID.fullmatch(session_id):
        raise ConfigError(f"{session_id!r} is no session id: use up to 64 letters, digits, - and _, for example --session evening-1")
    return folder / f"{session_id}.sqlite3"


def open_session(folder: Path, session_id: str | None, character: str) -> Archive:
    """Open a session by id, or start a new one.

    Args:
        folder: Where sessions lie.
        session_id: Id of a session to go on with (or to start under that name); None makes a new id.
        character: Name of the character, for the list.

    Raises:
        ConfigError: The id is wrong, another process has the session open, or a newer version wrote it.
        StorageError: The folder cannot be written.
    """
    path = session_path(folder, session_id)
    archive = Archive(path)
    try:
        if not dict(archive.rows("meta")).get("id"):
            old = path.with_suffix(".jsonl")
            rows = list(_carry_over(old)) if old.is_file() else []
            facts = {"id": path.stem, "character": character, "created": _now(), **({"imported": old.name} if rows else {})}
            archive.write(*rows, *(("INSERT OR REPLACE INTO meta VALUES (?, ?)", item) for item in facts.items()))
    except StorageError:
        pass  # kept in memory and told when the first turn is saved
    except BaseException:
        archive.close()
        raise
    return archive


def list_sessions(folder: Path) -> list[SessionEntry]:
    """Return all saved conversations, the latest first; one that cannot be read is listed with the reason."""
    entries = [_describe(path) for path in folder.glob("*.sqlite3") if _DAMAGED not in path.name]
    known = {entry.session_id for entry in entries}
    for path in folder.glob("*.jsonl"):
        if path.stem not in known:
            rows = [values for sql, values in _carry_over(path) if sql == _TURN]
            entries.append(SessionEntry(path.stem, len(rows), path.stat().st_mtime, last=rows[-1][2] if rows else ""))
    return sorted(entries, key=lambda entry: (-entry.changed, entry.session_id))


def _describe(path: Path) -> SessionEntry:
    changed = max(file.stat().st_mtime for file in (path, Path(f"{path}-wal")) if file.exists())
    try:
        # read only: a list must not change, lock or repair anything
        with contextlib.closing(
            sqlite3.connect(f"file:{path.as_posix().replace('?', '%3f')}?mode=ro", uri=True, timeout=1.0)
        ) as connection:
            turns: int = connection.execute("SELECT count(*) FROM turn").fetchone()[0]
            meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
            last = connection.execute("SELECT user FROM turn ORDER BY id DESC LIMIT 1").fetchone()
    except sqlite3.Error as error:
        return SessionEntry(path.stem, 0, changed, problem=str(error))
    return SessionEntry(path.stem, turns, changed, str(meta.get("character", "")), str(last[0]) if last else "")


def _carry_over(path: Path) -> Iterator[Statement]:
    """Turn a JSON-lines session into rows: replies that were replaced or taken back become branches; torn lines are passed over."""
    head, number = 0, 0
    parents: dict[int, int] = {}
    for row in _rows(path):
        kind = row.get("type")
        if kind == "turn" and isinstance(row.get("user"), str) and isinstance(row.get("reply"), str):
            number += 1
            parents[number] = parents.get(head, 0) if row.get("replaces") else head
            head = number
            complete = int(bool(row.get("complete", True)))
            yield _TURN, (number, parents[number], row["user"], row["reply"], complete, str(row.get("at", "")))
        elif kind == "undo":
            head = parents.get(head, 0)
        elif kind == "speech" and head:
            lines = [{"ko": "", "ja": str(text)} for text in row.get("japanese") or []]
            values = (head, dumps(lines), dumps(row.get("metrics") or {}), dumps(row.get("notices") or []))
            yield "INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?)", values
    yield "INSERT OR REPLACE INTO meta VALUES (?, ?)", ("head", str(head))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for raw in path.read_bytes().splitlines():
        try:
            row = json.loads(raw)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
