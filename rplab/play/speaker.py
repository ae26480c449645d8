"""From a line to the loudspeaker, and the play clock that tells what of it was heard.

The voice gives chunks, the sink takes them; how far the sink has played is looked at fifty times a second. That clock holds
the voice back while enough is buffered, moves the subtitles, ends the turn, knows what was heard when the player interrupts,
and notices a device that stopped playing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from rplab.errors import AudioError
from rplab.l10n import tr
from rplab.play.audio import AudioSink
from rplab.play.context import END, TurnContext, close_iterator, take_next
from rplab.play.emotion import Feeling
from rplab.play.engines import Supervised
from rplab.play.events import Heard, Sentence, Spoken
from rplab.play.metrics import GAP_S
from rplab.tts.engine import Samples, VoiceEngine
from rplab.tts.signal import silence

_TICK_S = 0.02
_HEARD_STEP = 0.05
_AUDIBLE = 10 ** (-50 / 20)
"""-50 dBFS: below it is silence."""
_READ_CHARS_PER_S = 14.0
"""Silent reading of Korean, generously fast."""


@dataclass
class Line:
    """A sentence with its Japanese, and what became of it."""

    sentence: Sentence
    japanese: str
    feeling: Feeling = "neutral"
    style: str = ""
    start_frame: int = 0
    """Where its sound begins in the turn's."""
    frames: int = 0
    """Sound so far, without the pause before it."""
    is_spoken: bool = False
    """Its sound is complete."""
    heard: float = 0.0
    """Share of its sound that was played, 0..1."""


class Speaker:
    """Speaks the lines of one turn, one after another."""

    def __init__(self, context: TurnContext, voice: VoiceEngine, sink: AudioSink) -> None:
        """Start silent; must be made inside the event loop."""
        self.sound: list[Samples] = []
        """What was written, pauses included."""
        self.broken = False
        """The device is gone."""
        self._context = context
        self._voice = voice
        self._sink = sink
        self._lines: list[Line] = []
        self._written = 0
        self._play_ends = 0.0
        self._first_played = sink.played_frames
        self._first_underruns = sink.underruns
        self._moved = context.now()
        self._last_played = 0
        self._clock = asyncio.create_task(self._watch())

    @property
    def played_frames(self) -> int:
        """Frames of this turn that were played."""
        return min(self._written, max(0, self._sink.played_frames - self._first_played))

    async def speak(self, line: Line) -> None:
        """Speak one line, piece by piece. Raises whatever voice or sink raise."""
        context = self._context
        settings = context.config.voice
        restarts = self._restarts()
        chunks = self._voice.stream(line.japanese, speed=settings.speed, pitch=settings.pitch, style=line.style or settings.style)
        synth_s, asked = 0.0, context.now()
        try:
            while True:
                started = context.now()
                chunk = await context.threads.call("voice", take_next, chunks, timeout_s=context.config.voice_timeout_s)
                synth_s += context.now() - started
                if chunk is END:
                    break
                if not line.frames:
                    context.metrics.first_chunk_s.append(context.now() - asked)
                    await self._begin(line)
                await self._write(chunk)
                line.frames += len(chunk)
        finally:
            context.metrics.synth_s += synth_s
            context.threads.send("voice", close_iterator, chunks)
            self._tell_restart(restarts)
        line.is_spoken = True
        seconds = line.frames / self._sink.sample_rate
        if seconds:
            context.metrics.rtfs.append(synth_s / seconds)
        context.on_event(Spoken(line.japanese, seconds, line.style, line.feeling))

    async def finish(self) -> None:
        """Wait until everything was played, or the turn was cancelled; then nothing of it sounds any more."""
        context, sink = self._context, self._sink
        try:
            if not context.is_cancelled() and not self.broken:
                await context.threads.call("sink", sink.finish, timeout_s=context.config.voice_timeout_s)
                await context.or_cancelled(self._played())
            if context.is_cancelled():  # in the sink's thread: behind a write that came after the clear of `cancel`
                await context.threads.call("sink", sink.clear, timeout_s=context.config.voice_timeout_s)
        except Exception as error:  # noqa: BLE001 - a device or disk may fail in any way; the text is there already
            self._fail(error)
        self._clock.cancel()
        self._mark()
        context.metrics.underruns = sink.underruns - self._first_underruns
        if self._written:
            context.metrics.heard_ratio = self.played_frames / self._written

    # -- writing

    async def _begin(self, line: Line) -> None:
        """The first sound of a line is there: wait for the reader, or put the pause between two lines."""
        context, sink = self._context, self._sink
        if context.metrics.ttfa_s is not None:
            await self._write(silence(context.config.sentence_pause_s, sink.sample_rate))
        elif context.config.pace == "read" and context.metrics.ttft_s is not None:
            read_at = context.metrics.ttft_s + context.narrated_chars / _READ_CHARS_PER_S
            await asyncio.sleep(max(0.0, read_at - context.elapsed()))
        line.start_frame = self._written
        self._lines.append(line)

    async def _write(self, samples: Samples) -> None:
        """Play samples behind what waits; what comes after the last sound has ended is a gap."""
        context, sink = self._context, self._sink
        most = context.config.max_buffered_s * sink.sample_rate
        while self._written - self.played_frames >= most and not context.is_cancelled() and not self.broken:
            await asyncio.sleep(_TICK_S)
        if self.broken:
            raise AudioError(tr("소리 장치가 멈췄습니다", "the sound device has stopped"))
        try:
            taken = await context.threads.call("sink", sink.write, samples, timeout_s=context.config.voice_timeout_s)
        except Exception:
            self.broken = context.sink_failed = True
            raise
        if not taken or context.is_cancelled():
            return
        now, seconds, metrics = context.now(), len(samples) / sink.sample_rate, context.metrics
        if self._written <= self.played_frames:
            self._moved = now  # there was nothing to play until now
        if metrics.ttfa_s is None and len(loud := np.flatnonzero(np.abs(samples) > _AUDIBLE)):
            metrics.ttfa_s = context.elapsed() + sink.latency_s + float(loud[0]) / sink.sample_rate
        if self._play_ends and now - self._play_ends > GAP_S:
            metrics.gaps += 1
            metrics.gap_s += now - self._play_ends
        self._play_ends = max(now, self._play_ends) + seconds
        self._written += len(samples)
        self.sound.append(samples)
        metrics.audio_s += seconds

    # -- the play clock

    async def _watch(self) -> None:
        while True:
            self._mark()
            if self.broken:
                return
            await asyncio.sleep(_TICK_S)

    async def _played(self) -> None:
        while self.played_frames < self._written and not self.broken:
            await asyncio.sleep(_TICK_S)
        self._mark()
        if self.broken:
            raise AudioError(tr("소리 장치가 멈췄습니다", "the sound device has stopped"))
        if self._written:
            await asyncio.sleep(self._sink.latency_s)  # the last block is still in the device

    def _mark(self) -> None:
        """Look how far the sink is; tell what was heard; notice that it stands still."""
        played, now = self.played_frames, self._context.now()
        if played != self._last_played or played >= self._written:
            self._last_played, self._moved = played, now
        elif now - self._moved > self._context.config.sink_timeout_s and not self.broken and not self._context.is_cancelled():
            self.broken = self._context.sink_failed = True
            self._sink.clear()
            self._fail(AudioError(tr("소리 장치가 멈췄습니다", "the sound device has stopped")))
            return
        for line in self._lines:
            share = min(1.0, max(0.0, (played - line.start_frame) / line.frames)) if line.frames else 0.0
            if not line.is_spoken:
                share = min(share, 0.9)  # more of it will come
            if share - line.heard >= _HEARD_STEP or (share == 1.0 > line.heard):
                line.heard = share
                self._context.on_event(Heard(line.sentence.text, line.japanese, share))

    # -- faults

    def _restarts(self) -> int:
        return self._voice.restarts if isinstance(self._voice, Supervised) else 0

    def _tell_restart(self, before: int) -> None:
        voice, context = self._voice, self._context
        if not isinstance(voice, Supervised) or voice.restarts == before:
            return
        context.metrics.worker_restarts += voice.restarts - before
        fault = voice.last_fault
        context.notice(
            "voice",
            tr(f"음성 프로세스를 다시 시작하고 이어서 말합니다: {fault}", f"the voice process was started again and goes on: {fault}"),
        )

    def _fail(self, error: BaseException) -> None:
        reason = self._context.explain("audio", error)
        self._context.notice("audio", tr(f"소리를 끝까지 내지 못했습니다: {reason}", f"the sound was not completed: {reason}"))
