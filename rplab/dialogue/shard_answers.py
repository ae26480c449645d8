"""Sharded generation: several workers answer for a part of the items each, then one run takes all their answers over.

A shard is no smaller data set. It plans the whole run, works on its own items only (every N-th), and leaves its answers in
`answers.jsonl`. The merging run is the ordinary one with those answers in its journal: it checks them, counts them, drops
duplicates across shards and asks for what is still missing (rows beyond the target that make up for lost ones). So N
shards merged are the same bytes as one run that did everything itself, whatever N was and in whatever order they ran.

`answers.jsonl`: a line that says what the answers belong to, then `[request hash, answer]`, sorted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.backend.base import ChatResult
from rplab.dialogue.journal import Journal, read_result
from rplab.dialogue.shard import Shard, parse_shard
from rplab.errors import ConfigError, DataError
from rplab.jsonl import canonical, dumps, parse_row, write_text
from rplab.stage import StageConfig

ANSWERS = "answers.jsonl"
FOLDER = "shards"
"""Of the resume folder: answers to take over."""


@dataclass(frozen=True)
class Header:
    """What the answers of a file belong to."""

    stage: str
    shard: Shard
    config: Mapping[str, Any]
    """Settings of the run, `shard` left out."""
    inputs: Mapping[str, str]
    """Input name -> sha256 of the file that was read."""


def write_answers(path: Path, journal: Journal, stage: str, config: StageConfig, inputs: Mapping[str, Path]) -> None:
    """Write what a shard was answered; equal answers, equal bytes.

    Args:
        path: Target.
        journal: The answers.
        stage: Name of the stage.
        config: Its settings, with `shard`.
        inputs: Input name -> the file that was read.
    """
    settings = config.model_dump(mode="json")
    shard = settings.pop("shard")
    header = {
        "stage": stage,
        "shard": shard,
        "config": settings,
        "inputs": {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(inputs.items())},
    }
    lines = (dumps([key, journal.entry(key)]) + "\n" for key in sorted(journal.keys()))
    write_text(path, _chain(dumps(header) + "\n", lines))


def _chain(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def read_header(path: Path) -> Header:
    """Read what a file of answers belongs to.

    Raises:
        DataError: It is no such file.
    """
    try:
        with path.open(encoding="utf-8") as handle:
            row = parse_row(handle.readline(), path, 1)
        return Header(row["stage"], parse_shard(row["shard"]), row["config"], row["inputs"])
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="Name the files that `--shard` runs wrote") from None
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise DataError("no answers of a shard", file=path, line=1, remedy="Name the files that `--shard` runs wrote") from None


def read_answers(path: Path) -> Iterator[tuple[str, ChatResult]]:
    """Yield (request hash, answer).

    Raises:
        DataError: A damaged line.
    """
    with path.open("rb") as handle:
        next(handle)
        for number, line in enumerate(handle, start=2):
            try:
                key, fields = json.loads(line)
                yield key, read_result(fields)
            except (ValueError, TypeError, KeyError):
                raise DataError("a damaged line", file=path, line=number, remedy="Copy the file of the shard again") from None


def hand_over(files: Sequence[Path], resume: Path) -> None:
    """Put the answers of shards where the merging run finds them; a half-copied file never has its final name.

    Args:
        files: The shards' `answers.jsonl`.
        resume: Resume folder of the merging run.
    """
    folder = resume / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(files, start=1):
        target = folder / f"{number:04}.jsonl"
        temporary = target.with_suffix(".part")
        shutil.copyfile(path, temporary)
        temporary.replace(target)


def take_over(journal: Journal, resume: Path) -> int:
    """Take the handed-over answers into a journal; return how many were new to it."""
    num_new = 0
    for path in sorted((resume / FOLDER).glob("*.jsonl")):
        for key, result in read_answers(path):
            num_new += journal.recall(key, result)
    return num_new


def check_complete(files: Sequence[Path]) -> Header:
    """Make sure that files are all the shards of one run, each once; return what they belong to.

    Raises:
        ConfigError: One is missing, doubled, or of other settings or inputs.
    """
    headers = {path: read_header(path) for path in files}
    if not headers:
        raise ConfigError("no shards are named. Name the files that `--shard` runs wrote")
    first_path, first = next(iter(headers.items()))
    numbers: dict[int, Path] = {}
    for path, header in headers.items():
        for what in ("stage", "config", "inputs"):
            if canonical(_plain(getattr(header, what))) != canonical(_plain(getattr(first, what))):
                raise ConfigError(f"{path} and {first_path} differ in {what}: they are no shards of one run. Name the shards of one run")
        if header.shard.of != first.shard.of:
            raise ConfigError(f"{path} is shard {header.shard}, {first_path} is {first.shard}. Name the shards of one run")
        if header.shard.number in numbers:
            raise ConfigError(f"{path} and {numbers[header.shard.number]} are both shard {header.shard}. Name each once")
        numbers[header.shard.number] = path
    if missing := [str(Shard(number, first.shard.of)) for number in range(1, first.shard.of + 1) if number not in numbers]:
        raise ConfigError(f"shard {', '.join(missing)} is missing. Run it, or name its file")
    return first


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
