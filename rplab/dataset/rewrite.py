r"""Rewrite every turn of `{messages}` rows with a text model, one turn after the other, behind guards.

Each turn is asked for with its system text, the last rewritten exchanges and the original; what the guards refuse
(`rplab.dataset.rewrite_guards`) stays as it was, counted with the reason. Nothing is ever dropped: a row comes out with as
many turns as it went in with. Rows are independent, so many are at work at once; inside a row each turn waits for the one
before it. Answers are recorded before use, so a run that was killed asks again for at most what was in flight, and its
output is the same as that of an uninterrupted run.

The record is passed in (`AnswerLog`): the journal belongs to another room, and the command wires the two.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rplab.backend.base import ChatBackend, ChatRequest, ChatResult, Message, Sampling
from rplab.character import Register
from rplab.dataset.counts import RowCounts
from rplab.dataset.rewrite_guards import guard_player_turn, guard_reply
from rplab.errors import DataError, StageInterrupted
from rplab.jsonl import canonical, read_rows, write_rows
from rplab.seeding import content_id, derive_seed
from rplab.text.quotes import is_visible

SAMPLING = Sampling(temperature=0.3, top_p=0.9, max_tokens=512)
RECENT_EXCHANGES = 3

_TASKS = {
    "assistant": (
        "다음은 캐릭터의 응답 원문이다. 뜻과 사건, 말투를 그대로 두고 문장만 더 자연스러운 한국어로 다듬는다.\n"
        "형식: 첫 줄은 -다로 끝나는 3인칭 서술, 둘째 줄은 큰따옴표로 묶은 대사 하나. 새로운 사건이나 설명을 넣지 않는다.\n"
        "다듬은 글만 출력한다.\n\n원문:\n"
    ),
    "user": (
        "다음은 플레이어의 말 원문이다. 뜻과 말투, 형식을 그대로 두고 문장만 더 자연스러운 한국어로 다듬는다.\n"
        "다듬은 글만 출력한다.\n\n원문:\n"
    ),
}


class AnswerLog(Protocol):
    """Answers by the hash of their request, on file before they are used."""

    def get(self, key: str) -> ChatResult | None:
        """Return a recorded answer."""
        ...

    def put(self, key: str, result: ChatResult) -> None:
        """Record an answer."""
        ...

    def sync(self) -> None:
        """Bring what was recorded to the disk."""
        ...


class Rewriter:
    """Rewrites rows with one backend and one record."""

    def __init__(
        self,
        backend: ChatBackend,
        log: AnswerLog,
        hash_request: Callable[[ChatRequest, str], str],
        *,
        seed: int = 42,
        recent: int = RECENT_EXCHANGES,
        stop: threading.Event | None = None,
    ) -> None:
        """Bind what is needed.

        Args:
            backend: Answers.
            log: Record of answers.
            hash_request: Identity of a request to a named backend.
            seed: Root seed.
            recent: Exchanges before a turn that the model sees.
            stop: Set it to ask for an early end.
        """
        self._backend, self._log, self._hash = backend, log, hash_request
        self._seed, self._recent, self._stop = seed, recent, stop or threading.Event()
        self.counts = RowCounts()

    async def rewrite_row(self, row: Mapping[str, Any], source: Path, line: int) -> dict[str, Any]:
        """Return a row with its player and assistant turns rewritten.

        Raises:
            DataError: No messages, or a turn without role or text.
            StageInterrupted: A stop was asked for; answers so far are recorded.
        """
        messages = _checked(row, source, line)
        row_id = content_id("rewrite", canonical(messages))
        register = _register(row.get("meta"))
        done: list[dict[str, str]] = []
        for at, message in enumerate(messages):
            text = message["content"]
            if message["role"] in _TASKS and is_visible(text):
                text = await self._rewrite_turn(f"{row_id}/{at}", done, message, register, (source, line))
            done.append({**message, "content": text})
        return {**row, "messages": done}

    async def _rewrite_turn(
        self, key: str, done: Sequence[Mapping[str, str]], message: Mapping[str, str], register: Register | None, place: tuple[Path, int]
    ) -> str:
        original = message["content"]
        result = await self._ask(
            ChatRequest(key, _prompt(done, message, self._recent), derive_seed(self._seed, "rewrite", key), sampling=SAMPLING)
        )
        self.counts.notes["turns"] += 1
        if result.finish_reason != "stop":
            self.counts.drop(f"kept_original_{result.finish_reason}", *place)
            return original
        assistant = message["role"] == "assistant"
        guarded = guard_reply(original, result.text, register) if assistant else guard_player_turn(original, result.text)
        if guarded.refusal is not None:
            self.counts.drop(f"kept_original_{guarded.refusal.value}", *place)
        else:
            self.counts.notes["turns_rewritten"] += 1
        return guarded.text

    async def _ask(self, request: ChatRequest) -> ChatResult:
        key = self._hash(request, self._backend.name)
        if (known := self._log.get(key)) is not None:
            self.counts.notes["answers_from_record"] += 1
            return known
        if self._stop.is_set():
            raise StageInterrupted("stopped on request; run the same command again to go on")
        result = await self._backend.complete(request)
        if result.finish_reason != "error":  # a failed request is asked again by the next run
            self._log.put(key, result)
        return result


def _prompt(done: Sequence[Mapping[str, str]], message: Mapping[str, str], recent: int) -> tuple[Message, ...]:
    """Return the request: the system texts, the last exchanges as they are now, the task with the original."""
    systems = [turn["content"] for turn in done if turn["role"] == "system"]
    talk = [turn for turn in done if turn["role"] != "system"][-(2 * recent + 1) :] if recent else []
    while talk and talk[0]["role"] != "user":
        talk = talk[1:]
    context = "\n".join(f"[{'플레이어' if turn['role'] == 'user' else '캐릭터'}]\n{turn['content']}" for turn in talk)
    task = f"지금까지의 대화:\n{context}\n\n" if context else ""
    head: tuple[Message, ...] = ({"role": "system", "content": "\n\n".join(systems)},) if systems else ()
    return (*head, {"role": "user", "content": f"{task}{_TASKS[message['role']]}{message['content']}"})


def _checked(row: Mapping[str, Any], source: Path, line: int) -> list[dict[str, str]]:
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(
        isinstance(item, dict) and isinstance(item.get("role"), str) and isinstance(item.get("content"), str) for item in messages
    ):
        raise DataError("messages with role and content are needed", file=source, line=line, remedy="Convert the file: rplab data convert")
    return messages


def _register(meta: Any) -> Register | None:
    """Return the speech level that a row's metadata asks for."""
    value = meta.get("register") if isinstance(meta, dict) else None
    return Register(value) if value in {item.value for item in Register} else None


async def rewrite_file(source: Path, target: Path, rewriter: Rewriter, log: AnswerLog, *, in_flight: int = 64) -> RowCounts:
    """Rewrite a file; `target` appears at once and whole.

    Args:
        source: `{messages}` rows.
        target: The rewritten rows, in the same order.
        rewriter: Does the work.
        log: Its record; synced twice a second.
        in_flight: Rows at work at once; changes nothing but the speed.

    Raises:
        DataError: A broken row; found before anything is asked.
        BackendError: The backend cannot go on.
        StageInterrupted: A stop was asked for.
    """
    rows = list(read_rows(source))
    for line, row in rows:
        _checked(row, source, line)
    gate = asyncio.Semaphore(in_flight)

    async def work(line: int, row: dict[str, Any]) -> dict[str, Any]:
        async with gate:
            return await rewriter.rewrite_row(row, source, line)

    syncing = asyncio.create_task(_keep_synced(log))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(line, row)) for line, row in rows]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        syncing.cancel()
        log.sync()
    counts = rewriter.counts
    counts.rows = counts.kept = write_rows(target, [task.result() for task in tasks])
    counts.dropped_rows.sort(key=lambda item: (item["line"], item["reason"]))
    return counts


async def _keep_synced(log: AnswerLog) -> None:
    while True:
        await asyncio.sleep(0.5)
        log.sync()
