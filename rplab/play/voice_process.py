"""The voice as another process, behind the `VoiceEngine` protocol.

A voice can crash (native code), hang, or eat memory; as a child it takes nothing with it. This client replaces a worker
that died, stalled or talks nonsense and has the unfinished sentence spoken again; voices draw by seed, so what was already
handed on is skipped and the listener hears one sentence, at worst with a pause in it. After `max_restarts` within a minute
it gives up with `AudioError`, the session goes on in text, and the next sentence after that minute tries anew.

    voice = VoiceProcess({"": VoiceConfig()})         # several names: several voices, warm at once
    for samples in voice.stream("おかえり。"): ...
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rplab import errors
from rplab.errors import AudioError, ConfigError, LabError
from rplab.l10n import tr
from rplab.play.voice_link import COMMAND, WorkerFault, WorkerLimits, WorkerLink
from rplab.tts.config import VoiceConfig
from rplab.tts.engine import Samples

logger = logging.getLogger(__name__)

_CREDIT = 8
"""Chunks that may be under way: 1.6 s of sound, so that a pause of the reader does not idle the voice."""
_S_PER_CHARACTER = 0.2
"""Japanese speech, generously."""


@dataclass(frozen=True)
class _Wish:
    """One call of `stream`."""

    text: str
    speed: float
    pitch: float
    style: str
    gen: int


class VoiceProcess:
    """A `VoiceEngine` whose work is done by `rplab.tts.worker`."""

    def __init__(
        self,
        voices: Mapping[str, VoiceConfig],
        *,
        limits: WorkerLimits | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Start the process and wait until its voices are warm.

        Args:
            voices: Name -> voice; the first is spoken with until `voice` is set.
            limits: How long to wait for it.
            command: Starts the worker; only tests give another.

        Raises:
            AudioError: The voices cannot be opened, or the process cannot be started.
        """
        self._configs = dict(voices)
        self._limits = limits or WorkerLimits()
        self._command = command
        self._lock = threading.Lock()
        self._link: WorkerLink | None = None
        self._gen = 0
        self._failures: collections.deque[float] = collections.deque(maxlen=64)
        self._closed = False
        self.voice = next(iter(self._configs))
        """Name of the voice that speaks."""
        self.restarts = 0
        """How often a new process was needed."""
        self.last_fault = ""
        """What was wrong with the process before this one."""
        self.timings: Mapping[str, Any] = {}
        """`first_s` and `total_s` of the last sentence, measured inside the worker."""
        try:
            self._ready = self._open().ready
        except WorkerFault as fault:
            raise AudioError(f"the voice process does not start: {fault}") from None

    @property
    def name(self) -> str:
        """Engine and voice."""
        return str(self._about()["label"])

    @property
    def sample_rate(self) -> int:
        """Frames per second (Hz)."""
        return int(self._about()["rate"])

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the styles of the voice that speaks."""
        return tuple(self._about()["styles"])

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the voices that are warm."""
        return tuple(self._configs)

    @property
    def pid(self) -> int:
        """Process id of the worker, 0 when there is none."""
        link = self._link
        return link.pid if link is not None and link.is_alive() else 0

    def choose(self, voice: str) -> None:
        """Speak with another of the warm voices from the next sentence on.

        Raises:
            ConfigError: There is none of that name, or it has another sample rate than the open sound device.
        """
        if voice not in self._configs:
            raise ConfigError(f"no voice {voice!r}. Use one of: {', '.join(self._configs)}")
        if int(self._ready["voices"][voice]["rate"]) != self.sample_rate:
            raise ConfigError(f"the voice {voice} has another sample rate. Start again with --voice {voice}")
        self.voice = voice

    def synthesise(self, text: str, *, speed: float = 1.0, pitch: float = 0.0, style: str = "") -> Samples:
        """Speak a whole text; see `VoiceEngine.synthesise`."""
        parts = list(self.stream(text, speed=speed, pitch=pitch, style=style))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def stream(self, text: str, *, speed: float = 1.0, pitch: float = 0.0, style: str = "") -> Generator[Samples]:
        """Speak piece by piece; see `VoiceEngine.stream`. Ends early, without an error, when `cancel` is called.

        Raises:
            AudioError: The voice cannot speak this, or the process failed too often.
        """
        wish = _Wish(text, speed, pitch, style, self._gen)
        handed_on = 0
        while True:
            try:
                for samples in self._request(self._running(), wish, skip=handed_on):
                    handed_on += len(samples)
                    yield samples
            except WorkerFault as fault:
                self._replace(fault)
                if wish.gen != self._gen:
                    return
            else:
                return

    def cancel(self) -> None:
        """Drop what is being spoken and what waits; returns at once, from any thread."""
        gen, self._gen = self._gen, self._gen + 1
        link = self._link
        if link is not None:
            try:
                link.send({"type": "cancel", "gen": gen})
            except WorkerFault as fault:
                logger.info("the worker does not take a cancel: %s", fault)  # the next sentence replaces it

    def close(self) -> None:
        """End the process. Calling it twice is fine."""
        self._closed = True
        self._gen += 1
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _about(self) -> Mapping[str, Any]:
        about: Mapping[str, Any] = self._ready["voices"][self.voice]
        return about

    def _running(self) -> WorkerLink:
        """Return a worker that runs; one that died while nobody spoke is replaced."""
        link = self._link
        if link is not None:
            return link
        if self._recent_failures() > self._limits.max_restarts:
            raise self._given_up()
        return self._open()

    def _recent_failures(self) -> int:
        now = time.monotonic()
        return sum(now - moment < self._limits.window_s for moment in self._failures)

    def _given_up(self) -> AudioError:
        count = self._recent_failures()
        return AudioError(
            tr(
                f"음성 프로세스가 1분 안에 {count}번 멈췄습니다 (마지막: {self.last_fault})",
                f"the voice process failed {count} times within a minute (last: {self.last_fault})",
            )
        )

    def _open(self) -> WorkerLink:
        with self._lock:
            if self._closed:
                raise AudioError("the voice process was closed")
            self._link = WorkerLink(self._configs, self._limits, self._command)
            return self._link

    def _replace(self, fault: WorkerFault) -> None:
        """End a worker that failed and start another, after a wait that grows; raises AudioError when it fails too often."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.kill()
        logger.info("the voice process has to be replaced: %s", fault)
        self.last_fault = str(fault)
        while True:
            self._failures.append(time.monotonic())
            recent = self._recent_failures()
            if recent > self._limits.max_restarts:
                raise self._given_up()
            time.sleep(self._limits.backoff_s[min(recent - 1, len(self._limits.backoff_s) - 1)])
            try:
                self._open()
            except WorkerFault as again:
                self.last_fault = str(again)
                continue
            self.restarts += 1
            return

    def _request(self, link: WorkerLink, wish: _Wish, *, skip: int) -> Generator[Samples]:
        """Have one sentence spoken; the first `skip` frames are not yielded: the listener has them."""
        number = link.next_id()
        header = {"type": "synth", "id": number, "gen": wish.gen, "voice": self.voice, "credit": _CREDIT, "text": wish.text}
        link.send({**header, "speed": wish.speed, "pitch": wish.pitch, "style": wish.style})
        patience_s = self._limits.answer_s + self._limits.answer_factor * _S_PER_CHARACTER * len(wish.text) / wish.speed
        try:
            while (frame := link.receive(time.monotonic() + patience_s, lambda: wish.gen != self._gen)) is not None:
                if frame.header.get("id") != number:
                    continue  # the rest of a request that was given up
                if frame.type != "chunk":
                    self._conclude(frame.header)
                    return
                link.send({"type": "credit", "id": number, "n": 1})
                samples = _samples(frame.payload)
                if len(fresh := samples[skip:]):
                    yield fresh
                skip = max(0, skip - len(samples))
        except GeneratorExit:  # closed by the reader: nobody wants the rest
            if wish.gen == self._gen:
                self.cancel()
            raise

    def _conclude(self, header: Mapping[str, Any]) -> None:
        """Take the end of a request; raises what the voice raised."""
        if header.get("type") == "error":
            kind = getattr(errors, str(header.get("kind")), AudioError)
            message = str(header.get("message", ""))
            raise kind(message) if isinstance(kind, type) and issubclass(kind, LabError) else AudioError(message)
        self.timings = {name: header[name] for name in ("first_s", "total_s") if name in header}


def _samples(payload: bytes) -> Samples:
    if len(payload) % 4:
        raise WorkerFault("it sent half a sample")
    samples = np.frombuffer(payload, dtype="<f4").astype(np.float32)
    if not np.isfinite(samples).all():
        raise WorkerFault("it sent sound that is no number")
    return samples
