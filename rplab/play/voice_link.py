"""One life of the voice worker: start the process, exchange frames, see that it ends.

The pipes for frames are its own; standard output and error are drained into a short memory, so that a library that prints
garbage can neither disturb the frames nor fill a disk, and a worker that dies can still be quoted. The thread that drains
starts the process and waits for it: the kernel kills a worker whose starting thread ends, and this one lives as long as it.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.errors import AudioError
from rplab.tts.config import VoiceConfig
from rplab.tts.frames import PROTOCOL, Frame, FrameError, FrameReader, FrameTimeoutError, encode, write_all

COMMAND = (sys.executable, "-m", "rplab.tts.worker")
_LOG_LINES = 20
_LINE_BYTES = 4096
_POLL_S = 0.05
_PING_S = 1.0
_STARVED_FACTOR = 4.0
"""So much longer may a worker be silent that gets no processor."""


class WorkerFault(Exception):  # noqa: N818 - a fault of the process, not of a request
    """The process is gone, silent, or talks nonsense: it has to be replaced."""


@dataclass(frozen=True)
class WorkerLimits:
    """How long the client waits, seconds."""

    start_s: float = 120.0
    """From the start of the process until its voices are warm."""
    silence_s: float = 5.0
    """Without any frame, pings included, before the process counts as stalled."""
    answer_s: float = 10.0
    """For a piece of sound, plus `answer_factor` times the length that the text should have."""
    answer_factor: float = 4.0
    max_restarts: int = 3
    """Within `window_s`; then speech is given up until the window has passed."""
    window_s: float = 60.0
    backoff_s: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    """Waits before the first, second, ... restart within the window."""


class WorkerLink:
    """A running worker."""

    def __init__(self, voices: Mapping[str, VoiceConfig], limits: WorkerLimits, command: Sequence[str] = COMMAND) -> None:
        """Start a worker and wait until its voices are warm.

        Raises:
            AudioError: It says why it cannot speak (a missing model, another protocol).
            WorkerFault: It died, hung or talked nonsense.
        """
        self._limits = limits
        self._lines: collections.deque[bytes] = collections.deque(maxlen=_LOG_LINES)
        self._ids = itertools.count(1)
        self._write_lock = threading.Lock()
        self._last_frame = time.monotonic()
        self._last_ping = self._last_frame
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        request_read, self._write_fd = os.pipe()
        self._read_fd, answer_write = os.pipe()
        os.set_blocking(self._write_fd, False)
        started = threading.Event()
        failure: list[OSError] = []
        arguments = [*command, "--in", str(request_read), "--out", str(answer_write), "--parent", str(os.getpid())]

        def own() -> None:
            try:
                process = self._process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(request_read, answer_write),
                    start_new_session=True,  # Ctrl-C in the terminal is not for it, and its whole group can be ended
                )
            except OSError as error:
                failure.append(error)
                return
            finally:
                os.close(request_read)
                os.close(answer_write)
                started.set()
            self._drain(process)

        self._owner = threading.Thread(target=own, daemon=True, name="voice-worker")
        self._owner.start()
        started.wait()
        self._reader = FrameReader(self._read_fd)
        if failure:
            self.close()
            raise AudioError(f"the voice process cannot be started ({failure[0]}). Check that {command[0]} exists")
        try:
            self.ready = self._greet(voices)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid if self._process is not None else 0

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return not self._closed and self._process is not None and self._process.poll() is None

    def next_id(self) -> int:
        """Return the id of a new request."""
        return next(self._ids)

    def send(self, header: Mapping[str, Any]) -> None:
        """Send a message. Raises WorkerFault when the worker does not take it; from any thread."""
        with self._write_lock:
            if self._closed:
                raise WorkerFault("it is closed")
            try:
                write_all(self._write_fd, encode(header), self._limits.silence_s)
            except FrameTimeoutError:
                raise WorkerFault(f"it took no request for {self._limits.silence_s:g} s") from None
            except OSError:
                raise WorkerFault(self._obituary()) from None

    def receive(self, deadline: float, abandoned: Callable[[], bool] = lambda: False) -> Frame | None:
        """Return the next message that is not a pong; None when `abandoned()` turned true.

        Args:
            deadline: On the monotonic clock: by then a message must have come.
            abandoned: Looked at twenty times a second.

        Raises:
            WorkerFault: The worker died, fell silent, was too slow, or sent what is no frame.
        """
        self._last_frame = time.monotonic()  # the silence that counts is the one during this wait
        while not abandoned():
            try:
                frame = self._reader.read(_POLL_S)
            except FrameTimeoutError:
                self._check_time(deadline)
                continue
            except FrameError as error:
                raise WorkerFault(f"it sent {error}") from None
            if frame is None:
                raise WorkerFault(self._obituary())
            self._last_frame = time.monotonic()
            if frame.type != "pong":
                return frame
            self._check_time(deadline)
        return None

    def kill(self) -> None:
        """End the process and everything it started, at once."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Let the worker end (its input ends), and make sure that it did. Calling it twice is fine."""
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._write_fd)
        process = self._process
        self._owner.join(2.0)
        if self._owner.is_alive() and process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            self._owner.join(5.0)
        os.close(self._read_fd)

    def _greet(self, voices: Mapping[str, VoiceConfig]) -> Mapping[str, Any]:
        configs = {name: config.model_dump(mode="json") for name, config in voices.items()}
        self.send({"type": "hello", "proto": PROTOCOL, "voices": configs})
        try:
            frame = self._reader.read(self._limits.start_s)  # while it loads it answers no ping: only this limit counts
        except FrameTimeoutError:
            raise WorkerFault(f"its voices were not ready after {self._limits.start_s:g} s") from None
        except FrameError as error:
            raise WorkerFault(f"it sent {error}") from None
        if frame is None:
            raise WorkerFault(self._obituary())
        if frame.type == "error":
            raise AudioError(str(frame.header.get("message", "")))
        if frame.type != "ready" or frame.header.get("proto") != PROTOCOL:
            theirs = frame.header.get("proto")
            raise AudioError(f"the voice process speaks protocol {theirs}, this program {PROTOCOL}. Install one version of rplab for both")
        return frame.header

    def _check_time(self, deadline: float) -> None:
        now = time.monotonic()
        if now > deadline:
            raise WorkerFault("it took too long for a piece of sound")
        if (silent_s := now - self._last_frame) > self._limits.silence_s:
            patience = _STARVED_FACTOR if self._wants_processor() else 1.0
            if silent_s > patience * self._limits.silence_s:
                raise WorkerFault(f"it was silent for {silent_s:.0f} s")
        if now - self._last_ping > min(_PING_S, self._limits.silence_s / 3):
            self._last_ping = now
            self.send({"type": "ping"})

    def _wants_processor(self) -> bool:
        """Whether a thread of the worker waits for a processor or the disk: a busy machine, not a stall. Linux only."""
        for status in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                if status.read_text().rsplit(")", 1)[-1].split()[0] in ("R", "D"):
                    return True
        return False

    def _drain(self, process: subprocess.Popen[bytes]) -> None:
        """Keep the last lines of what the process prints; runs in the thread that started it, until it ends."""
        output = process.stdout
        while output is not None and (line := output.readline(_LINE_BYTES)):
            self._lines.append(line)
        process.wait()
        if output is not None:
            output.close()

    def _obituary(self) -> str:
        """Say how the process ended, with the last line that it printed."""
        self._owner.join(1.0)
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return "it closed its pipe"
        how = f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
        last = next((text for line in reversed(self._lines) if (text := line.decode("utf-8", "replace").strip())), "")
        return f"{how} ({last[:200]})" if last and code > 0 else how
