"""Generation stages split over several processes: which part each does, and how their answers get into the whole run.

A part is a run of the same stage function with `shard` set, stored under `<stage>_shard`; so parts are made on any worker
that sees the store, cached, and found again. The whole run keeps its own key: with or without parts it is the same artefact.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from rplab.artifact import Artifact
from rplab.dialogue.config import DialoguesConfig, ScenariosConfig, SingleturnConfig
from rplab.dialogue.shard_answers import ANSWERS, hand_over
from rplab.execute import Request, execute
from rplab.stage import Progress, StageConfig, lookup, resume_folder

SUFFIX = "_shard"


def split_request(request: Request, count: int) -> list[Request]:
    """Return the requests of the parts; none when the stage is no generation stage, or when its artefact is there.

    Each part runs in a process of its own and may spend its share of the stage's budget.

    Args:
        request: The whole run.
        count: Parts wanted; 1 = none.
    """
    config = request.config
    if count < 2 or not isinstance(config, SingleturnConfig | ScenariosConfig | DialoguesConfig) or config.shard is not None:
        return []
    if not request.force and lookup(request.stage.name, request.key, request.store) is not None:
        return []
    stage = dataclasses.replace(request.stage, name=request.stage.name + SUFFIX, isolate=True)
    share = _share_of_budget(config, count)
    parts = [share.model_copy(update={"shard": f"{number}/{count}"}) for number in range(1, count + 1)]
    return [dataclasses.replace(request, stage=stage, config=part) for part in parts]


def _share_of_budget(config: SingleturnConfig | ScenariosConfig | DialoguesConfig, count: int) -> StageConfig:
    backend = config.backend
    usd, tokens = getattr(backend, "budget_usd", None), getattr(backend, "budget_tokens", None)
    share: dict[str, float | int] = {}
    if usd is not None:
        share["budget_usd"] = usd / count
    if tokens is not None:
        share["budget_tokens"] = max(1, tokens // count)
    return config.model_copy(update={"backend": backend.model_copy(update=share)}) if share else config


def hand_over_parts(parts: Sequence[Artifact], request: Request) -> None:
    """Put the answers of finished parts where the whole run finds them."""
    hand_over([part.path / ANSWERS for part in parts], resume_folder(request.store, request.stage.name, request.key))


def run_parts(parts: Sequence[Request], report: Callable[[str, Progress], None], stop: threading.Event | None) -> list[Artifact]:
    """Run all parts at once, each in its own process, and return their artefacts in order.

    Args:
        parts: From `split_request`.
        report: Receives a part's name and progress.
        stop: Set it to ask for an early end.

    Raises:
        LabError: The first part that fails; the others are stopped, and their answers are kept.
    """
    halt = stop or threading.Event()
    with ThreadPoolExecutor(len(parts)) as pool:
        futures = [pool.submit(execute, part, lambda progress, name=part.label: report(name, progress), halt) for part in parts]
        try:
            return [future.result().artifact for future in futures]
        except BaseException:
            halt.set()
            raise
