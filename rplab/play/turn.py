"""One turn: a bounded graph whose steps run at the same time.

    model -> parser -> screen
                  `--> speech (rplab.play.speech): translator -> voice -> sink

Text is shown as it comes and never waits for the steps behind it. Each engine is called in a thread of its own. Whatever
an engine raises becomes one notice; the text so far is kept. `cancel` stops every step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from rplab.l10n import tr
from rplab.play.chronicle import TurnOutcome
from rplab.play.context import END, Part, TurnContext, close_iterator, take_next
from rplab.play.engines import Cancellable
from rplab.play.events import Cut, Delta, Narration, Notice, ParsedReply, ParseEvent, Sentence, collect
from rplab.play.heard import heard_text
from rplab.play.metrics import TurnMetrics
from rplab.play.parse import ReplyParser
from rplab.play.ring import FADE_S
from rplab.play.speaker import Line
from rplab.play.speech import Speech
from rplab.tts.engine import Samples

logger = logging.getLogger(__name__)


class Turn:
    """A turn in progress and, later, what came of it."""

    def __init__(self, context: TurnContext, parser: ReplyParser) -> None:
        """Start the clock. Must be called inside the event loop."""
        self.failure = ""
        """Why the reply is not complete."""
        self._context = context
        self._parser = parser
        self._speech = Speech(context)
        self._events: list[ParseEvent] = []
        self._written = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None

    @property
    def metrics(self) -> TurnMetrics:
        """What it cost."""
        return self._context.metrics

    @property
    def notices(self) -> list[Notice]:
        """What did not work."""
        return self._context.notices

    @property
    def lines(self) -> list[Line]:
        """The sentences that have a Japanese."""
        return self._speech.lines

    def parsed(self) -> ParsedReply:
        """Return the reply as far as it came."""
        return collect(self._events)

    @property
    def sink_failed(self) -> bool:
        """Whether the sound device was taken away."""
        return self._context.sink_failed

    def audio(self) -> tuple[list[Samples], int]:
        """Return what was spoken so far, pauses included, and its frames per second."""
        sink = self._context.engines.sink
        return self._speech.sound(), sink.sample_rate if sink is not None else 0

    def outcome(self) -> TurnOutcome:
        """Return what became of the turn, when it is over."""
        is_partial = self.is_cancelled() and self._context.config.keep == "heard"
        heard = self._heard_text() if is_partial else None
        notices = tuple(notice.message for notice in self.notices)
        return TurnOutcome(self._speech.outcome(), heard, self.metrics.as_json(), notices)

    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._context.is_cancelled()

    def cancel(self) -> None:
        """Stop text and sound at once; what was shown stays."""
        context, started = self._context, self._context.now()
        context.cancelled.set()
        self.metrics.cancelled = True
        if context.engines.sink is not None:
            context.engines.sink.clear()
            self.metrics.cancel_s = context.now() - started + FADE_S + context.engines.sink.latency_s
        if isinstance(context.engines.voice, Cancellable):
            context.engines.voice.cancel()

    async def write(self, messages: Sequence[Mapping[str, str]], seed: int, commit: Callable[[], None]) -> None:
        """Let the model write; returns when the text is complete and committed, while speech goes on.

        Args:
            messages: The prompt.
            seed: Of the draws.
            commit: Called once when the text is complete, before anybody may start the next turn.
        """
        self._speech.start()
        try:
            await self._read_model(messages, seed)
        except Exception as error:  # noqa: BLE001 - a model may fail in any way; the text so far is kept
            self.fail(tr("답변이 중간에 끊겼습니다", "the reply broke off"), error)
        finally:
            self._take(self._parser.finish())
            self.metrics.text_s = self._context.elapsed()
            commit()
            self._speech.offer(None)
            self._written.set()

    def fail(self, what: str, error: BaseException | None = None) -> None:
        """Note why the reply is not complete, and tell the player."""
        reason = self._context.explain("reply", error) if error else ""
        self.failure = reason or what
        self._context.notice("reply", f"{what}: {reason}" if reason else what)

    def note(self, part: Part, message: str) -> None:
        """Tell the player, once, that a part did not work."""
        self._context.notice(part, message)

    def refuse(self, reason: str) -> None:
        """End the turn before it began."""
        self.fail(reason)
        self._speech.offer(None)
        self._written.set()

    async def finish(self) -> bool:
        """Wait until the speech of this turn was played, or came to nothing; True for the first who asks."""
        is_first = self._ending is None
        if self._ending is None:
            self._ending = asyncio.create_task(self._finish())
        await asyncio.shield(self._ending)
        return is_first

    def _heard_text(self) -> str | None:
        shown = [event for event in self._events if isinstance(event, Delta)]
        text = "".join(event.text for event in shown)
        is_speech = [event.kind == "dialogue" for event in shown for _ in event.text]
        leading = len(text) - len(text.lstrip())
        return heard_text(text.strip(), self._speech.heard(), is_speech[leading:])

    async def _finish(self) -> None:
        await self._written.wait()
        await self._speech.finish()
        self.metrics.total_s = self._context.elapsed()

    async def _read_model(self, messages: Sequence[Mapping[str, str]], seed: int) -> None:
        context = self._context
        pieces = context.engines.model.stream(messages, context.config.sampling, seed=seed, cancelled=self._must_stop)
        try:
            while not self._must_stop():
                call = context.threads.call("model", take_next, pieces, timeout_s=context.config.reply_timeout_s)
                piece = await context.or_cancelled(call)
                if piece is None or piece is END:
                    return
                self.metrics.pieces += 1
                self._take(self._parser.feed(piece))
        finally:
            if (usage := context.engines.model.usage) is not None:
                self.metrics.prefill_new, self.metrics.prefill_cached = usage.new, usage.cached
            context.threads.send("model", close_iterator, pieces)

    def _must_stop(self) -> bool:
        return self.is_cancelled() or self._parser.is_cut

    def _take(self, events: list[ParseEvent]) -> None:
        for event in events:
            self._events.append(event)
            if isinstance(event, Delta):
                if self.metrics.ttft_s is None:
                    self.metrics.ttft_s = self._context.elapsed()
                if event.kind == "dialogue" and self.metrics.ttfq_s is None:
                    self.metrics.ttfq_s = self._context.elapsed()
            elif isinstance(event, Narration):
                self._speech.narrate(event.text)
            elif isinstance(event, Sentence) and event.speaker == "character":
                self._speech.offer(event)
            elif isinstance(event, Cut):
                logger.info("the reply was cut: %s", event.reason)
            self._context.on_event(event)
