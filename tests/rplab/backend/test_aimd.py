"""The learned limits, simulated against servers of several kinds: no network, no clock."""

import asyncio
import heapq
import random

import pytest

from rplab.backend.aimd import Aimd, Gate


def simulate(num_requests, *, workers=64, rpm=0, p429=0.0, retry_after=True, latency=0.02, places=0, seed=1):
    """Return (seconds, 429s, control) of a run against a token bucket, random 429s, or a number of places."""
    draw, control = random.Random(seed), Aimd(1024)
    now, events, order, done, refused, open_now = 0.0, [], 0, 0, 0, 0
    left, waiting = num_requests, []
    bucket, filled = rpm / 60, 0.0

    def later(seconds, *what):
        nonlocal order
        order += 1
        heapq.heappush(events, (now + seconds, order, *what))

    for _ in range(min(workers, left)):
        waiting.append(0)
        left -= 1
    while done < num_requests:
        while waiting and control.ready_at(now) <= now:
            waiting.pop()
            started, wait = control.start(now), 0.05
            limited = False
            if rpm:
                bucket, filled = min(rpm / 60, bucket + (now - filled) * rpm / 60), now
                limited, wait = bucket < 1, max(0.0, 1 - bucket) * 60 / rpm
                bucket -= not limited
            limited = limited or draw.random() < p429 or (0 < places <= open_now)
            open_now += not limited
            later(0.002 if limited else latency * (1 + 0.1 * draw.random()), "limited" if limited else "ok", started, wait)
        ready = control.ready_at(now) if waiting else float("inf")
        if events and events[0][0] <= ready:
            now, _, what, started, wait = heapq.heappop(events)
            if what == "again":
                waiting.append(0)
                continue
            control.finish(now, started, what, wait if retry_after else None)
            if what == "ok":
                done, open_now = done + 1, open_now - 1
                if left:
                    left -= 1
                    waiting.append(0)
            else:
                refused += 1
                later((wait if retry_after else 0.25) * (1 + 0.25 * draw.random()), "again", 0, 0.0)
        else:
            now = max(ready, now + 1e-6)
    return now, refused, control


@pytest.mark.parametrize("seed", range(3))
def test_a_limit_per_minute_is_met_closely(seed):
    seconds, refused, _ = simulate(1000, rpm=3000, seed=seed)

    assert seconds <= 21  # 19 s are the least: 50 at once, 50 a second
    assert refused <= 150


@pytest.mark.parametrize("retry_after", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_random_429s_do_not_make_it_collapse(seed, retry_after):
    calm, _, _ = simulate(4000, seed=seed)
    seconds, refused, control = simulate(4000, p429=0.05, retry_after=retry_after, seed=seed)

    assert refused >= 150
    assert seconds < 5 * calm  # another engine took 5 to 10 times as long (spec/data.md 3.4)
    assert control.limit >= 20


def test_a_server_with_few_places_is_kept_full():
    seconds, refused, control = simulate(2000, places=8, retry_after=False)

    assert seconds < 2 * 2000 * 0.021 / 8
    assert refused < 1000
    assert control.limit < 64


def test_the_limit_falls_once_per_burst_and_grows_by_one_per_25():
    control = Aimd(1024, start=64)
    started = [control.start(0.0) for _ in range(64)]
    for at, number in enumerate(started):
        control.finish(0.001 * at, number, "limited", 0.5)

    assert control.limit == 48
    assert control.bursts == 1
    assert control.paused_until == pytest.approx(0.563, abs=0.01)

    now = 1.0
    for _ in range(25):
        numbers = [control.start(now) for _ in range(48)]
        for number in numbers:
            control.finish(now, number, "ok")
        now += 0.1
        if control.limit >= 49:
            break
    assert 49 <= control.limit < 51


def test_waiting_coroutines_enter_in_order_and_cancelled_ones_give_their_place_back():
    async def run():
        gate = Gate(Aimd(2, start=2))
        entered = []

        async def one(name, again=False):
            ticket = await gate.enter(again=again)
            entered.append(name)
            return ticket

        first, second = await one("a"), await one("b")
        tasks = [asyncio.create_task(one(name)) for name in "cde"]
        retry = asyncio.create_task(one("retry", again=True))
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        gate.leave(first, "ok")
        gate.leave(second, "ok")
        await asyncio.sleep(0.01)
        assert entered == ["a", "b", "retry", "d"]
        gate.leave(retry.result(), "ok")
        await asyncio.sleep(0.01)
        assert entered[-1] == "e"
        assert gate.control.in_flight == 2

    asyncio.run(run())
