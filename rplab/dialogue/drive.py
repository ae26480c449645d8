"""Runs many item coroutines against one backend: bounded, journalled, stoppable, and in any order with one result.

The unit of work is one item (a row, a scenario, a dialogue): a coroutine that asks the backend through an `Asker`.
Results are returned in item order, and an item's requests depend only on the item, so the outcome does not depend on
how many are in flight, in which order answers come, or how often the run was killed and started again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rplab.backend.base import ChatBackend, ChatRequest, ChatResult
from rplab.backend.usage import Meter, Metered
from rplab.dialogue.journal import SYNC_INTERVAL_S, Journal, request_hash
from rplab.dialogue.pace import Pace
from rplab.dialogue.shard_answers import take_over
from rplab.errors import DataError
from rplab.jsonl import JsonValue, write_text
from rplab.stage import StageContext

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Row = TypeVar("Row")


@dataclass(frozen=True)
class Reject:
    """An attempt, or an item, that was not good enough."""

    key: str
    reason: str
    """Machine-readable code."""
    text: str = ""
    """What was refused; left empty when the policy forbids keeping it."""
    detail: str = ""
    final: bool = False
    """Whether the item was given up with it."""


@dataclass(frozen=True)
class Outcome(Generic[Row]):
    """What became of one item: a row, or the reason why there is none."""

    row: Row | None
    status: str = "accepted"
    """`accepted`, `rejected` (answers were not good enough) or `failed` (no usable answer came)."""
    reason: str = ""
    attempts: int = 0
    """Requests made for the item, replayed ones included."""
    rejects: tuple[Reject, ...] = ()
    partial: Row | None = None
    """What there was when the item ended early."""


class Asker:
    """Asks the backend, through the journal: an answer is on file before it is returned."""

    def __init__(self, backend: ChatBackend, journal: Journal, context: StageContext) -> None:
        """Bind backend and journal."""
        self._backend = backend
        self._journal = journal
        self._context = context
        self.name = backend.name
        self.asked = 0
        self.replayed = 0

    async def ask(self, request: ChatRequest) -> ChatResult:
        """Return the recorded answer, or ask and record.

        Raises:
            BackendError: The backend cannot go on at all.
            StageInterrupted: A stop was asked for; all answers so far are in the journal.
        """
        key = request_hash(request, self.name)
        if (known := self._journal.get(key)) is not None:
            self.replayed += 1
            return known
        self._context.check_stop()
        result = await self._backend.complete(request)
        self._journal.put(key, result)
        self.asked += 1
        return result


def answer_fault(result: ChatResult) -> str | None:
    """Return why an answer cannot even be looked at, or None: an error, a cut, a refusal or nothing at all."""
    if result.finish_reason == "error":
        return "backend_error"
    if result.finish_reason == "length":
        return "cut_by_length"
    if result.finish_reason == "content_filter":
        return "content_filter"
    return None if result.text.strip() else "empty_answer"


NO_ANSWER = frozenset({"backend_error", "cut_by_length", "content_filter", "empty_answer"})
"""Reasons that count as `failed`, not as `rejected`."""


@dataclass
class Tally:
    """Counts of a run; planned = accepted + rejected + failed, always."""

    planned: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter[str])
    failed: Counter[str] = field(default_factory=Counter[str])
    retries: Counter[str] = field(default_factory=Counter[str])
    """Refused attempts by reason, whether or not the item succeeded later."""
    attempts: int = 0

    def add(self, outcome: Outcome[Row]) -> None:
        """Count one item."""
        self.planned += 1
        self.attempts += outcome.attempts
        for reject in outcome.rejects:
            self.retries[reject.reason] += 1
        if outcome.status == "accepted":
            self.accepted += 1
        elif outcome.status == "rejected":
            self.rejected[outcome.reason] += 1
        else:
            self.failed[outcome.reason] += 1

    def stats(self) -> dict[str, JsonValue]:
        """Return the counts for the manifest.

        Raises:
            DataError: A row was lost (our own bug, but never a silent one).
        """
        lost = self.planned - self.accepted - self.rejected.total() - self.failed.total()
        if lost:
            raise DataError(
                f"{lost} of {self.planned} planned items are unaccounted for", remedy="Please report this; nothing was published"
            )
        return {
            "planned": self.planned,
            "accepted": self.accepted,
            "rejected": dict(sorted(self.rejected.items())),
            "failed": dict(sorted(self.failed.items())),
            "attempts": self.attempts,
            "refused_attempts": dict(sorted(self.retries.items())),
        }


def drive(
    items: Sequence[Item],
    work: Callable[[Item, Asker], Awaitable[Outcome[Row]]],
    *,
    open_backend: Callable[[], ChatBackend],
    journal: Journal,
    in_flight: int,
    context: StageContext,
    done_before: int = 0,
    total: int | None = None,
    what: str = "items",
) -> list[Outcome[Row]]:
    """Run `work` over all items and return the outcomes in item order.

    Args:
        items: What to work on.
        work: Coroutine of one item; must depend on the item and the answers only.
        open_backend: Makes the backend, called inside the event loop.
        journal: Where answers are recorded.
        in_flight: Most items at work at once; each has one request open at a time.
        context: For progress and stopping.
        done_before: Items finished in earlier rounds, for the progress line.
        total: Items expected in all; the given ones when None.
        what: Plural noun for the progress line.

    Raises:
        StageInterrupted: A stop was asked for; everything answered is in the journal.
        BackendError: The backend gave up; everything answered is in the journal.
    """
    run = _Run(list(items), work, journal, context, done_before, total or len(items), what)
    return asyncio.run(run.run(open_backend, in_flight))


class _Run(Generic[Item, Row]):
    def __init__(
        self,
        items: list[Item],
        work: Callable[[Item, Asker], Awaitable[Outcome[Row]]],
        journal: Journal,
        context: StageContext,
        done_before: int,
        total: int,
        what: str,
    ) -> None:
        self._items = items
        self._work = work
        self._journal = journal
        self._context = context
        self._base = done_before
        self._total = total
        self._pace = Pace(total, what, done_before)
        self._outcomes: dict[int, Outcome[Row]] = {}
        self._num_good = 0
        self._meter: Meter | None = None

    async def run(self, open_backend: Callable[[], ChatBackend], in_flight: int) -> list[Outcome[Row]]:
        backend = open_backend()
        if isinstance(backend, Metered):
            self._meter = backend.meter
            self._meter.recall(self._journal.usages())  # a budget covers the stage, not the process
        asker = Asker(backend, self._journal, self._context)
        queue = iter(range(len(self._items)))
        workers = [asyncio.create_task(self._worker(queue, asker)) for _ in range(min(in_flight, len(self._items)))]
        ticker = asyncio.create_task(self._tick(asker))
        try:
            await asyncio.gather(*workers)
        finally:
            for task in (*workers, ticker):
                task.cancel()
            await asyncio.gather(*workers, ticker, return_exceptions=True)
            self._journal.sync()
            with suppress(Exception):
                await backend.aclose()
            self._write_usage()
        self._report(asker)
        return [self._outcomes[index] for index in range(len(self._items))]

    async def _worker(self, queue: Iterator[int], asker: Asker) -> None:
        for index in queue:
            self._context.check_stop()
            outcome = self._outcomes[index] = await self._work(self._items[index], asker)
            self._num_good += outcome.status == "accepted"
            await asyncio.sleep(0)  # an embedded backend never waits: let the others and the ticker run

    async def _tick(self, asker: Asker) -> None:
        while True:
            await asyncio.sleep(SYNC_INTERVAL_S)
            await asyncio.to_thread(self._journal.sync)
            self._report(asker)

    def _report(self, asker: Asker) -> None:
        finished = len(self._outcomes)
        line = self._pace.line(self._base + finished, finished, self._num_good, asker.asked, self._meter)
        recorded = f", {asker.replayed:,} answers from the journal" if asker.replayed else ""
        self._context.progress(self._base + finished, self._total, line + recorded)

    def _write_usage(self) -> None:
        """Write tokens, tries and money to `logs/usage.json` (it holds times, so it stays out of the digest)."""
        if self._meter is not None:
            text = json.dumps(self._meter.stats(), indent=2) + "\n"
            write_text(self._context.out / "logs" / "usage.json", text)


@contextmanager
def open_journal(context: StageContext, name: str) -> Generator[Journal]:
    """Open the journal of a stage in its resume directory; answers that shards handed over are taken into it."""
    with Journal(context.resume / f"{name}.journal") as journal:
        take_over(journal, context.resume)
        yield journal
