"""One turn: a bounded graph of four steps that run at the same time.

    model -> parser -> sentences(64) -> translator -> lines(8) -> voice -> sink

Text is shown as it comes and never waits for the steps behind it; a sentence that finds its queue full stays text. Each
engine is called in a thread of its own. Whatever an engine raises, or a wait that takes too long, becomes one notice and
less than speech, never less than text. A turn is cancelled by `cancel()`: every step looks at the flag before it goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rplab.errors import LabError
from rplab.l10n import tr
from rplab.play.audio import AudioSink
from rplab.play.config import PlayConfig
from rplab.play.engines import Engines
from rplab.play.events import Cut, Delta, Notice, ParsedReply, ParseEvent, Sentence, SessionEvent, Spoken, Translated, collect
from rplab.play.metrics import GAP_S, TurnMetrics
from rplab.play.parse import ReplyParser
from rplab.play.speakable import find_problem, is_japanese
from rplab.play.threads import Threads
from rplab.tts.engine import Samples
from rplab.tts.signal import silence

logger = logging.getLogger(__name__)

T = TypeVar("T")
_END = object()


@dataclass(frozen=True)
class Line:
    """A sentence with its Japanese."""

    sentence: Sentence
    japanese: str


@dataclass
class Turn:
    """A turn in progress and, later, what came of it."""

    engines: Engines
    config: PlayConfig
    threads: Threads
    parser: ReplyParser
    on_event: Callable[[SessionEvent], None]
    metrics: TurnMetrics = field(default_factory=TurnMetrics)
    events: list[ParseEvent] = field(default_factory=list[ParseEvent])
    lines: list[Line] = field(default_factory=list[Line])
    notices: list[Notice] = field(default_factory=list[Notice])
    failure: str = ""
    """Why the reply is not complete."""

    def __post_init__(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()
        self._cancelled = asyncio.Event()
        self._written = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._sentences: asyncio.Queue[Sentence | None] = asyncio.Queue(64)
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue(8)
        self._speech_tasks: list[asyncio.Task[None]] = []
        self._play_ends = 0.0
        self._first_played = self.engines.sink.played_frames if self.engines.sink else 0
        self._first_underruns = self.engines.sink.underruns if self.engines.sink else 0

    @property
    def speaks(self) -> bool:
        """Whether this turn tries to speak."""
        return bool(self.config.speak and self.engines.translator and self.engines.voice and self.engines.sink)

    def cancel(self) -> None:
        """Stop text and sound at once; what was shown stays."""
        self._cancelled.set()
        self.metrics.cancelled = True
        if self.engines.sink is not None:
            self.engines.sink.clear()

    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def parsed(self) -> ParsedReply:
        """Return the reply as far as it came."""
        return collect(self.events)

    # -- text -------------------------------------------------------------------------------------------------------

    async def write(self, messages: Sequence[Mapping[str, str]], seed: int, commit: Callable[[], None]) -> None:
        """Let the model write; returns when the text is complete and committed, while speech goes on.

        Args:
            messages: The prompt.
            seed: Of the draws.
            commit: Called once when the text is complete, before anybody may start the next turn.
        """
        if self.speaks:
            self._speech_tasks = [asyncio.create_task(self._translate()), asyncio.create_task(self._speak())]
        try:
            await self._read_model(messages, seed)
        except Exception as error:
            self.failure = str(error) or type(error).__name__
            logger.info("the model failed", exc_info=not isinstance(error, LabError))
            self.notice("reply", tr(f"답변이 중간에 끊겼습니다: {self.failure}", f"the reply broke off: {self.failure}"))
        finally:
            self._take(self.parser.finish())
            self.metrics.text_s = self._elapsed()
            commit()
            self._offer(None)
            self._written.set()

    async def refuse(self, reason: str) -> None:
        """End the turn before it began."""
        self.failure = reason
        self.notice("reply", reason)
        self._written.set()

    async def _read_model(self, messages: Sequence[Mapping[str, str]], seed: int) -> None:
        pieces = self.engines.model.stream(messages, self.config.sampling, seed=seed, cancelled=self._must_stop)
        try:
            while not self._must_stop():
                piece = await self._next_piece(pieces)
                if piece is _END:
                    return
                self.metrics.pieces += 1
                self._take(self.parser.feed(str(piece)))
        finally:
            self.threads.send("model", _close, pieces)

    async def _next_piece(self, pieces: Iterator[str]) -> Any:
        """Return the next piece, or `_END` when there is none or the turn is cancelled meanwhile."""
        call = asyncio.ensure_future(self.threads.call("model", _next, pieces, timeout_s=self.config.reply_timeout_s))
        cancelled = asyncio.ensure_future(self._cancelled.wait())
        await asyncio.wait({call, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        cancelled.cancel()
        if call.done():
            return call.result()
        call.cancel()  # the model's thread ends the piece by itself; nobody waits for it
        return _END

    def _must_stop(self) -> bool:
        return self.is_cancelled() or self.parser.is_cut

    def _take(self, events: list[ParseEvent]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Delta):
                if self.metrics.ttft_s is None:
                    self.metrics.ttft_s = self._elapsed()
                if event.kind == "dialogue" and self.metrics.ttfq_s is None:
                    self.metrics.ttfq_s = self._elapsed()
            elif isinstance(event, Sentence) and event.speaker == "character":
                self._offer(event)
            elif isinstance(event, Cut):
                logger.info("the reply was cut: %s", event.reason)
            self.on_event(event)

    def _offer(self, sentence: Sentence | None) -> None:
        """Hand a sentence to the translator without waiting."""
        if not self.speaks:
            return
        try:
            self._sentences.put_nowait(sentence)
        except asyncio.QueueFull:
            if sentence is None:  # the end must be known: it takes the place of the oldest
                self._sentences.get_nowait()
                self._sentences.put_nowait(None)
            self.notice("voice", tr("문장이 너무 많아 일부는 글로만 남깁니다.", "too many sentences at once; some stay text only"))
        self.metrics.max_waiting = max(self.metrics.max_waiting, self._sentences.qsize())

    # -- translation ------------------------------------------------------------------------------------------------

    async def _translate(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = await _drain(self._sentences)
            if batch and not self.is_cancelled():
                for line in await self._translate_batch(batch):
                    await self._lines.put(line)
        await self._lines.put(None)

    async def _translate_batch(self, batch: list[Sentence]) -> list[Line]:
        korean = [sentence.text for sentence in batch if not is_japanese(sentence.text)]
        try:
            japanese = iter(await self._call_translator(korean))
        except Exception as error:
            reason = str(error) or type(error).__name__
            logger.info("the translator failed: %s", reason, exc_info=not isinstance(error, LabError))
            self.notice("translation", tr(f"번역하지 못해 글로만 보여 줍니다: {reason}", f"text only, the translator failed: {reason}"))
            return [Line(sentence, sentence.text) for sentence in batch if is_japanese(sentence.text)]
        lines: list[Line] = []
        for sentence in batch:
            text = sentence.text if is_japanese(sentence.text) else next(japanese).strip()
            if problem := find_problem(sentence.text, text):
                self.notice("translation", tr(f"글로만 보여 줍니다: {problem}", f"text only: {problem}"))
                continue
            self.on_event(Translated(sentence.text, text, sentence.utterance))
            lines.append(Line(sentence, text))
            self.lines.append(lines[-1])
        return lines

    async def _call_translator(self, korean: list[str]) -> list[str]:
        translator = self.engines.translator
        if not korean or translator is None:
            return []
        started = time.monotonic()
        japanese = await self.threads.call("translator", translator.translate, korean, timeout_s=self.config.translate_timeout_s)
        self.metrics.translate_s.append(time.monotonic() - started)
        if len(japanese) != len(korean):
            raise ValueError(f"{len(korean)} sentences in, {len(japanese)} translations out")
        return japanese

    # -- voice ------------------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        while (line := await self._lines.get()) is not None:
            if self.is_cancelled():
                continue
            try:
                await self._speak_line(line)
            except Exception as error:
                reason = str(error) or type(error).__name__
                logger.info("the voice failed: %s", reason, exc_info=not isinstance(error, LabError))
                self.notice("voice", tr(f"소리 없이 글로만 이어 갑니다: {reason}", f"going on in text, the voice failed: {reason}"))

    async def _speak_line(self, line: Line) -> None:
        voice, sink = self.engines.voice, self.engines.sink
        if voice is None or sink is None:
            return
        settings, timeout_s = self.config.voice, self.config.voice_timeout_s
        chunks = voice.stream(line.japanese, speed=settings.speed, pitch=settings.pitch, style=settings.style)
        is_first, seconds = True, 0.0
        while not self.is_cancelled():
            started = time.monotonic()
            chunk = await self.threads.call("voice", _next, chunks, timeout_s=timeout_s)
            self.metrics.synth_s += time.monotonic() - started
            if not hasattr(chunk, "dtype"):
                break
            if self.is_cancelled():
                return
            await self._play(sink, chunk, is_first=is_first)
            seconds += len(chunk) / sink.sample_rate
            is_first = False
        if seconds:
            self.on_event(Spoken(line.japanese, seconds))

    async def _play(self, sink: AudioSink, chunk: Samples, *, is_first: bool) -> None:
        """Write one chunk, after a pause when a sentence begins, and note when it will be heard."""
        if is_first and self.metrics.ttfa_s is not None:
            await self._write_sound(sink, silence(self.config.sentence_pause_s, sink.sample_rate))
        if self.is_cancelled():
            return
        if self.metrics.ttfa_s is None:
            self.metrics.ttfa_s = self._elapsed() + sink.latency_s
        await self._write_sound(sink, chunk)

    async def _write_sound(self, sink: AudioSink, samples: Samples) -> None:
        await self.threads.call("sink", sink.write, samples, timeout_s=self.config.voice_timeout_s)
        if self.is_cancelled():
            sink.clear()  # the write may have come just behind the clear of `cancel`
        else:
            self._note_played(len(samples) / sink.sample_rate)

    def _note_played(self, seconds: float) -> None:
        """Keep the time at which all that was written will have been heard; a late arrival is a gap."""
        now = time.monotonic()
        if self._play_ends and now - self._play_ends > GAP_S:
            self.metrics.gaps += 1
            self.metrics.gap_s += now - self._play_ends
        self._play_ends = max(now, self._play_ends) + seconds
        self.metrics.audio_s += seconds

    # -- end --------------------------------------------------------------------------------------------------------

    async def finish_speech(self) -> bool:
        """Wait until the speech of this turn was played, or came to nothing; True for the first who asks."""
        is_first = self._ending is None
        if self._ending is None:
            self._ending = asyncio.create_task(self._finish_speech())
        await asyncio.shield(self._ending)
        return is_first

    async def _finish_speech(self) -> None:
        await self._written.wait()
        await asyncio.gather(*self._speech_tasks)
        sink = self.engines.sink
        if sink is not None and self._speech_tasks:
            try:
                if not self.is_cancelled():
                    await self.threads.call("sink", sink.finish, timeout_s=self.config.voice_timeout_s)
                    patience_s = self.metrics.audio_s + 5.0
                    await self.threads.call("sink", sink.drain, patience_s, timeout_s=patience_s + 5.0)
            except Exception as error:  # noqa: BLE001 - a device or disk may fail in any way; the text is there already
                self.notice("audio", tr(f"소리를 끝까지 내지 못했습니다: {error}", f"the sound was not completed: {error}"))
            self._count_heard(sink)
        self.metrics.total_s = self._elapsed()

    def _count_heard(self, sink: AudioSink) -> None:
        self.metrics.underruns = sink.underruns - self._first_underruns
        written = round(self.metrics.audio_s * sink.sample_rate)
        if written:
            self.metrics.heard_ratio = min(1.0, (sink.played_frames - self._first_played) / written)

    def notice(self, part: Any, message: str) -> None:
        """Tell once a turn that a part did not work."""
        if any(notice.part == part for notice in self.notices):
            return
        self.notices.append(Notice(part, message))
        self.on_event(self.notices[-1])

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


def _close(iterator: Iterator[Any]) -> None:
    """End a generator, so that what it holds (a lock, a cache) is free for the next."""
    close = getattr(iterator, "close", None)
    if close is not None:
        close()


def _next(iterator: Iterator[Any]) -> Any:
    """Return the next item, or `_END`: StopIteration cannot leave a thread."""
    return next(iterator, _END)


async def _drain(queue: asyncio.Queue[T | None]) -> tuple[list[T], bool]:
    """Return all that waits in a queue (at least one item) and whether more may come."""
    items: list[T] = []
    item = await queue.get()
    while item is not None:
        items.append(item)
        if queue.empty():
            return items, True
        item = queue.get_nowait()
    return items, False
