"""The session: a conversation, one turn after another.

What happens between Enter and the first sound is in `rplab.play.turn`. Here: the prompt (system text, the window of the
history, the new message), committing text before speech, regenerating and undoing, saving.

A session is used from one event loop. A turn starts by cancelling the one before, so typing while the character speaks
interrupts it (barge-in).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rplab.errors import LabError
from rplab.l10n import tr
from rplab.play.config import PlayConfig
from rplab.play.context import TurnContext
from rplab.play.engines import Engines
from rplab.play.events import SessionEvent
from rplab.play.history import Exchange, fit_messages
from rplab.play.metrics import TurnMetrics
from rplab.play.parse import ReplyParser
from rplab.play.store import SessionLog
from rplab.play.threads import Threads
from rplab.play.turn import Turn
from rplab.seeding import derive_seed

logger = logging.getLogger(__name__)

Listener = Callable[[SessionEvent], None]


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

    def __init__(self, scene: Scene, engines: Engines, config: PlayConfig, log: SessionLog | None = None) -> None:
        """Start a conversation, or go on with the one that `log` holds.

        Args:
            scene: Who talks.
            engines: Model and, for speech, translator, voice and sink.
            config: Settings.
            log: Where turns are saved; None keeps them in memory only.
        """
        self.scene = scene
        self.engines = engines
        self.config = config
        self.exchanges: list[Exchange] = list(log.exchanges) if log else []
        self.metrics: deque[TurnMetrics] = deque(maxlen=500)
        """Of the latest turns, oldest first; the one in progress is the last."""
        self._log = log
        self._threads = Threads()
        self._current: Turn | None = None
        self._attempt = 0

    async def say(self, text: str, on_event: Listener) -> Turn:
        """Send a message; returns when the reply's text is complete and saved, while speech may go on.

        Args:
            text: What the player writes.
            on_event: Called for everything that happens, in order, in this event loop.
        """
        await self.stop()
        self._attempt = 0
        return await self._reply(_whole_characters(text), on_event)

    async def regenerate(self, on_event: Listener) -> Turn | None:
        """Take the last reply back and draw another; None when there is none."""
        await self.stop()
        if not self.exchanges:
            return None
        last = self.exchanges.pop()
        self._attempt += 1
        turn = await self._reply(last.user, on_event, replaces=True)
        if not turn.parsed().shown.strip():
            self.exchanges.append(last)
        return turn

    async def undo(self) -> Exchange | None:
        """Take the last exchange back; None when there is none."""
        await self.stop()
        if not self.exchanges:
            return None
        last = self.exchanges.pop()
        self._attempt = 0
        self._save(lambda log: log.append_undo(), None)
        return last

    async def stop(self) -> None:
        """Stop the turn in progress, if there is one: no more text, no more sound; what was shown is kept."""
        turn = self._current
        if turn is not None:
            turn.cancel()
            await self._end(turn)

    async def finish(self, turn: Turn) -> None:
        """Wait until a turn was spoken, or interrupted, and keep its numbers."""
        await self._end(turn)

    async def aclose(self) -> None:
        """Stop and give threads and devices back."""
        await self.stop()
        self._threads.close()
        if self.engines.sink is not None:
            self.engines.sink.close()
        if self.engines.voice is not None:
            self.engines.voice.close()
        if self._log is not None:
            self._log.close()

    async def _reply(self, text: str, on_event: Listener, *, replaces: bool = False) -> Turn:
        parser = ReplyParser(
            protagonist=self.scene.protagonist, player=self.scene.player, first_clause_chars=self.config.first_clause_chars
        )
        context = TurnContext(self.engines, self.config, self._threads, on_event)
        turn = Turn(context, parser)
        self._current = turn
        self.metrics.append(turn.metrics)
        fitted = fit_messages(
            self.scene.system,
            self.exchanges,
            text,
            max_turns=self.config.max_history_turns,
            fits=lambda messages: self.engines.model.fits(messages, self.config.sampling),
        )
        if fitted is None:
            turn.refuse(
                tr("메시지가 모델의 한도보다 깁니다. 나누어 보내세요.", "the message is longer than the model can read; send it in parts")
            )
            return turn
        seed = derive_seed(self.config.seed, "turn", len(self.exchanges), self._attempt)
        await turn.write(fitted[0], seed, lambda: self._commit(text, turn, replaces=replaces))
        return turn

    def _commit(self, text: str, turn: Turn, *, replaces: bool) -> None:
        """Keep the reply, however it ended, before its speech is over."""
        reply = turn.parsed().shown.strip()
        if not reply:
            if not turn.failure and not turn.is_cancelled():
                turn.fail(tr("모델이 아무 말도 하지 않았습니다. 다시 말해 보세요.", "the model wrote nothing; say it again"))
            return
        exchange = Exchange(text, reply)
        self.exchanges.append(exchange)
        self._save(lambda log: log.append_turn(exchange, replaces=replaces, complete=not turn.failure), turn)

    async def _end(self, turn: Turn) -> None:
        is_first = await turn.finish()
        if self._current is turn:
            self._current = None
        if is_first and turn.parsed().shown.strip():
            japanese = [line.japanese for line in turn.lines]
            notices = [notice.message for notice in turn.notices]
            self._save(lambda log: log.append_speech(japanese, turn.metrics.as_json(), notices), turn)

    def _save(self, action: Callable[[SessionLog], None], turn: Turn | None) -> None:
        """Write to the log; a full disk costs the saving, not the conversation."""
        if self._log is None:
            return
        try:
            action(self._log)
        except LabError as error:
            logger.warning("the conversation is not saved: %s", error)
            if turn is not None:
                turn.note("store", tr(f"대화를 저장하지 못했습니다: {error}", f"the conversation is not saved: {error}"))


def _whole_characters(text: str) -> str:
    """Replace halves of characters, which a wrongly encoded command line brings and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
