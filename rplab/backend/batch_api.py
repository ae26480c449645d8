"""OpenAI's Batch API: half the price, answers within a day. For rows of one request each, never for turn loops.

A batch is a file with one request a line; the answers come back in any order, some of them perhaps not at all. Answers
go into the run's journal, so the ordinary stage picks them up as if it had asked itself and asks the missing ones online:

    write_batches(requests, config, folder) -> submit_batch(client, path, config) -> wait_for_batch(client, id)
    -> fetch_batch(client, state, folder) -> read_answers(paths, requests, config)

`rplab.dialogue.batch` keeps such a job on file (`rplab data batch`). Submitting goes through the `openai` package, whose client
handles uploads; the caller brings it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from rplab.backend.base import ChatRequest, ChatResult
from rplab.backend.config import OPENAI_URL, OpenAIConfig
from rplab.backend.dialect import Dialect
from rplab.errors import BackendError, DataError
from rplab.jsonl import write_text

MAX_REQUESTS = 50_000
MAX_BYTES = 200 * 10**6
"""Limits of one input file (OpenAI's documentation, 2025)."""
_ENDED = frozenset({"completed", "expired", "cancelled"})


class BatchClient(Protocol):
    """What is used of `openai.OpenAI`."""

    @property
    def files(self) -> Any:
        """`create(file=, purpose=)` and `content(id)`."""
        ...

    @property
    def batches(self) -> Any:
        """`create(...)`, `retrieve(id)` and `list(limit=)`."""
        ...


@dataclass(frozen=True)
class BatchState:
    """Where a submitted batch stands."""

    id: str
    status: str
    output_file: str | None
    error_file: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come; an expired batch still has the answers that were ready."""
        return self.status in _ENDED


def write_batches(requests: Sequence[ChatRequest], config: OpenAIConfig, folder: Path) -> list[Path]:
    """Write requests as batch input files `batch-000.jsonl`, ...; as many as the API's limits need.

    Raises:
        DataError: Two requests have the same key.
        StorageError: The folder cannot be written.
    """
    keys = [request.key for request in requests]
    if len(set(keys)) != len(keys):
        raise DataError("two requests of a batch have the same key", remedy="Keys must tell the answers apart")
    dialect = Dialect(config, config.base_url)
    paths: list[Path] = []
    for number, lines in enumerate(_pack(_line(request, dialect) for request in requests)):
        path = folder / f"batch-{number:03}.jsonl"
        write_text(path, lines)
        paths.append(path)
    return paths


def _line(request: ChatRequest, dialect: Dialect) -> str:
    item = {"custom_id": request.key, "method": "POST", "url": f"/v1{dialect.path}", "body": dialect.body(request)}
    return orjson.dumps(item).decode() + "\n"


def _pack(lines: Iterable[str]) -> Iterator[list[str]]:
    chosen: list[str] = []
    num_bytes = 0
    for line in lines:
        size = len(line.encode())
        if chosen and (len(chosen) == MAX_REQUESTS or num_bytes + size > MAX_BYTES):
            yield chosen
            chosen, num_bytes = [], 0
        chosen.append(line)
        num_bytes += size
    if chosen:
        yield chosen


def submit_batch(client: BatchClient, path: Path, config: OpenAIConfig, mark: str = "") -> str:
    """Upload an input file, start the batch, and return its id; `mark` goes into its metadata, where `find_batch` looks."""
    with path.open("rb") as handle:
        uploaded = client.files.create(file=handle, purpose="batch")
    endpoint = f"/v1{Dialect(config, config.base_url or OPENAI_URL).path}"
    marked = {"metadata": {"rplab": mark}} if mark else {}
    batch = client.batches.create(input_file_id=uploaded.id, endpoint=endpoint, completion_window="24h", **marked)
    return str(batch.id)


def find_batch(client: BatchClient, mark: str, newest: int = 100) -> str | None:
    """Return the id of the batch that was submitted with a mark, or None; only the newest ones are looked at."""
    for batch in itertools.islice(client.batches.list(limit=newest), newest):
        if (getattr(batch, "metadata", None) or {}).get("rplab") == mark:
            return str(batch.id)
    return None


def look_up_batch(client: BatchClient, batch_id: str) -> BatchState:
    """Return where a batch stands.

    Raises:
        BackendError: The API refused the batch as a whole.
    """
    batch = client.batches.retrieve(batch_id)
    if batch.status == "failed":
        errors: Any = getattr(batch, "errors", None)
        first: Any = next(iter(getattr(errors, "data", None) or []), None)
        raise BackendError(
            f"batch {batch_id} was refused: {getattr(first, 'message', 'no reason given')}. Correct the input and submit again"
        )
    return BatchState(batch_id, str(batch.status), batch.output_file_id, batch.error_file_id)


def wait_for_batch(
    client: BatchClient,
    batch_id: str,
    *,
    poll_s: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
    report: Callable[[BatchState], None] = lambda _: None,
) -> BatchState:
    """Poll until a batch has ended; `report` may raise to stop waiting (the batch goes on; its id is enough to come back)."""
    while not (state := look_up_batch(client, batch_id)).ended:
        report(state)
        sleep(poll_s)
    return state


def fetch_batch(client: BatchClient, state: BatchState, folder: Path) -> list[Path]:
    """Download the answers and the errors of an ended batch."""
    paths: list[Path] = []
    for name, file_id in (("output", state.output_file), ("errors", state.error_file)):
        if file_id is not None:
            path = folder / f"{state.id}-{name}.jsonl"
            write_text(path, client.files.content(file_id).read().decode("utf-8"))
            paths.append(path)
    return paths


def read_answers(paths: Iterable[Path], requests: Sequence[ChatRequest], config: OpenAIConfig) -> Iterator[tuple[ChatRequest, ChatResult]]:
    """Yield (request, answer) for every line that holds an answer; requests without one are simply not yielded.

    A failed line is no answer: the request can be asked again online, so nothing of it goes into a journal.

    Raises:
        DataError: A line that is no batch output, or an answer to a question that was not asked.
    """
    asked: Mapping[str, ChatRequest] = {request.key: request for request in requests}
    dialect = Dialect(config, config.base_url)
    for path in paths:
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if not line.strip():
                continue
            request, body = _read_line(line, asked, path, number)
            if body is None:
                continue
            try:
                yield request, dialect.read(request, body)
            except ValueError as error:
                raise DataError(f"no answer in it ({error})", file=path, line=number, remedy="Download the file again") from None


def _read_line(line: bytes, asked: Mapping[str, ChatRequest], path: Path, number: int) -> tuple[ChatRequest, bytes | None]:
    try:
        value: Any = orjson.loads(line)
        key, response = value["custom_id"], value.get("response")
        body = orjson.dumps(response["body"]) if response is not None and response["status_code"] == 200 else None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not a line of a batch output ({error})", file=path, line=number, remedy="Download the file again") from None
    if key not in asked:
        raise DataError(
            f"answer to {key!r}, which is not in this run", file=path, line=number, remedy="Use the settings of the submitted run"
        )
    return asked[key], body
