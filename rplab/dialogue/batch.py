"""OpenAI's Batch API for stages whose items need one answer: single-turn rows, verdicts, translations (half the price).

    submit:  first requests of the job -> input files -> uploaded, one batch each
    status:  where they stand
    collect: answers of the ended ones -> the journal of the ordinary run, which then takes them up and asks online for the rest

Everything is written to `job.json` as soon as it is known, so that each of the three can be stopped and run again. A batch
that was created just before a kill is found again by its mark, not submitted twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rplab.backend.base import ChatRequest
from rplab.backend.batch_api import (
    BatchClient,
    BatchState,
    fetch_batch,
    find_batch,
    look_up_batch,
    read_answers,
    submit_batch,
    write_batches,
)
from rplab.backend.config import BackendConfig, OpenAIConfig
from rplab.backend.open import open_backend
from rplab.dialogue.config import SingleturnConfig
from rplab.dialogue.journal import Journal, request_hash
from rplab.dialogue.pack import load_pack
from rplab.dialogue.singleturn import build_request, check_genres, draw_plan
from rplab.errors import BackendError, ConfigError
from rplab.jsonl import write_text

JOB = "job.json"
_SUBMITTING = "submitting"


@dataclass
class Part:
    """One input file and its batch."""

    file: str
    requests: int
    mark: str
    """In the batch's metadata; tells our batches apart."""
    batch: str | None = None
    status: str = "not submitted"


@dataclass
class BatchJob:
    """A submitted command."""

    argv: list[str]
    """The ordinary command, without `rplab data`."""
    digest: str
    """Of the requests; other settings or inputs have another one."""
    parts: list[Part] = field(default_factory=list[Part])


def first_requests(config: SingleturnConfig) -> list[ChatRequest]:
    """Return the first attempt of every single-turn row that the stage would plan."""
    pack = load_pack(config.pack)
    genres = check_genres(config.genres, tuple(pack.singleturn.genres), pack)
    plans = (draw_plan(config, pack, genres, index) for index in range(config.target_rows))
    return [build_request(plan, 0, "", config.seed, pack) for plan in plans]


def need_batch_endpoint(backend: BackendConfig | None) -> OpenAIConfig:
    """Return the backend when it has a Batch API.

    Raises:
        ConfigError: It has none.
    """
    if not isinstance(backend, OpenAIConfig):
        raise ConfigError(f"backend {backend.kind if backend else 'none'} has no Batch API. Use --backend openai")
    return backend


def prepare_job(folder: Path, argv: Sequence[str], requests: Sequence[ChatRequest], config: OpenAIConfig) -> BatchJob:
    """Write the input files of a job, or take up the job that is there.

    Args:
        folder: Of the job.
        argv: The command.
        requests: Its first requests.
        config: The endpoint.

    Raises:
        ConfigError: The folder holds another job.
        StorageError: It cannot be written.
    """
    digest = digest_of(requests, config)
    if (folder / JOB).is_file():
        job = read_job_file(folder)
        if job.digest != digest:
            raise ConfigError(f"{folder} holds a batch job of other settings or inputs ({' '.join(job.argv)}). Name another folder")
        return job
    paths = write_batches(requests, config, folder)
    parts = [Part(path.name, path.read_bytes().count(b"\n"), f"{digest}-{number}") for number, path in enumerate(paths)]
    job = BatchJob(list(argv), digest, parts)
    _save(folder, job)
    return job


def digest_of(requests: Sequence[ChatRequest], config: OpenAIConfig) -> str:
    """Return a digest of requests to an endpoint."""
    name = open_backend(config).name
    return hashlib.blake2b("".join(request_hash(request, name) for request in requests).encode(), digest_size=10).hexdigest()


def read_job_file(folder: Path) -> BatchJob:
    """Read a job.

    Raises:
        ConfigError: There is none, or it is damaged.
    """
    path = folder / JOB
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
        return BatchJob(value["argv"], value["digest"], [Part(**part) for part in value["parts"]])
    except FileNotFoundError:
        raise ConfigError(f"{folder}: no batch job here. Start one with `rplab data batch submit {folder} -- COMMAND`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: damaged ({error}). Delete it and submit again; batches that were submitted are found again") from None


def submit_job(folder: Path, job: BatchJob, config: OpenAIConfig, client: BatchClient) -> int:
    """Submit what is not submitted yet; return how many batches are new."""
    num_new = 0
    for part in job.parts:
        if part.batch is not None:
            continue
        if part.status == _SUBMITTING:  # killed in the middle: it may be there, and would be paid for twice
            part.batch = find_batch(client, part.mark)
        if part.batch is None:
            part.status = _SUBMITTING
            _save(folder, job)
            part.batch = submit_batch(client, folder / part.file, config, part.mark)
            num_new += 1
        part.status = "submitted"
        _save(folder, job)
    return num_new


def update_job(folder: Path, job: BatchJob, client: BatchClient) -> list[BatchState]:
    """Ask where the batches stand; one that was refused as a whole has the status `failed` and its reason."""
    states: list[BatchState] = []
    for part in job.parts:
        if part.batch is None:
            continue
        try:
            state = look_up_batch(client, part.batch)
        except BackendError as error:
            part.status = f"failed: {error}"
        else:
            part.status = state.status
            states.append(state)
    _save(folder, job)
    return states


def record_answers(
    folder: Path, states: Sequence[BatchState], requests: Sequence[ChatRequest], config: OpenAIConfig, client: BatchClient, journal: Path
) -> tuple[int, int]:
    """Put the answers of ended batches into the journal of the ordinary run.

    Returns:
        Answers that are new to the journal, and requests that have none.

    Raises:
        DataError: A downloaded file is damaged or belongs to another job.
        StorageError: Another process is at work with the journal.
    """
    paths = [path for state in states if state.ended for path in fetch_batch(client, state, folder)]
    name = open_backend(config).name  # nothing is connected before the first request
    num_recorded = 0
    with Journal(journal) as entries:
        for request, result in read_answers(paths, requests, config):
            key = request_hash(request, name)
            if entries.get(key) is None:
                entries.put(key, result)
                num_recorded += 1
        num_left = sum(entries.get(request_hash(request, name)) is None for request in requests)
    return num_recorded, num_left


def _save(folder: Path, job: BatchJob) -> None:
    write_text(folder / JOB, json.dumps(asdict(job), ensure_ascii=False, indent=1) + "\n")
