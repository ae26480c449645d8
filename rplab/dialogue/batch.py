"""Single-turn rows through OpenAI's Batch API (half the price): first attempts go out in a file, answers into the journal.

The stage then runs as ever: it finds those answers recorded, checks them, and asks again online only for what is missing
or not good enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rplab.backend.base import ChatRequest
from rplab.backend.batch_api import read_answers, write_batches
from rplab.backend.config import OpenAIConfig
from rplab.backend.open import open_backend
from rplab.dialogue.config import SingleturnConfig
from rplab.dialogue.journal import Journal, request_hash
from rplab.dialogue.pack import load_pack
from rplab.dialogue.singleturn import build_request, check_genres, draw_plan
from rplab.errors import ConfigError


def first_requests(config: SingleturnConfig) -> list[ChatRequest]:
    """Return the first attempt of every row that the stage would plan."""
    pack = load_pack(config.pack)
    genres = check_genres(config.genres, tuple(pack.singleturn.genres), pack)
    plans = (draw_plan(config, pack, genres, index) for index in range(config.target_rows))
    return [build_request(plan, 0, "", config.seed, pack) for plan in plans]


def write_singleturn_batches(config: SingleturnConfig, folder: Path) -> list[Path]:
    """Write the batch input files of a stage's rows.

    Raises:
        ConfigError: The backend is none with a Batch API.
        StorageError: The folder cannot be written.
    """
    return write_batches(first_requests(config), _endpoint(config), folder)


def record_batch_answers(config: SingleturnConfig, answers: Sequence[Path], journal: Path) -> tuple[int, int]:
    """Put the answers of batch output files into a stage's journal.

    Args:
        config: The settings that the batch was written with.
        answers: Output and error files, as downloaded.
        journal: `singleturn.journal` in the stage's resume folder.

    Returns:
        Answers recorded, and rows that are left to be asked online.

    Raises:
        ConfigError: The backend is none with a Batch API.
        DataError: A file is no batch output, or belongs to other settings.
        StorageError: Another process is at work with the journal.
    """
    endpoint = _endpoint(config)
    requests = first_requests(config)
    name = open_backend(endpoint).name  # nothing is connected before the first request
    num_recorded = 0
    with Journal(journal) as entries:
        for request, result in read_answers(answers, requests, endpoint):
            key = request_hash(request, name)
            if entries.get(key) is None:
                entries.put(key, result)
                num_recorded += 1
        num_left = sum(entries.get(request_hash(request, name)) is None for request in requests)
    return num_recorded, num_left


def _endpoint(config: SingleturnConfig) -> OpenAIConfig:
    if not isinstance(config.backend, OpenAIConfig):
        raise ConfigError(f"backend.kind {config.backend.kind} has no Batch API. Set backend.kind to openai")
    return config.backend
