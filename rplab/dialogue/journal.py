"""Write-ahead journal of a generation run: every answer is on file before anything is made from it.

One line per answer: eight hex digits of CRC-32, a space, JSON. The file only ever grows. After a SIGKILL at any moment
it holds every answer that was used; what may be missing is what was in flight. On opening, a torn last line is cut
off, and a line whose checksum does not fit is dropped with a warning: that one question is asked again.

Appends reach the operating system at once (so they survive the death of the process); `sync` brings them to the disk
and is called at least every half second while a run is on (so at most that is lost when the machine dies).
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from rplab.backend.base import ChatRequest, ChatResult, Usage
from rplab.errors import StorageError
from rplab.jsonl import storage_error

logger = logging.getLogger(__name__)

SYNC_INTERVAL_S = 0.5


def request_hash(request: ChatRequest, backend_name: str) -> str:
    """Return the content hash of a request: same question to the same backend, same hash."""
    identity = [request.key, request.messages, request.sampling, request.seed, request.schema, backend_name]
    return hashlib.blake2b(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


class Journal:
    """Answers by request hash, kept in memory and in an append-only file."""

    def __init__(self, path: Path) -> None:
        """Open or create the journal and read what it holds.

        Args:
            path: The file; its folder is made when needed.

        Raises:
            StorageError: Not writable, or another process is at work with it.
        """
        self._path = path
        self._entries: dict[str, ChatResult] = {}
        self._dirty = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise storage_error(error, path) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise StorageError(f"{path}: another process is writing this output. Wait until it is done, then run again") from None
        self._replay()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> ChatResult | None:
        """Return the answer recorded under a request hash, or None."""
        return self._entries.get(key)

    def keys(self) -> Iterator[str]:
        """Yield the request hashes of all answers."""
        return iter(self._entries)

    def results(self) -> Iterator[ChatResult]:
        """Yield all recorded answers."""
        return iter(self._entries.values())

    def entry(self, key: str) -> dict[str, Any]:
        """Return a recorded answer as JSON; `read_result` reads it back."""
        return asdict(self._entries[key])

    def recall(self, key: str, result: ChatResult) -> bool:
        """Take an answer that is on file elsewhere; return whether it was new."""
        if key in self._entries:
            return False
        self._entries[key] = result
        return True

    def usages(self) -> Iterator[Usage]:
        """Yield what every recorded answer used."""
        return (result.usage for result in self._entries.values())

    def put(self, key: str, result: ChatResult) -> None:
        """Append an answer; it has left the process when this returns.

        Raises:
            StorageError: The disk is full or gone; what was recorded before is kept.
        """
        body = orjson.dumps([key, result])
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._entries[key] = result
        self._dirty = True

    def sync(self) -> None:
        """Bring what was appended to the disk."""
        if not self._dirty:
            return
        self._dirty = False
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._dirty = True
            raise storage_error(error, self._path) from error

    def close(self) -> None:
        """Sync and close; the lock goes with it."""
        if self._descriptor < 0:
            return
        try:
            self.sync()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def _replay(self) -> None:
        with self._path.open("rb") as handle:
            data = handle.read()
        complete = data.rfind(b"\n") + 1
        if complete < len(data):
            logger.warning("%s: cut off a torn last line (%d bytes); that request is asked again", self._path, len(data) - complete)
            os.ftruncate(self._descriptor, complete)
        for number, line in _lines(data[:complete]):
            entry = _decode(line)
            if entry is None:
                logger.warning("%s:%d: damaged (checksum or layout); the entry is dropped and its request asked again", self._path, number)
                continue
            self._entries[entry[0]] = entry[1]
        if self._entries:
            logger.info("%s: %d answers found from an earlier run", self._path, len(self._entries))


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line:
            yield number, line


def _decode(line: bytes) -> tuple[str, ChatResult] | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        key, fields = orjson.loads(body)
        return key, read_result(fields)
    except (ValueError, TypeError, KeyError):  # a whole line of another layout: made by another version of this file
        return None


def read_result(fields: dict[str, Any]) -> ChatResult:
    """Read an answer from its JSON.

    Raises:
        KeyError, TypeError: It is no answer.
    """
    usage = Usage(**fields.pop("usage"))
    return ChatResult(**fields, usage=usage)
