"""The session: a conversation, one turn after another.

What happens between Enter and the first sound is in `rplab.play.turn`. Here: the prompt, committing text before speech,
drawing a reply again, and what waits until the sound is over (memory, summary, reading the next prompt).

A session is used from one event loop. A turn starts by cancelling the one before, so typing while the character speaks
interrupts it (barge-in).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rplab.errors import AudioError, ConfigError, LabError
from rplab.l10n import tr
from rplab.play import aside
from rplab.play.audio import AudioSink
from rplab.play.chronicle import Chronicle
from rplab.play.config import PlayConfig, ReplySampling
from rplab.play.context import TurnContext
from rplab.play.engines import Closeable, Engines
from rplab.play.events import SessionEvent
from rplab.play.history import Exchange
from rplab.play.metrics import TurnMetrics
from rplab.play.parse import ReplyParser
from rplab.play.threads import Threads
from rplab.play.turn import Turn
from rplab.seeding import derive_seed

logger = logging.getLogger(__name__)

Listener = Callable[[SessionEvent], None]
_SINK_OPENS_WITHIN_S = 10.0


@dataclass(frozen=True)
class Scene:
    """Who talks, and what the model is told about it."""

    system: str
    """The system text that the model was trained on, filled from the card."""
    protagonist: tuple[str, ...]
    """The character's names: Korean, kana."""
    player: tuple[str, ...]
    greeting: str = ""
    """Shown when a conversation begins; the model does not see it."""


class PlaySession:
    """A conversation with a character."""

    def __init__(self, scene: Scene, engines: Engines, config: PlayConfig, chronicle: Chronicle, *, threads: Threads | None = None) -> None:
        """Start a conversation, or go on with the one that `chronicle` holds.

        Args:
            scene: Who talks.
            engines: Model and, for speech, translator, voice and sink.
            config: Settings.
            chronicle: Where turns are kept.
            threads: Where engines are called; only tests with a clock of their own give another.
        """
        self.scene = scene
        self.engines = engines
        self.config = config
        self.chronicle = chronicle
        self.metrics: deque[TurnMetrics] = deque(maxlen=500)
        """Of the latest turns, oldest first; the one in progress is the last."""
        self.afterwards: Callable[[Turn], Awaitable[None]] | None = None
        """Called when a turn's sound is over and nobody interrupted it: memory and summary. Cancelled when the player types."""
        self.last: Turn | None = None
        """The latest turn that showed something."""
        self._threads = threads or Threads()
        self._current: Turn | None = None
        self._nodes: dict[int, int] = {}
        self._resting: asyncio.Task[None] | None = None
        self._sink_failed = False

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """What was said, from the first exchange to the last."""
        return self.chronicle.exchanges

    async def say(self, text: str, on_event: Listener) -> Turn:
        """Send a message; returns when the reply's text is complete and saved, while speech may go on.

        Args:
            text: What the player writes.
            on_event: Called for everything that happens, in order, in this event loop.
        """
        await self.stop()
        return await self._reply(_whole_characters(text), on_event)

    async def regenerate(self, on_event: Listener) -> Turn | None:
        """Draw another reply to the last message, beside the one that is there; None when there is none."""
        await self.stop()
        node = self.chronicle.head
        if node is None:
            return None
        self._keep(lambda: self.chronicle.goto(self.chronicle.parent(node)), None)
        turn = await self._reply(self.chronicle.user_text(node), on_event)
        if not turn.parsed().shown.strip():
            self._keep(lambda: self.chronicle.goto(node), turn)
        return turn

    async def undo(self) -> Exchange | None:
        """Go back before the last exchange, which stays in the tree; None when there is none."""
        await self.stop()
        node = self.chronicle.head
        if node is None:
            return None
        last = self.chronicle.exchanges[-1]
        self._keep(lambda: self.chronicle.goto(self.chronicle.parent(node)), None)
        return last

    async def stop(self) -> None:
        """Stop whatever goes on: no more text, no more sound; what was shown is kept."""
        turn = self._current
        if turn is not None:
            turn.cancel()
            await self._end(turn)
        resting, self._resting = self._resting, None
        if resting is not None and resting is not asyncio.current_task():
            resting.cancel()
            await asyncio.gather(resting, return_exceptions=True)

    async def finish(self, turn: Turn) -> None:
        """Wait until a turn was spoken, or interrupted, and keep its numbers."""
        await self._end(turn)

    async def rest(self) -> None:
        """Wait until what follows a turn (memory, reading the next prompt) is done; for tests and the end of a script."""
        if self._resting is not None:
            await asyncio.gather(self._resting, return_exceptions=True)

    async def replay(self) -> bool:
        """Let the sound of the latest turn be heard again, until it ends or somebody interrupts; False without any."""
        await self.stop()
        sink = self.engines.sink
        parts = self.last.audio()[0] if self.last is not None else []
        if sink is None or not parts:
            return False
        self._resting = asyncio.create_task(aside.play_again(self._threads, sink, list(parts), timeout_s=self.config.voice_timeout_s))
        await asyncio.gather(self._resting, return_exceptions=True)
        return True

    async def ask(
        self, messages: Sequence[Mapping[str, str]], *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int | None = None
    ) -> str:
        """Ask the model something beside the conversation, for `afterwards`.

        Args:
            messages: The whole prompt.
            max_new_tokens: Longest answer.
            temperature: 0 is greedy.
            seed: Of the draws; the session's own when None.

        Raises:
            CancelledError: The player typed; the model stops within one token.
            Exception: Whatever the model raised.
        """
        sampling = ReplySampling(max_new_tokens=max_new_tokens, temperature=temperature, repetition_penalty=1.0)
        seed = self.config.seed if seed is None else seed
        timeout_s = self.config.reply_timeout_s
        return await aside.ask(self._threads, self.engines.model, messages, sampling, seed=seed, timeout_s=timeout_s)

    def change_voice(self, **changes: object) -> None:
        """Change fields of `config.voice` (style, speed, pitch) from the next sentence on.

        Raises:
            ConfigError: A value is out of range, or the voice has no such style.
        """
        voice = self.engines.voice
        style = changes.get("style")
        if style and voice is not None and style not in voice.styles:
            names = ", ".join(voice.styles) or tr("없음", "none")
            raise ConfigError(tr(f"{style!r} 말투가 없습니다. 있는 것: {names}", f"the voice has no style {style!r}. It has: {names}"))
        settings = self.config.voice.model_validate({**self.config.voice.model_dump(), **changes})
        self.config = self.config.model_copy(update={"voice": settings})

    async def use_sink(self, sink: AudioSink) -> None:
        """Let sound go somewhere else from now on."""
        await self.stop()
        old, self.engines = self.engines.sink, replace(self.engines, sink=sink)
        self._sink_failed = False
        if old is not None and old is not sink:
            self._threads.send("old sink", old.close)

    async def aclose(self) -> None:
        """Stop and give threads, devices and files back."""
        await self.stop()
        self._threads.close()
        if self.engines.sink is not None:
            self.engines.sink.close()
        if self.engines.voice is not None:
            self.engines.voice.close()
        if isinstance(self.engines.model, Closeable):
            self.engines.model.close()
        self.chronicle.close()

    # -- a turn

    async def _reply(self, text: str, on_event: Listener) -> Turn:
        recovered = await self._recover_sink()
        parser = ReplyParser(
            protagonist=self.scene.protagonist, player=self.scene.player, first_clause_chars=self.config.first_clause_chars
        )
        engines = replace(self.engines, sink=None) if self._sink_failed else self.engines
        turn = Turn(TurnContext(engines, self.config, self._threads, on_event), parser)
        if recovered:
            turn.note("audio", recovered)
        self._current = turn
        self.metrics.append(turn.metrics)
        attempt, depth = self.chronicle.attempt, len(self.chronicle.exchanges)
        messages = self.chronicle.compose(text, self.engines.model.count, self._room())
        if messages is None:
            turn.refuse(
                tr("메시지가 모델의 한도보다 깁니다. 나누어 보내세요.", "the message is longer than the model can read; send it in parts")
            )
            return turn
        await turn.write(messages, derive_seed(self.config.seed, "turn", depth, attempt), lambda: self._commit(text, turn))
        return turn

    def _room(self) -> int:
        return self.engines.model.context_tokens - self.config.sampling.max_new_tokens

    def _commit(self, text: str, turn: Turn) -> None:
        """Keep the reply, however it ended, before its speech is over."""
        reply = turn.parsed().shown.strip()
        if not reply:
            if not turn.failure and not turn.is_cancelled():
                turn.fail(tr("모델이 아무 말도 하지 않았습니다. 다시 말해 보세요.", "the model wrote nothing; say it again"))
            return
        self.last = turn
        self._keep(lambda: self.chronicle.commit(text, reply, complete=not turn.failure), turn)
        if (head := self.chronicle.head) is not None:
            self._nodes[id(turn)] = head

    async def _end(self, turn: Turn) -> None:
        is_first = await turn.finish()
        if self._current is turn:
            self._current = None
        if not is_first:
            return
        self._sink_failed = self._sink_failed or turn.sink_failed
        node = self._nodes.pop(id(turn), None)
        if node is not None:
            self._keep(lambda: self.chronicle.finish(node, turn.outcome()), turn)
        if self._current is None and not turn.is_cancelled() and node is not None:
            self._resting = asyncio.create_task(self._rest_after(turn))

    def _keep(self, action: Callable[[], object], turn: Turn | None) -> None:
        """Write to the chronicle; a full disk costs the saving, not the conversation."""
        try:
            action()
        except LabError as error:
            logger.warning("the conversation is not saved: %s", error)
            if turn is not None:
                turn.note("store", tr(f"대화를 저장하지 못했습니다: {error}", f"the conversation is not saved: {error}"))

    # -- between turns

    async def _rest_after(self, turn: Turn) -> None:
        """Do what may wait until the sound is over; whatever fails here costs comfort only."""
        try:
            if self.afterwards is not None:
                await self.afterwards(turn)
        except Exception:
            logger.exception("what follows a turn failed")
        try:
            if self.config.prefill:
                await self._prefill()
        except Exception:
            logger.exception("the next prompt was not read ahead")

    async def _prefill(self) -> None:
        """Read the next prompt as far as it is known, so that the next turn costs only what the player types."""
        model = self.engines.model
        messages = self.chronicle.compose("", model.count, self._room())
        if messages is not None:
            await aside.read_ahead(self._threads, model, messages, timeout_s=self.config.reply_timeout_s)

    async def _recover_sink(self) -> str:
        """Open the sound again after the device was taken away; returns what to tell the player."""
        if not self._sink_failed or self.engines.reopen_sink is None:
            return ""
        try:
            sink, note = await self._threads.call("sink", self.engines.reopen_sink, timeout_s=_SINK_OPENS_WITHIN_S)
        except (AudioError, TimeoutError) as error:
            logger.info("still no sound: %s", error)
            return ""
        voice = self.engines.voice
        if voice is not None and sink.sample_rate != voice.sample_rate:
            sink.close()
            return ""
        await self.use_sink(sink)
        return tr(f"소리를 다시 연결했습니다. {note}", f"sound is back. {note}")


def _whole_characters(text: str) -> str:
    """Replace halves of characters, which a wrongly encoded command line brings and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
