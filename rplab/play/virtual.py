"""A clock that moves only when everybody waits: a conversation of minutes passes in milliseconds, and always the same.

`run` drives a coroutine in an event loop whose time jumps to the next thing that is due. `VirtualThreads` stands for the
engines' threads: a call runs at once and takes as long as the engine says with `spend`. `VirtualSink` plays at the speed of
that clock. What is left on the clock is then the pipeline itself: its waits, polls and orders. For tests and benchmarks.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import numpy as np

from rplab.play.devices import RingSink
from rplab.play.threads import Threads
from rplab.tts.engine import Samples

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    """Never waits: a wait moves the clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return what is ready; where nothing is, let the time pass."""
        ready: list[Any] = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is due and nothing will come: the coroutine waits for ever")
        if not ready and timeout:
            self.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own, which starts at 0."""

    def __init__(self) -> None:
        """Start at 0."""
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds on the clock."""
        return self._virtual.now_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a virtual clock."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class VirtualThreads(Threads):
    """Engines are called in the loop; their calls take the time that they say."""

    def __init__(self) -> None:
        """Start idle."""
        super().__init__()
        self._locks: dict[str, asyncio.Lock] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._spent_s = 0.0

    def spend(self, seconds: float) -> None:
        """Say, inside of an engine, that this takes so long."""
        self._spent_s += seconds

    async def call(self, part: str, function: Callable[..., T], *arguments: Any, timeout_s: float) -> T:
        """See `Threads.call`: one call of a part at a time, and who is cancelled does not stop the engine."""
        task = asyncio.ensure_future(self._work(part, function, arguments))
        self._running.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            raise TimeoutError(f"no answer for {timeout_s:g} s")
        return task.result()

    def send(self, part: str, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ARG002 - of the base
        """See `Threads.send`."""
        function(*arguments)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: nobody may be waiting for it any more

    async def _work(self, part: str, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        async with self._locks.setdefault(part, asyncio.Lock()):
            self._spent_s = 0.0
            try:
                return function(*arguments)
            finally:
                await asyncio.sleep(self._spent_s)


class VirtualSink(RingSink):
    """A loudspeaker that plays with the clock it is given, or only when `advance` is called."""

    name = "virtual"

    def __init__(self, rate_hz: int, max_buffered_s: float = 600.0, *, clock: Callable[[], float] | None = None) -> None:
        """Start at the clock's time.

        Args:
            rate_hz: Frames per second.
            max_buffered_s: As for every sink; a writer that waits here would stop a virtual clock.
            clock: Seconds; None waits for `advance`.
        """
        super().__init__(rate_hz, max_buffered_s)
        self.heard: list[Samples] = []
        self._clock = clock
        self._read_frames = 0
        self._started = clock() if clock is not None else 0.0

    @property
    def played_frames(self) -> int:
        """Frames played until now."""
        self._catch_up()
        return self._ring.played_frames

    def write(self, samples: Samples) -> bool:
        """See `AudioSink.write`."""
        self._catch_up()
        return super().write(samples)

    def finish(self) -> None:
        """See `AudioSink.finish`."""
        self._catch_up()
        super().finish()

    def clear(self) -> None:
        """See `AudioSink.clear`."""
        self._catch_up()
        super().clear()

    def advance(self, seconds: float) -> Samples:
        """Let time pass and return what was heard in it."""
        samples = self._ring.read(round(seconds * self.sample_rate))
        self.heard.append(samples)
        self._read_frames += len(samples)
        return samples

    def close(self) -> None:
        """See `AudioSink.close`."""
        self._ring.close()

    def sound(self) -> Samples:
        """Return everything that was heard, silence included."""
        self._catch_up()
        return np.concatenate(self.heard) if self.heard else np.zeros(0, dtype=np.float32)

    def silence_runs_s(self, threshold: float = 0.01) -> list[float]:
        """Return the lengths of the silences between the first and the last sound heard, seconds."""
        loud = np.flatnonzero(np.abs(self.sound()) > threshold)
        steps = np.diff(loud)
        return [float(step - 1) / self.sample_rate for step in steps if step > 1]

    def _catch_up(self) -> None:
        if self._clock is None:
            return
        due = int((self._clock() - self._started) * self.sample_rate + 1e-6) - self._read_frames
        if due > 0:
            self.heard.append(self._ring.read(due))
            self._read_frames += due
