"""How many requests may be open, and how fast new ones may start: learned from what the server does.

Two controls, because servers limit two things:

- Concurrency: x0.75 once per burst of 429s, +1 per 25 answers (per 5 when the 429s named no waiting time: such servers
  are full for a moment, not strict), half as much again per round trip until the first burst.
- Pace: from a burst on, requests start no faster than the server was seen to accept them. It doubles until refusals
  show where the server's limit is, then creeps up while few are refused and falls back to the accepted rate when more
  are: a limit of N per minute is met within a few percent whatever the latency is. It goes away when it is no longer
  what holds requests back.

A lone 429 is not a burst: servers refuse at random, too, and a limit that fell at each of those would collapse
(spec/data.md 3.4: 76 s instead of 16 s in another engine). Such a request waits by itself.

`Aimd` is pure (time is an argument) and can be simulated; `Gate` lets coroutines wait for it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Literal

Outcome = Literal["ok", "failed", "limited", "dropped"]
"""An answer, a server error, a refusal for speed (429), or nothing learned (the caller gave up)."""

DECREASE = 0.75
FIRST_STEP = 0.5
"""Growth per answer before the first burst: half as much again per round trip. Doubling wastes twice as many 429s."""
SUCCESSES_PER_STEP = 25
SUCCESSES_PER_FAST_STEP = 5
BURST_WINDOW = 20
BURST_SIZE = 6
"""429s among the last `BURST_WINDOW` outcomes that make a burst: 5 % at random do so about once in 3,000 requests."""
REFUSED_SHARE = 0.1
"""Share of 429s in a pace period from which on the pace is above the server's limit."""
SEARCH_SHARE = 0.25
"""The same while the pace doubles: one period holds few outcomes then, and random 429s must not end the search."""
PERIOD_S, SEARCH_PERIOD_S = 1.0, 0.25
MIN_PERIOD_OUTCOMES = 20
FIRST_GROWTH, GROWTH_FACTOR, MAX_GROWTH = 0.015, 1.5, 0.25
PACE_BURST_S = 0.05
"""Requests may catch up on this much of the schedule at once (timers are no finer than a millisecond)."""
PACE_DECREASE = 0.75
"""Most that a burst takes from a pace that is known: random 429s come in clumps, too."""
LEAST_SEARCH_PACE = 5.0
SLACK_PERIODS = 5
_BUCKETS = 10


class Aimd:
    """Limits learned from outcomes; knows no clock and no event loop."""

    def __init__(self, cap: int, start: int = 16) -> None:
        """Start with `start` open requests (at most `cap`) and no pace."""
        self._cap = float(cap)
        self.limit = float(min(start, cap))
        self.in_flight = 0
        self.pace = math.inf
        """Starts per second."""
        self.bursts = 0
        self.paused_until = -math.inf
        self._next_start = -math.inf
        self._recent: deque[bool] = deque(maxlen=BURST_WINDOW)
        self._step = SUCCESSES_PER_STEP
        self._decreased = -math.inf
        self._accepted: deque[list[int]] = deque()
        self._period_start = 0.0
        self._period: list[int] = [0, 0]
        self._growth = FIRST_GROWTH
        self._searching = True
        self._slack = 0

    def ready_at(self, now: float) -> float:
        """Return when the next request may start: `now` or earlier = at once, infinity = when another one ends."""
        if self.in_flight >= int(self.limit):
            return math.inf
        return max(self.paused_until, self._next_start, -math.inf if self.pace == math.inf else now - PACE_BURST_S)

    def start(self, now: float) -> int:
        """Count a request as open; hand the returned number back to `finish`."""
        self.in_flight += 1
        if self.pace != math.inf:
            self._next_start = max(self._next_start, now - PACE_BURST_S) + 1 / self.pace
        return self.bursts

    def finish(self, now: float, started: int, outcome: Outcome, retry_after: float | None = None) -> None:
        """Learn from an outcome.

        Args:
            now: Time in seconds, any origin.
            started: What `start` returned.
            outcome: What came back.
            retry_after: Seconds that a 429 asked to wait, when it did.
        """
        self.in_flight -= 1
        if outcome == "dropped":
            return
        refused = outcome == "limited"
        if refused:
            self._refused(now, started, retry_after)
        else:
            self._recent.append(False)
            self._count_accepted(now)
            if outcome == "ok":
                self._grow()
        if self.pace != math.inf and started == self.bursts:
            self._period[refused] += 1
            self._steer(now)

    def _grow(self) -> None:
        if self.in_flight + 1 >= 0.8 * self.limit:  # a limit that nobody reaches says nothing
            self.limit = min(self._cap, self.limit + (1 / self._step if self.bursts else FIRST_STEP))

    def _refused(self, now: float, started: int, retry_after: float | None) -> None:
        if started != self.bursts:  # sent before the burst was noticed: still the same burst
            self.paused_until = max(self.paused_until, now + (retry_after or 0.0))
            return
        self._recent.append(True)
        if sum(self._recent) < BURST_SIZE:
            return
        self._recent.clear()
        self.bursts += 1
        if now - self._decreased >= PERIOD_S:  # bursts while the pace is being found are one
            self._decreased = now
            self.limit = max(1.0, self.limit * DECREASE)
        self._step = SUCCESSES_PER_STEP if retry_after is not None else SUCCESSES_PER_FAST_STEP
        self.paused_until = max(self.paused_until, now + (retry_after or 0.0))
        self._set_pace(now, self._seen_pace(now))

    def _seen_pace(self, now: float) -> float:
        """Return the rate at which the server accepted requests, as well as it can be told at a burst."""
        accepted, refused = self._period
        elapsed = now - self._period_start
        last_second = self._accepted_per_s(now)
        if self.pace == math.inf:
            return max(last_second, LEAST_SEARCH_PACE)
        if accepted + refused >= 2 * BURST_SIZE - 2 and elapsed > 0:
            last_second = min(last_second, accepted / elapsed)
            self._searching = False
        return max(1.0, last_second, 0.0 if self._searching else self.pace * PACE_DECREASE)

    def _set_pace(self, now: float, pace: float) -> None:
        self.pace = pace
        self._growth, self._slack = FIRST_GROWTH, 0
        self._period_start, self._period = max(now, self.paused_until), [0, 0]
        self._next_start = max(self._next_start, now)

    def _steer(self, now: float) -> None:
        """Adjust the pace at the end of a period."""
        accepted, refused = self._period
        elapsed = now - self._period_start
        total = accepted + refused
        if elapsed < (SEARCH_PERIOD_S if self._searching else PERIOD_S) or total < min(MIN_PERIOD_OUTCOMES, max(3.0, self.pace)):
            return
        if refused >= 3 and refused >= (SEARCH_SHARE if self._searching else REFUSED_SHARE) * total:
            self._searching = False
            self._set_pace(now, max(1.0, min(self.pace, accepted / elapsed) * 0.99))
            return
        if total < 0.8 * self.pace * elapsed:
            self._slack += 1
            if self._slack >= SLACK_PERIODS:
                self.pace, self._searching = math.inf, True
        else:
            self._slack = 0
            self.pace *= 2 if self._searching else 1 + self._growth
            self._growth = min(MAX_GROWTH, self._growth * GROWTH_FACTOR)
        self._period_start, self._period = now, [0, 0]

    def _count_accepted(self, now: float) -> None:
        bucket = int(now * _BUCKETS)
        if self._accepted and self._accepted[-1][0] == bucket:
            self._accepted[-1][1] += 1
            return
        self._accepted.append([bucket, 1])
        while self._accepted[0][0] <= bucket - _BUCKETS:
            self._accepted.popleft()

    def _accepted_per_s(self, now: float) -> float:
        oldest = int(now * _BUCKETS) - _BUCKETS
        return float(sum(count for bucket, count in self._accepted if bucket > oldest))


class Gate:
    """Lets coroutines through as `Aimd` allows; repeated requests go before new ones."""

    def __init__(self, control: Aimd, clock: Callable[[], float] | None = None) -> None:
        """Bind the control; must be used inside one event loop."""
        self.control = control
        self._clock = clock or asyncio.get_running_loop().time
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, *, again: bool = False) -> int:
        """Wait for a place and take it; hand the returned number back to `leave`."""
        now = self._clock()
        if not self._waiting and self.control.ready_at(now) <= now:
            return self.control.start(now)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if again:
            self._waiting.appendleft(future)
        else:
            self._waiting.append(future)
        self._let_in()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # let in and cancelled in the same moment
                self.leave(future.result(), "dropped")
            raise

    def leave(self, started: int, outcome: Outcome, retry_after: float | None = None) -> None:
        """Give the place back and say what came of it."""
        self.control.finish(self._clock(), started, outcome, retry_after)
        if self._waiting:
            self._let_in()

    def _let_in(self) -> None:
        now, when = self._clock(), math.inf
        while self._waiting and (when := self.control.ready_at(now)) <= now:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(self.control.start(now))
        if not self._waiting or when == math.inf:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, when - now), self._let_in)
