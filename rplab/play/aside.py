"""What a session does beside its turns: ask the model something, read the next prompt ahead, let a sound be heard again.

All of it gives way at once when the player types: the coroutine is cancelled, and the engine's thread, which cannot be, is
told through a flag that it looks at between two tokens or blocks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

from rplab.play.audio import AudioSink
from rplab.play.config import ReplySampling
from rplab.play.context import END, close_iterator, take_next
from rplab.play.engines import ReplyModel
from rplab.play.threads import Threads
from rplab.tts.engine import Samples

_LOOK_S = 0.05


async def ask(
    threads: Threads,
    model: ReplyModel,
    messages: Sequence[Mapping[str, str]],
    sampling: ReplySampling,
    *,
    seed: int,
    timeout_s: float,
) -> str:
    """Return the model's whole answer. Raises whatever the model raises, and CancelledError."""
    stop = threading.Event()
    pieces = model.stream(messages, sampling, seed=seed, cancelled=stop.is_set)
    parts: list[str] = []
    try:
        while (piece := await threads.call("model", take_next, pieces, timeout_s=timeout_s)) is not END:
            parts.append(piece)
    finally:
        stop.set()
        threads.send("model", close_iterator, pieces)
    return "".join(parts)


async def read_ahead(threads: Threads, model: ReplyModel, messages: Sequence[Mapping[str, str]], *, timeout_s: float) -> None:
    """Let the model read a prompt of which the next one will be a continuation."""
    stop = threading.Event()
    try:
        await threads.call("model", _prefill, model, messages, stop, timeout_s=timeout_s)
    finally:
        stop.set()


async def play_again(threads: Threads, sink: AudioSink, parts: Sequence[Samples], *, timeout_s: float) -> None:
    """Play sound to its end; silent at once when cancelled."""
    before, written = sink.played_frames, 0
    try:
        for part in parts:
            if not await threads.call("sink", sink.write, part, timeout_s=timeout_s):
                return
            written += len(part)
        await threads.call("sink", sink.finish, timeout_s=timeout_s)
        while sink.played_frames - before < written:
            await asyncio.sleep(_LOOK_S)
    except asyncio.CancelledError:
        sink.clear()
        raise


def _prefill(model: ReplyModel, messages: Sequence[Mapping[str, str]], stop: threading.Event) -> None:
    """Run in the model's thread; a turn that began meanwhile finds it free at once."""
    if not stop.is_set():
        model.prefill(messages, cancelled=stop.is_set)
