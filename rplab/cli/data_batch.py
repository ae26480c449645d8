"""`rplab data batch submit | status | collect`: OpenAI's Batch API for commands that need one answer an item (half the price)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rplab.cli.data_jobs import Job, read_job, run_job
from rplab.cli.data_options import Commands
from rplab.errors import BackendError, ConfigError
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.backend.config import OpenAIConfig
    from rplab.dialogue.batch import BatchJob

KINDS = ("singleturn", "judge", "translate")


def register(subparsers: Commands) -> None:
    """Add the commands."""
    text = tr("OpenAI Batch API로 절반 값에 (하루 안에 답)", "half the price through OpenAI's Batch API, answers within a day")
    example = "rplab data batch submit job -- singleturn --out rows.jsonl --backend openai --backend-set model=gpt-4o-mini"
    parser = subparsers.add_parser("batch", help=text, description=text, epilog=f"example: {example}")
    verbs = parser.add_subparsers(title="batch commands", metavar="COMMAND", required=True)
    for name, handler, korean, english, epilog in (
        ("submit", _submit, "명령의 요청을 모두 제출합니다", "submit all first requests of a command; again: what is missing", example),
        ("status", _status, "어디까지 왔는지 봅니다", "show where the batches stand", "rplab data batch status job"),
        ("collect", _collect, "답을 받아 명령을 끝냅니다", "take the answers and finish the command", "rplab data batch collect job"),
    ):
        verb = verbs.add_parser(name, help=tr(korean, english), description=tr(korean, english), epilog=f"example: {epilog}")
        verb.add_argument("folder", metavar="DIR", type=Path, help="of the job; holds its files and batch numbers")
        verb.add_argument("--json", action="store_true", help="print the result as one JSON object")
        verb.set_defaults(handler=handler)
        if name == "submit":
            verb.add_argument("argv", metavar="COMMAND", nargs="+", help=f"after --: {' | '.join(KINDS)}, with its options")
        if name == "collect":
            verb.add_argument("--partial", action="store_true", help="do not wait for batches that have not ended; ask for the rest online")


def _submit(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.batch import prepare_job, submit_job

    argv = [item for item in arguments.argv if item != "--"]
    job, requests, endpoint = _read_command(argv)
    batch_job = prepare_job(arguments.folder, argv, requests, endpoint)
    with _client(endpoint) as client:
        num_new = submit_job(arguments.folder, batch_job, endpoint, client)
    if arguments.json:
        print(json.dumps(_shown(batch_job)))
    else:
        of_all = f"{num_new}/{len(batch_job.parts)}"
        print(f"{job.out}: {len(requests):,} requests, " + tr(f"배치 {of_all}개를 새로 제출", f"{of_all} batches newly submitted"))
        print(f"  -> rplab data batch collect {arguments.folder}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.batch import read_job_file, update_job

    batch_job = read_job_file(arguments.folder)
    _, _, endpoint = _read_command(batch_job.argv)
    with _client(endpoint) as client:
        update_job(arguments.folder, batch_job, client)
    if arguments.json:
        print(json.dumps(_shown(batch_job)))
        return 0
    for part in batch_job.parts:
        print(f"{part.batch or '-':<36} {part.requests:>7,} requests  {part.status}")
    return 0


def _collect(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.batch import read_job_file, record_answers, update_job
    from rplab.dialogue.single_file import resume_folder

    batch_job = read_job_file(arguments.folder)
    job, requests, endpoint = _read_command(batch_job.argv)
    _check_unchanged(arguments.folder, batch_job, requests, endpoint)
    with _client(endpoint) as client:
        states = update_job(arguments.folder, batch_job, client)
        waiting = [part for part in batch_job.parts if part.batch is None or part.status in _UNDER_WAY]
        if waiting and not arguments.partial:
            raise BackendError(
                f"{len(waiting)} of {len(batch_job.parts)} batches have not ended. Run the same command later, "
                "or add --partial to ask for their rows online now"
            )
        journal = resume_folder(job.out) / f"{job.stage}.journal"
        recorded, left = record_answers(arguments.folder, states, requests, endpoint, client, journal)
    if not arguments.json:
        print(
            tr(f"답 {recorded:,}개를 받음, {left:,}개는 지금 물음", f"{recorded:,} answers taken, {left:,} asked for online now"),
            flush=True,
        )
    return run_job(job, as_json=arguments.json)


_UNDER_WAY = frozenset({"submitted", "submitting", "not submitted", "validating", "in_progress", "finalizing", "cancelling"})


def _check_unchanged(folder: Path, batch_job: BatchJob, requests: Sequence[Any], endpoint: OpenAIConfig) -> None:
    from rplab.dialogue.batch import digest_of

    if digest_of(requests, endpoint) != batch_job.digest:
        raise ConfigError(f"{folder}: the command's inputs have changed since it was submitted. Put them back, or submit to another folder")


def _read_command(argv: Sequence[str]) -> tuple[Job, list[Any], OpenAIConfig]:
    """Return the job of an ordinary command line, its first requests, and its endpoint."""
    from rplab.cli import data_annotate, data_generate
    from rplab.dialogue.batch import need_batch_endpoint

    parser = argparse.ArgumentParser(prog="rplab data batch submit DIR --")
    commands = parser.add_subparsers(required=True, dest="command")
    data_generate.register(commands)
    data_annotate.register(commands)
    if not argv or argv[0] not in KINDS:
        raise ConfigError(f"a batch suits commands with one answer an item: {', '.join(KINDS)}. Name one of them after --")
    arguments = parser.parse_args(argv)
    readers = {"singleturn": read_job, "judge": data_annotate.read_judge, "translate": data_annotate.read_translate}
    job = readers[argv[0]](arguments)
    assert job.first_requests is not None, "every kind above has them"
    return job, job.first_requests(), need_batch_endpoint(getattr(job.config, "backend", None))


@contextmanager
def _client(endpoint: OpenAIConfig) -> Generator[Any]:
    """Yield OpenAI's client; its errors become ours."""
    import openai

    from rplab.backend.openai import find_key

    _, key = find_key(endpoint, endpoint.base_url)
    client = openai.OpenAI(base_url=endpoint.base_url, api_key=key or "none", max_retries=endpoint.max_retries, timeout=endpoint.timeout_s)
    try:
        yield client
    except openai.APIStatusError as error:
        message = str(error.message).replace(key, "***") if key else str(error.message)
        raise BackendError(f"{endpoint.base_url}: HTTP {error.status_code} ({message[:300]}). Check the key, then run again") from None
    except openai.OpenAIError as error:
        raise BackendError(f"{endpoint.base_url}: {type(error).__name__} ({str(error)[:200]}). Run the same command again") from None
    finally:
        client.close()


def _shown(batch_job: BatchJob) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(batch_job)
