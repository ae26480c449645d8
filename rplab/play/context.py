"""What the steps of one turn share: engines, settings, the clock, the cancel flag, and the way to tell the player."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from rplab.errors import LabError
from rplab.play.config import PlayConfig
from rplab.play.engines import Engines
from rplab.play.events import Notice, SessionEvent
from rplab.play.metrics import TurnMetrics
from rplab.play.threads import Threads

logger = logging.getLogger(__name__)

T = TypeVar("T")
Part: TypeAlias = Literal["reply", "translation", "voice", "audio", "store"]
END = object()
"""What `take_next` returns when an iterator has no more."""


@dataclass
class TurnContext:
    """One turn's surroundings. Made inside the event loop when the turn begins."""

    engines: Engines
    config: PlayConfig
    threads: Threads
    on_event: Callable[[SessionEvent], None]
    metrics: TurnMetrics = field(default_factory=TurnMetrics)
    notices: list[Notice] = field(default_factory=list[Notice])
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    narrated_chars: int = 0
    """Narration shown so far."""
    sink_failed: bool = False
    """The sound device was taken away during this turn."""
    started: float = 0.0

    def __post_init__(self) -> None:
        """Start the clock."""
        self.started = self.now()

    def now(self) -> float:
        """Seconds on the clock of the event loop: every time in a turn is read here, so that tests can move it."""
        return asyncio.get_running_loop().time()

    def is_cancelled(self) -> bool:
        """Whether the turn was interrupted."""
        return self.cancelled.is_set()

    def elapsed(self) -> float:
        """Seconds since the message was sent."""
        return self.now() - self.started

    def notice(self, part: Part, message: str) -> None:
        """Tell, once a turn for each part, that it did not work."""
        if self.is_told(part):
            return
        self.notices.append(Notice(part, message))
        self.on_event(self.notices[-1])

    def is_told(self, part: Part) -> bool:
        """Whether the player knows already that a part did not work."""
        return any(notice.part == part for notice in self.notices)

    def explain(self, part: Part, error: BaseException) -> str:
        """Return an error in one line for the notice; what is not one of ours goes to the log with its traceback."""
        logger.info("%s failed", part, exc_info=None if isinstance(error, LabError) else error)
        return str(error) or type(error).__name__

    async def or_cancelled(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Wait for `work` or for the interruption; None when that came first (what runs in a thread runs on, unheard)."""
        call, cancelled = asyncio.ensure_future(work), asyncio.ensure_future(self.cancelled.wait())
        try:
            await asyncio.wait({call, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            return call.result() if call.done() else None
        finally:
            cancelled.cancel()
            call.cancel()


def take_next(iterator: Iterator[Any]) -> Any:
    """Return the next item, or `END`: StopIteration cannot leave a thread."""
    return next(iterator, END)


def close_iterator(iterator: Iterator[Any]) -> None:
    """End a generator, so that what it holds (a lock, a cache) is free for the next."""
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
