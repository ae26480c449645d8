"""Threads for the engines: calls that block must not stop the event loop.

Not `ThreadPoolExecutor`: its threads are joined when the program ends, so one hung engine would keep `rplab play` from
ending. These are daemons.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """One thread for each engine, so that two calls never meet in one; a thread that hangs is left behind for a new one."""

    def __init__(self) -> None:
        """Start without threads."""
        self._jobs: dict[str, SimpleQueue[_Job | None]] = {}

    async def call(self, part: str, function: Callable[..., T], *arguments: Any, timeout_s: float) -> T:
        """Run `function` in the thread of `part`.

        Raises:
            TimeoutError: It took longer than `timeout_s`; the thread is given up.
            Exception: Whatever the function raised.
        """
        future = self._submit(part, function, arguments)
        waiting = asyncio.wrap_future(future)
        done, _ = await asyncio.wait({waiting}, timeout=timeout_s)
        if done:
            return waiting.result()
        waiting.cancel()
        if jobs := self._jobs.pop(part, None):
            jobs.put(None)
        raise TimeoutError(f"no answer for {timeout_s:g} s")

    def send(self, part: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Run `function` in the thread of `part` after what it is doing; nobody waits for it, errors are ignored."""
        if part in self._jobs:
            self._submit(part, function, arguments)

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        for jobs in self._jobs.values():
            jobs.put(None)
        self._jobs.clear()

    def _submit(self, part: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        jobs = self._jobs.get(part)
        if jobs is None:
            jobs = self._jobs[part] = SimpleQueue()
            threading.Thread(target=_work, args=(jobs,), name=f"play-{part}", daemon=True).start()
        future: Future[Any] = Future()
        jobs.put((future, function, arguments))
        return future


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, function, arguments = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = function(*arguments)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)
        else:
            future.set_result(result)
        del job, future, function, arguments  # the next wait must not keep a finished engine call alive
