"""Frames: how a voice worker and its client speak over a pair of pipes.

    4 bytes "RPV1" | header length (u32, little endian) | payload length (u32) | header: JSON object, UTF-8 | payload: samples

The lengths are bounded, so a reader that meets garbage knows it at once: it never waits for four gigabytes that will not
come. A frame that breaks the rules is a `FrameError`; the stream cannot be trusted after it and the process is replaced.

Messages (client -> worker): hello, synth, credit, cancel, ping, stats, shutdown; (worker -> client): ready, chunk, done,
error, pong, stats. `rplab.tts.worker` documents them. Same idea as the Wyoming protocol; binary lengths in place of a line.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROTOCOL = 1
"""Raised when a message changes its meaning; both sides must agree."""
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
_MAGIC = b"RPV1"
_PREFIX = struct.Struct("<4sII")
_READ_BYTES = 1 << 16


class FrameError(Exception):
    """The bytes are no frame."""


class FrameTimeoutError(Exception):
    """Nothing complete came, or nothing could be written, in time."""


@dataclass(frozen=True)
class Frame:
    """One message."""

    header: Mapping[str, Any]
    """Has at least `type`."""
    payload: bytes = field(default=b"", repr=False)

    @property
    def type(self) -> str:
        """Which message it is."""
        return str(self.header.get("type", ""))


def encode(header: Mapping[str, Any], payload: bytes | memoryview = b"") -> bytes:
    """Return the bytes of a frame.

    Raises:
        FrameError: It is larger than a reader takes.
    """
    body = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    if len(body) > MAX_HEADER_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a frame of {len(body)} + {len(payload)} bytes is too large")
    return b"".join((_PREFIX.pack(_MAGIC, len(body), len(payload)), body, payload))


class FrameBuffer:
    """Takes bytes as they come and gives back whole frames."""

    def __init__(self) -> None:
        """Start empty."""
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._data += data

    def next(self) -> Frame | None:
        """Return the next frame, None when it is not complete yet.

        Raises:
            FrameError: The bytes are no frame.
        """
        if len(self._data) < _PREFIX.size:
            if not _MAGIC.startswith(self._data[: len(_MAGIC)]):
                raise FrameError(f"garbage in place of a frame: {bytes(self._data[:16])!r}")
            return None
        magic, header_size, payload_size = _PREFIX.unpack_from(self._data)
        if magic != _MAGIC:
            raise FrameError(f"garbage in place of a frame: {bytes(self._data[:16])!r}")
        if header_size > MAX_HEADER_BYTES or payload_size > MAX_PAYLOAD_BYTES:
            raise FrameError(f"an oversized frame of {header_size} + {payload_size} bytes")
        start, end = _PREFIX.size, _PREFIX.size + header_size + payload_size
        if len(self._data) < end:
            return None
        try:
            header = json.loads(self._data[start : start + header_size])
        except ValueError as error:
            raise FrameError(f"a header that is no JSON ({error})") from None
        if not isinstance(header, dict) or "type" not in header:
            raise FrameError("a header that is no object with a type")
        payload = bytes(self._data[start + header_size : end])
        del self._data[:end]
        return Frame(header, payload)


class FrameReader:
    """Reads frames from a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Read from `descriptor`, which stays the caller's."""
        self._descriptor = descriptor
        self._buffer = FrameBuffer()

    def read(self, timeout_s: float | None = None) -> Frame | None:
        """Return the next frame, None at the end of the stream.

        Args:
            timeout_s: Longest wait; None waits for ever.

        Raises:
            FrameTimeoutError: Nothing complete came in time; what came is kept for the next call.
            FrameError: The bytes are no frame.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if (frame := self._buffer.next()) is not None:
                return frame
            if not _wait(self._descriptor, select.POLLIN, deadline):
                raise FrameTimeoutError
            try:
                data = os.read(self._descriptor, _READ_BYTES)
            except OSError:
                return None
            if not data:
                return None
            self._buffer.feed(data)


def write_all(descriptor: int, data: bytes, timeout_s: float | None = None) -> None:
    """Write every byte; give the descriptor in non-blocking mode when there is a time limit.

    Raises:
        FrameTimeoutError: The reader did not take it in time.
        OSError: The reader is gone.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            if not _wait(descriptor, select.POLLOUT, deadline):
                raise FrameTimeoutError from None


def _wait(descriptor: int, event: int, deadline: float | None) -> bool:
    """Wait until a descriptor is ready; poll, not select, which fails above descriptor 1023."""
    poll = select.poll()
    poll.register(descriptor, event)
    remaining_ms = None if deadline is None else max(0.0, (deadline - time.monotonic()) * 1000)
    return bool(poll.poll(remaining_ms))
