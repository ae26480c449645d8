"""The voice worker: a resident process that holds the voices, `python -m rplab.tts.worker --in FD --out FD`.

It speaks frames (`rplab.tts.frames`) on its own pair of pipes; standard output and error are for logs only, whatever a
library prints there harms nothing. No torch: it starts in half a second and holds only numpy, onnxruntime or OpenJTalk.

    hello {proto, voices: {name: VoiceConfig}}        -> ready {proto, format, voices: {name: {label, rate, styles}}, warm_s}
    synth {id, gen, voice, text, speed, pitch, style, credit} -> chunk {id, seq} + samples ..., done {id, frames, first_s, total_s}
                                                              or error {id, kind, message}
    credit {id, n}      the client took n chunks: so many more may be under way
    cancel {gen}        requests of this generation and older are dropped, between two chunks -> done {id, cancelled: true}
    ping -> pong, stats -> stats, shutdown

Voices speak a phrase before `ready`, so that the first sentence finds graphs, caches and dictionaries warm. One request is
worked on at a time, the others wait in order. The worker ends when its input does and, on Linux, by the kernel's hand when
the thread that started it dies: nobody has to find an orphan that holds the accelerator.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from rplab.errors import LabError
from rplab.tts.config import VoiceConfig
from rplab.tts.engine import Samples, VoiceEngine
from rplab.tts.frames import PROTOCOL, Frame, FrameError, FrameReader, encode, write_all
from rplab.tts.open import open_voices

logger = logging.getLogger(__name__)

FORMAT = "f32le"
CHUNK_S = 0.2
"""Longest chunk: a cancel is noticed after one."""
MAX_TEXT_CHARS = 4000
_WARM_PHRASE = "これから、お話しします。"
_PR_SET_PDEATHSIG = 1


@dataclass
class _Request:
    """One sentence to speak."""

    id: int
    gen: int
    voice: str
    text: str
    speed: float
    pitch: float
    style: str
    credit: int


class VoiceServer:
    """Answers requests; `serve` returns when the client asks for it or leaves."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        """Speak on two open descriptors."""
        self._reader = FrameReader(read_fd)
        self._write_fd = write_fd
        self._write_lock = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Request] = collections.deque()
        self._current: _Request | None = None
        self._cancelled_gen = -1
        self._ended = False
        self._voices: dict[str, VoiceEngine] = {}
        self._served = 0

    def serve(self) -> int:
        """Say hello, then work until the end; return the exit code."""
        hello = self._reader.read()
        if hello is None:
            return 0
        if not self._start(hello):
            return 1
        threading.Thread(target=self._read, daemon=True, name="frames").start()
        while (request := self._take()) is not None:
            self._answer(request)
        for voice in self._voices.values():
            voice.close()
        return 0

    def _start(self, hello: Frame) -> bool:
        """Open and warm the voices and say `ready`, or why not."""
        started = time.monotonic()
        proto = hello.header.get("proto")
        try:
            if hello.type != "hello" or proto != PROTOCOL:
                raise FrameError(f"the client speaks protocol {proto}, this worker {PROTOCOL}. Use one version of rplab on both sides")
            configs = {name: VoiceConfig.model_validate(value) for name, value in hello.header["voices"].items()}
            self._voices = open_voices(configs)
            for voice in self._voices.values():
                for _ in voice.stream(_WARM_PHRASE):
                    pass
        except (LabError, FrameError, ValidationError, KeyError, TypeError, AttributeError) as error:
            self._send({"type": "error", "id": None, "kind": type(error).__name__, "message": str(error)})
            return False
        voices = {
            name: {"label": voice.name, "rate": voice.sample_rate, "styles": list(voice.styles)} for name, voice in self._voices.items()
        }
        warm_s = round(time.monotonic() - started, 3)
        self._send({"type": "ready", "proto": PROTOCOL, "format": FORMAT, "voices": voices, "pid": os.getpid(), "warm_s": warm_s})
        return True

    # -- the reading thread

    def _read(self) -> None:
        """Take messages while the main thread speaks."""
        while True:
            try:
                frame = self._reader.read()
            except FrameError as error:
                logger.error("the client sent %s", error)
                frame = None
            if frame is None:
                os._exit(0)  # the client is gone: whatever is being computed, nobody waits for it
            if not self._handle(frame):
                return

    def _handle(self, frame: Frame) -> bool:
        header = frame.header
        if frame.type == "synth":
            self._enqueue(header)
        elif frame.type == "credit":
            with self._changed:
                if self._current is not None and self._current.id == header.get("id"):
                    self._current.credit += int(header.get("n", 1))
                    self._changed.notify_all()
        elif frame.type == "cancel":
            with self._changed:
                self._cancelled_gen = max(self._cancelled_gen, int(header.get("gen", -1)))
                self._changed.notify_all()
        elif frame.type == "ping":
            self._send({"type": "pong", "n": header.get("n")})
        elif frame.type == "stats":
            self._send({"type": "stats", "served": self._served, "waiting": len(self._waiting), "pid": os.getpid()})
        elif frame.type == "shutdown":
            with self._changed:
                self._ended = True
                self._cancelled_gen = sys.maxsize
                self._changed.notify_all()
            return False
        return True

    def _enqueue(self, header: Mapping[str, Any]) -> None:
        try:
            request = _Request(
                id=int(header["id"]),
                gen=int(header.get("gen", 0)),
                voice=str(header.get("voice", "")),
                text=str(header["text"]),
                speed=float(header.get("speed", 1.0)),
                pitch=float(header.get("pitch", 0.0)),
                style=str(header.get("style", "")),
                credit=max(1, int(header.get("credit", 8))),
            )
            if len(request.text) > MAX_TEXT_CHARS:
                raise ValueError(f"a text of {len(request.text)} characters; at most {MAX_TEXT_CHARS}")
            if request.voice not in self._voices:  # a wrong name must not disturb the voices that are there
                raise ValueError(f"no voice {request.voice!r}; there are {', '.join(map(repr, self._voices))}")
        except (KeyError, TypeError, ValueError) as error:
            self._send({"type": "error", "id": header.get("id"), "kind": "ConfigError", "message": f"a bad request: {error}"})
            return
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()

    # -- the main thread

    def _take(self) -> _Request | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if self._ended:
                return None
            self._current = self._waiting.popleft()
            return self._current

    def _is_cancelled(self, request: _Request) -> bool:
        return request.gen <= self._cancelled_gen

    def _answer(self, request: _Request) -> None:
        """Speak one request, chunk by chunk."""
        started = time.monotonic()
        first_s: float | None = None
        frames = seq = 0
        try:
            for piece in _pieces(self._speak(request), self._voices[request.voice].sample_rate):
                if first_s is None:
                    first_s = time.monotonic() - started
                if not self._wait_for_credit(request):
                    break
                self._send({"type": "chunk", "id": request.id, "seq": seq}, np.ascontiguousarray(piece, dtype="<f4").tobytes())
                frames += len(piece)
                seq += 1
        except Exception as error:
            if not isinstance(error, LabError):
                logger.exception("speaking failed")
            self._send({"type": "error", "id": request.id, "kind": type(error).__name__, "message": str(error) or type(error).__name__})
            return
        finally:
            self._served += 1
        done: dict[str, Any] = {"type": "done", "id": request.id, "frames": frames, "total_s": round(time.monotonic() - started, 4)}
        if first_s is not None:
            done["first_s"] = round(first_s, 4)
        if self._is_cancelled(request):
            done["cancelled"] = True
        self._send(done)

    def _speak(self, request: _Request) -> Iterator[Samples]:
        if self._is_cancelled(request):
            return
        voice = self._voices[request.voice]
        yield from voice.stream(request.text, speed=request.speed, pitch=request.pitch, style=request.style)

    def _wait_for_credit(self, request: _Request) -> bool:
        """Wait until the client wants another chunk; False when it wants none any more."""
        with self._changed:
            self._changed.wait_for(lambda: request.credit > 0 or self._is_cancelled(request))
            request.credit -= 1
            return not self._is_cancelled(request)

    def _send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        data = encode(header, payload)
        with self._write_lock:
            try:
                write_all(self._write_fd, data)
            except OSError:
                os._exit(0)  # nobody reads any more


def _pieces(stream: Iterator[Samples], rate_hz: int) -> Iterator[Samples]:
    """Cut what an engine gives into chunks of at most `CHUNK_S`."""
    size = max(1, round(CHUNK_S * rate_hz))
    for samples in stream:
        for start in range(0, len(samples), size):
            yield samples[start : start + size]


def die_with_parent(parent: int) -> None:
    """Ask the kernel (Linux) to kill this process when the thread that started it ends; end at once if it has already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        os._exit(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve on the descriptors of the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="rplab.tts.worker", description="holds voices and speaks on two pipes")
    parser.add_argument("--in", dest="read_fd", type=int, default=0, help="descriptor that requests come from (default: 0)")
    parser.add_argument("--out", dest="write_fd", type=int, default=1, help="descriptor that answers go to (default: 1)")
    parser.add_argument("--parent", type=int, default=0, help="process id without which this one shall not live")
    arguments = parser.parse_args(argv)
    if arguments.parent:
        die_with_parent(arguments.parent)
    read_fd, write_fd = arguments.read_fd, arguments.write_fd
    if write_fd == 1:  # frames keep the real output; what libraries print goes to the log
        write_fd = os.dup(1)
        os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the client's to handle
    return VoiceServer(read_fd, write_fd).serve()


if __name__ == "__main__":
    sys.exit(main())
