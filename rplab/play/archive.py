"""A conversation on disk: one SQLite file a session, and what keeps it whole.

Writes are queued and made in one transaction. When the disk refuses (full, gone read-only) the queue is kept, the caller
is told once, and every later write tries the whole queue again: nothing of the conversation is lost while the process
lives. WAL with `synchronous=NORMAL`: a killed process loses nothing that was written; a power cut may cost the turns since
the last `checkpoint`, never the file.

A damaged file is set aside under a name that says so, what can be read moves into a new one, and play goes on.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any, TypeAlias

from rplab.errors import ConfigError, StorageError
from rplab.jsonl import storage_error

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
Statement: TypeAlias = tuple[str, tuple[Any, ...]]

TABLES: dict[str, str] = {
    "meta": "key TEXT PRIMARY KEY, value TEXT NOT NULL",
    "turn": "id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, user TEXT NOT NULL, reply TEXT NOT NULL, complete INTEGER NOT NULL, "
    "heard TEXT, origin TEXT NOT NULL, at TEXT NOT NULL",
    "outcome": "turn INTEGER PRIMARY KEY, lines TEXT NOT NULL, metrics TEXT NOT NULL, notices TEXT NOT NULL",
    "place": "name TEXT PRIMARY KEY, turn INTEGER NOT NULL",
    "memory": "id INTEGER PRIMARY KEY, turn INTEGER NOT NULL, event TEXT NOT NULL",
    "summary": "turn INTEGER PRIMARY KEY, text TEXT NOT NULL",
    "vector": "digest TEXT PRIMARY KEY, data BLOB NOT NULL",
}
"""Columns; `outcome`, `memory` and `summary` belong to the turn they name, so that a branch sees what its own turns left."""


class Archive:
    """An open session file."""

    def __init__(self, path: Path) -> None:
        """Use `open_archive`."""
        self.path = path
        self.salvaged: Path | None = None
        """Where a damaged file was set aside."""
        self._pending: list[Statement] = []
        self._told = False
        self._lock = threading.Lock()
        self._guard = _lock_file(path)
        try:
            self._connection = _connect(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                self._guard.close()
                raise _storage_error(error, path) from error
            self._connection = self._salvage(error)
        except ConfigError:
            self._guard.close()
            raise

    @property
    def num_pending(self) -> int:
        """Writes that the disk has not taken yet."""
        return len(self._pending)

    def write(self, *statements: Statement) -> None:
        """Save; what could not be saved before is tried again first.

        Raises:
            StorageError: The disk refuses; raised once an outage. The writes are kept and tried again with the next.
        """
        with self._lock:
            self._pending.extend(statements)
            try:
                with self._connection:  # one transaction: all or nothing
                    for sql, values in self._pending:
                        self._connection.execute(sql, values)
            except sqlite3.Error as error:
                if not self._told:
                    self._told = True
                    raise _storage_error(error, self.path) from error
                logger.info("%s: still not saved: %s", self.path, error)
                return
            self._pending.clear()
            self._told = False

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """Return all rows of one of `TABLES`, in the order of their key."""
        with self._lock:
            return self._connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()

    def checkpoint(self) -> None:
        """Bring everything safely to the disk (two fsyncs); for moments in which nobody waits."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def copy_to(self, path: Path, session_id: str) -> None:
        """Write a copy under another name.

        Raises:
            StorageError: It could not be written; nothing is left behind.
        """
        part = path.with_suffix(".part")
        try:
            with self._lock, contextlib.closing(sqlite3.connect(part)) as copy:
                self._connection.backup(copy)
                copy.execute("INSERT OR REPLACE INTO meta VALUES ('id', ?)", (session_id,))
                copy.commit()
            os.replace(part, path)
        except (sqlite3.Error, OSError) as error:
            part.unlink(missing_ok=True)
            raise _storage_error(error, path) from error

    def close(self) -> None:
        """Let the file go, after a last try to save what waits. Calling it twice is fine."""
        if self._guard.closed:
            return
        with contextlib.suppress(StorageError):
            if self._pending:
                self.write()
        if self._pending:
            logger.warning("%s: %d writes were never saved", self.path, len(self._pending))
        self._connection.close()
        self._guard.close()

    def _salvage(self, damage: sqlite3.DatabaseError) -> sqlite3.Connection:
        """Set a damaged file aside and carry what can be read into a new one."""
        aside = self.path.with_name(f"{self.path.stem}.damaged-{datetime.datetime.now():%Y%m%d-%H%M%S}.sqlite3")
        rows = read_what_is_left(self.path)
        try:
            os.replace(self.path, aside)
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
            connection = _connect(self.path)
            with connection:
                for table, found in rows.items():
                    for row in found:
                        marks = ",".join("?" * len(row))
                        connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
        except (OSError, sqlite3.Error) as error:
            self._guard.close()
            raise _storage_error(error, self.path) from error
        self.salvaged = aside
        logger.warning("%s was damaged (%s); set aside as %s, %d turns could be read", self.path, damage, aside, len(rows["turn"]))
        return connection


def read_what_is_left(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Read every table of a damaged file from both ends, up to the place where it cannot be read."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.text_factory = _decode
        for table in TABLES:
            rows: dict[Any, tuple[Any, ...]] = {}
            for order in ("ASC", "DESC"):
                with contextlib.suppress(sqlite3.Error):
                    for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1 {order}"):
                        rows[row[0]] = row
            found[table] = [row for row in rows.values() if None not in row[:2]]
    return found


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _connect(path: Path) -> sqlite3.Connection:
    """Open, check and prepare a file.

    Raises:
        sqlite3.DatabaseError: It is damaged or no database.
        ConfigError: A newer version of this program wrote it.
    """
    # used by the event loop's thread and, after the audio, by the one that remembers: `Archive` takes turns with a lock
    connection = sqlite3.connect(path, timeout=2.0, check_same_thread=False)
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise ConfigError(f"{path} was written by a newer version of rplab. Update rplab, or start another session with --session")
        if (verdict := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(verdict)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        with connection:
            for table, columns in TABLES.items():
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_damage(error: sqlite3.OperationalError) -> bool:
    return any(word in str(error) for word in ("malformed", "not a database", "disk image"))


def _lock_file(path: Path) -> Any:
    """Take the session for this process; the system gives it back when the process ends, however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = path.with_suffix(".lock").open("ab")
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        guard.close()
        raise ConfigError(f"session {path.stem} is open in another window. Close it there, or start another with --session") from None
    return guard


def _storage_error(error: BaseException, path: Path) -> StorageError:
    if isinstance(error, OSError):
        return storage_error(error, path)
    what = "the disk is full" if "full" in str(error) else str(error)
    return StorageError(f"{path}: {what}. Free some space; the conversation goes on and is saved as soon as that works")
