"""The speaking half of a turn: sentences in, sound out, while the text is still being written.

    sentences(64) -> translator -> lines(8) -> voice -> sink

A sentence that finds the first queue full stays text, so that text never waits. The translator takes all sentences that
wait in one call. What an engine raises, or a wait that takes too long, becomes one notice and less than speech.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TypeVar

from rplab.l10n import tr
from rplab.play.audio import AudioSink
from rplab.play.context import END, TurnContext, take_next
from rplab.play.events import Sentence, Spoken, Translated
from rplab.play.metrics import GAP_S
from rplab.play.speakable import find_problem, is_japanese
from rplab.tts.engine import Samples, VoiceEngine
from rplab.tts.signal import silence

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """A sentence with its Japanese."""

    sentence: Sentence
    japanese: str


class Speech:
    """What a turn says aloud. Without a translator it does nothing, without voice or sink it makes subtitles."""

    def __init__(self, context: TurnContext) -> None:
        """Start silent; `start` begins to work."""
        self.lines: list[Line] = []
        self._context = context
        self._sentences: asyncio.Queue[Sentence | None] = asyncio.Queue(64)
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue(8)
        self._tasks: list[asyncio.Task[None]] = []
        self._play_ends = 0.0
        sink = context.engines.sink
        self._first_played = sink.played_frames if sink else 0
        self._first_underruns = sink.underruns if sink else 0

    def start(self) -> None:
        """Begin to take sentences."""
        if self._context.config.translate and self._context.engines.translator is not None:
            self._tasks = [asyncio.create_task(self._translate()), asyncio.create_task(self._speak())]

    def offer(self, sentence: Sentence | None) -> None:
        """Hand over a sentence, or None after the last, without waiting."""
        if not self._tasks:
            return
        try:
            self._sentences.put_nowait(sentence)
        except asyncio.QueueFull:
            if sentence is None:  # the end must be known: it takes the place of the oldest
                self._sentences.get_nowait()
                self._sentences.put_nowait(None)
            self._context.notice("voice", tr("문장이 너무 많아 일부는 글로만 남깁니다.", "too many sentences at once; some stay text only"))
        self._context.metrics.max_waiting = max(self._context.metrics.max_waiting, self._sentences.qsize())

    async def finish(self) -> None:
        """Wait until everything was played, or the turn was cancelled; then nothing of it sounds any more."""
        work = asyncio.gather(*self._tasks, return_exceptions=True)
        await self._context.or_cancelled(_result(work))
        for task in self._tasks:  # when cancelled: do not wait for what an engine is still doing
            task.cancel()
        for error in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(error, Exception):
                logger.error("a step of the speech failed", exc_info=error)
        sink = self._context.engines.sink
        if sink is not None and (self._context.metrics.audio_s or self._context.is_cancelled()):
            await self._finish_sound(sink)

    # -- translation

    async def _translate(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = await _take_waiting(self._sentences)
            for line in await self._translate_batch(batch):
                self.lines.append(line)
                self._context.on_event(Translated(line.sentence.text, line.japanese, line.sentence.utterance))
                await self._lines.put(line)
        await self._lines.put(None)

    async def _translate_batch(self, batch: list[Sentence]) -> list[Line]:
        """Return the sentences that can be spoken; the others stay text."""
        korean = [sentence.text for sentence in batch if not is_japanese(sentence.text)]
        try:
            japanese = dict(zip(korean, await self._call_translator(korean), strict=True))
        except Exception as error:  # noqa: BLE001 - an engine may fail in any way; the text is there already
            reason = self._context.explain("translation", error)
            message = tr(f"번역하지 못해 글로만 보여 줍니다: {reason}", f"text only, the translator failed: {reason}")
            self._context.notice("translation", message)
            japanese = {}
        lines: list[Line] = []
        for sentence in batch:
            text = sentence.text if is_japanese(sentence.text) else japanese.get(sentence.text, "").strip()
            if problem := find_problem(sentence.text, text):
                self._context.notice("translation", tr(f"글로만 보여 줍니다: {problem}", f"text only: {problem}"))
            else:
                lines.append(Line(sentence, text))
        return lines

    async def _call_translator(self, korean: list[str]) -> list[str]:
        translator, config = self._context.engines.translator, self._context.config
        if not korean or translator is None:
            return []
        started = time.monotonic()
        japanese = await self._context.threads.call("translator", translator.translate, korean, timeout_s=config.translate_timeout_s)
        self._context.metrics.translate_s.append(time.monotonic() - started)
        return japanese

    # -- voice

    async def _speak(self) -> None:
        voice, sink = self._context.engines.voice, self._context.engines.sink
        while (line := await self._lines.get()) is not None:
            if voice is None or sink is None or not self._context.config.speak:
                continue
            try:
                seconds = await self._speak_line(line, voice, sink)
                self._context.on_event(Spoken(line.japanese, seconds))
            except Exception as error:  # noqa: BLE001 - an engine or device may fail in any way; the text is there already
                reason = self._context.explain("voice", error)
                self._context.notice(
                    "voice", tr(f"소리 없이 글로만 이어 갑니다: {reason}", f"going on in text, the voice failed: {reason}")
                )

    async def _speak_line(self, line: Line, voice: VoiceEngine, sink: AudioSink) -> float:
        """Speak one line piece by piece and return its length in seconds."""
        settings, context = self._context.config.voice, self._context
        chunks = voice.stream(line.japanese, speed=settings.speed, pitch=settings.pitch, style=settings.style)
        seconds = 0.0
        while True:
            started = time.monotonic()
            chunk = await context.threads.call("voice", take_next, chunks, timeout_s=context.config.voice_timeout_s)
            context.metrics.synth_s += time.monotonic() - started
            if chunk is END:
                return seconds
            if not seconds and context.metrics.ttfa_s is not None:
                await self._write(sink, silence(context.config.sentence_pause_s, sink.sample_rate))
            if context.metrics.ttfa_s is None:
                context.metrics.ttfa_s = context.elapsed() + sink.latency_s
            await self._write(sink, chunk)
            seconds += len(chunk) / sink.sample_rate

    async def _write(self, sink: AudioSink, samples: Samples) -> None:
        """Play samples, and keep the time at which they will have been heard; a late arrival is a gap."""
        await self._context.threads.call("sink", sink.write, samples, timeout_s=self._context.config.voice_timeout_s)
        metrics, now, seconds = self._context.metrics, time.monotonic(), len(samples) / sink.sample_rate
        if self._play_ends and now - self._play_ends > GAP_S:
            metrics.gaps += 1
            metrics.gap_s += now - self._play_ends
        self._play_ends = max(now, self._play_ends) + seconds
        metrics.audio_s += seconds

    async def _finish_sound(self, sink: AudioSink) -> None:
        context = self._context
        timeout_s = context.config.voice_timeout_s
        try:
            if not context.is_cancelled():
                await context.threads.call("sink", sink.finish, timeout_s=timeout_s)
                patience_s = context.metrics.audio_s + 5.0
                await context.or_cancelled(context.threads.call("sink", sink.drain, patience_s, timeout_s=patience_s + 5.0))
            if context.is_cancelled():  # in the sink's thread: behind a write that came after the clear of `cancel`
                await context.threads.call("sink", sink.clear, timeout_s=timeout_s)
        except Exception as error:  # noqa: BLE001 - a device or disk may fail in any way; the text is there already
            reason = context.explain("audio", error)
            context.notice("audio", tr(f"소리를 끝까지 내지 못했습니다: {reason}", f"the sound was not completed: {reason}"))
        context.metrics.underruns = sink.underruns - self._first_underruns
        written = round(context.metrics.audio_s * sink.sample_rate)
        if written:
            context.metrics.heard_ratio = min(1.0, (sink.played_frames - self._first_played) / written)


async def _result(work: asyncio.Future[T]) -> T:
    return await work


async def _take_waiting(queue: asyncio.Queue[T | None]) -> tuple[list[T], bool]:
    """Return all that waits in a queue (at least one item, or the end) and whether more may come."""
    items: list[T] = []
    item = await queue.get()
    while item is not None:
        items.append(item)
        if queue.empty():
            return items, True
        item = queue.get_nowait()
    return items, False
