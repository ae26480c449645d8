"""How a run is doing, in one line for people: items, yield, requests a second, cost, time left.

Rates are those of the last half minute, so that answers found in the journal (thousands a second) do not promise an end
that never comes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rplab.backend.usage import Meter

WINDOW_S = 30.0


class Pace:
    """Remembers when how much was done."""

    def __init__(self, total: int, what: str, done_before: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock.

        Args:
            total: Items expected in all.
            what: Plural noun.
            done_before: Items finished in earlier rounds.
            clock: Seconds.
        """
        self._total, self._what, self._clock = total, what, clock
        self._marks: deque[tuple[float, int, int]] = deque([(clock(), done_before, 0)])

    def line(self, done: int, finished: int, good: int, asked: int, meter: Meter | None) -> str:
        """Return the line.

        Args:
            done: Items finished in all, earlier rounds included.
            finished: Items finished in this round.
            good: Those of them that were accepted.
            asked: Requests answered by the backend so far.
            meter: Of the backend, when it has one.
        """
        now = self._clock()
        self._marks.append((now, done, asked))
        while len(self._marks) > 2 and now - self._marks[1][0] > WINDOW_S:
            self._marks.popleft()
        then, done_then, asked_then = self._marks[0]
        seconds = max(now - then, 1e-9)
        parts = [f"{done:,} of {self._total:,} {self._what}"]
        if finished:
            parts.append(f"{good / finished:.0%} yield")
        if asked > asked_then:
            parts.append(f"{(asked - asked_then) / seconds:.1f} requests/s")
        if meter is not None and (spent := meter.spent_usd):
            parts.append(f"${spent:.4f} spent")
        if done_then < done < self._total:
            parts.append(f"{show_seconds((self._total - done) * seconds / (done - done_then))} left")
        return ", ".join(parts)


def show_seconds(seconds: float) -> str:
    """Return a duration for reading.

    >>> show_seconds(8.4), show_seconds(95), show_seconds(7300)
    ('8 s', '2 min', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
