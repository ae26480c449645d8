"""The speaking half of a turn: sentences in, sound out, while the text is still being written.

    sentences(64) -> translator -> lines(8) -> voice -> sink        (rplab.play.speaker: from a line on)

A sentence that finds the first queue full stays text, so that text never waits. The translator takes all sentences that
wait in one call. What an engine raises, or a wait that takes too long, becomes one notice and less than speech.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TypeVar

from rplab.l10n import tr
from rplab.play.chronicle import OutcomeLine
from rplab.play.context import TurnContext
from rplab.play.emotion import Feeling, choose_style, feel
from rplab.play.events import Sentence, Translated
from rplab.play.heard import HeardSentence
from rplab.play.speakable import find_problem, is_japanese
from rplab.play.speaker import Line, Speaker
from rplab.tts.engine import Samples

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass
class _Offer:
    """A sentence that is to be spoken."""

    sentence: Sentence
    feeling: Feeling
    line: Line | None = None
    is_text: bool = False
    """It stays text: who reads it has taken it in."""


class Speech:
    """What a turn says aloud. Without a translator it does nothing, without voice or sink it makes subtitles."""

    def __init__(self, context: TurnContext) -> None:
        """Start silent; `start` begins to work."""
        self.speaker: Speaker | None = None
        self._context = context
        self._offers: list[_Offer] = []
        self._sentences: asyncio.Queue[_Offer | None] = asyncio.Queue(64)
        self._lines: asyncio.Queue[_Offer | None] = asyncio.Queue(8)
        self._tasks: list[asyncio.Task[None]] = []
        self._narration = ""
        self._narration_ended = False

    @property
    def lines(self) -> list[Line]:
        """The sentences that have a Japanese, in order."""
        return [offer.line for offer in self._offers if offer.line is not None]

    def start(self) -> None:
        """Begin to take sentences."""
        engines, config = self._context.engines, self._context.config
        if config.translate and engines.translator is not None:
            if config.speak and engines.voice is not None and engines.sink is not None:
                self.speaker = Speaker(self._context, engines.voice, engines.sink)
            self._tasks = [asyncio.create_task(self._translate()), asyncio.create_task(self._speak())]

    def narrate(self, text: str) -> None:
        """Take narration: it tells how the next speech is to sound."""
        if self._narration_ended:
            self._narration, self._narration_ended = "", False
        self._narration += f" {text}"
        self._context.narrated_chars += len(text)

    def offer(self, sentence: Sentence | None) -> None:
        """Hand over a sentence, or None after the last, without waiting."""
        offer = None
        if sentence is not None:
            offer = _Offer(sentence, feel(self._narration, sentence.text) if self._context.config.emotion else "neutral")
            self._narration_ended = True
            self._offers.append(offer)
        if not self._tasks:
            return
        try:
            self._sentences.put_nowait(offer)
        except asyncio.QueueFull:
            if offer is None:  # the end must be known: it takes the place of the oldest
                dropped = self._sentences.get_nowait()
                self._sentences.put_nowait(None)
            else:
                dropped = offer
            if dropped is not None:
                dropped.is_text = True
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
        if self.speaker is not None:
            await self.speaker.finish()

    def heard(self) -> list[HeardSentence]:
        """Return the sentences and how much of each was taken in; without speech all of it was, on the screen."""
        return [HeardSentence(offer.sentence.text, self._share(offer)) for offer in self._offers]

    def outcome(self) -> tuple[OutcomeLine, ...]:
        """Return what became of each line."""
        sink = self._context.engines.sink
        rate = sink.sample_rate if sink is not None else 1
        return tuple(
            OutcomeLine(
                line.sentence.text, line.japanese, line.style, round(line.frames / rate, 4), round(line.heard, 3), line.start_frame / rate
            )
            for line in self.lines
        )

    def sound(self) -> list[Samples]:
        """Return what was spoken, pauses included."""
        return self.speaker.sound if self.speaker is not None else []

    def _share(self, offer: _Offer) -> float:
        if self.speaker is None or offer.is_text:
            return 1.0
        return offer.line.heard if offer.line is not None else 0.0

    # -- translation

    async def _translate(self) -> None:
        is_open = True
        while is_open:
            most = None if self.lines else 1  # the first sound waits for one sentence, not for all that came meanwhile
            batch, is_open = await _take_waiting(self._sentences, most)
            for offer in await self._translate_batch(batch):
                if offer.line is not None:
                    sentence = offer.sentence
                    self._context.on_event(Translated(sentence.text, offer.line.japanese, sentence.utterance))
                    await self._lines.put(offer)
        await self._lines.put(None)

    async def _translate_batch(self, batch: list[_Offer]) -> list[_Offer]:
        """Give the sentences their Japanese; those that cannot be spoken stay text."""
        texts = [offer.sentence.text for offer in batch]
        korean = [text for text in dict.fromkeys(texts) if not is_japanese(text)]
        try:
            japanese = dict(zip(korean, await self._call_translator(korean), strict=True))
        except Exception as error:  # noqa: BLE001 - an engine may fail in any way; the text is there already
            reason = self._context.explain("translation", error)
            message = tr(f"번역하지 못해 글로만 보여 줍니다: {reason}", f"text only, the translator failed: {reason}")
            self._context.notice("translation", message)
            japanese = {}
        for offer in batch:
            original = offer.sentence.text
            text = original if is_japanese(original) else japanese.get(original, "").strip()
            if problem := find_problem(original, text):
                offer.is_text = True
                self._context.notice("translation", tr(f"글로만 보여 줍니다: {problem}", f"text only: {problem}"))
            else:
                offer.line = Line(offer.sentence, text, offer.feeling, self._style(offer.feeling))
        return batch

    async def _call_translator(self, korean: list[str]) -> list[str]:
        context = self._context
        translator = context.engines.translator
        if not korean or translator is None:
            return []
        started = context.now()
        japanese = await context.threads.call("translator", translator.translate, korean, timeout_s=context.config.translate_timeout_s)
        context.metrics.translate_s.append(context.now() - started)
        return japanese

    def _style(self, feeling: Feeling) -> str:
        voice = self._context.engines.voice
        if voice is None or self._context.config.voice.style:
            return ""
        return choose_style(feeling, voice.styles)

    # -- voice

    async def _speak(self) -> None:
        while (offer := await self._lines.get()) is not None:
            if self.speaker is None or offer.line is None or not self._context.config.speak:
                continue
            if self.speaker.broken:
                offer.is_text = True
                continue
            try:
                await self.speaker.speak(offer.line)
            except Exception as error:  # noqa: BLE001 - an engine or device may fail in any way; the text is there already
                offer.is_text = True
                if self._context.is_told("audio") and self.speaker.broken:
                    continue
                reason = self._context.explain("voice", error)
                part = "audio" if self.speaker.broken else "voice"
                self._context.notice(part, tr(f"소리 없이 글로만 이어 갑니다: {reason}", f"going on in text, the voice failed: {reason}"))


async def _result(work: asyncio.Future[T]) -> T:
    return await work


async def _take_waiting(queue: asyncio.Queue[T | None], most: int | None = None) -> tuple[list[T], bool]:
    """Return what waits in a queue (at least one item, or the end; at most `most`) and whether more may come."""
    items: list[T] = []
    item = await queue.get()
    while item is not None:
        items.append(item)
        if queue.empty() or len(items) == most:
            return items, True
        item = queue.get_nowait()
    return items, False
