"""What a run will cost, from a pilot: the first few items made for real, with the answers kept for the whole run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol, cast

from rplab.backend.base import ChatResult, Usage
from rplab.backend.config import BackendConfig
from rplab.backend.cost import CostEstimate, estimate_cost
from rplab.backend.prices import find_backend_price
from rplab.dialogue.config import ScenariosConfig, SingleturnConfig
from rplab.dialogue.journal import Journal
from rplab.dialogue.single_file import resume_folder, run_pilot
from rplab.errors import ConfigError
from rplab.jsonl import read_rows, write_rows
from rplab.stage import Progress, StageConfig, StageFunction
from rplab.text.speech_level import speech_level

MIN_ITEMS = 2
_REQUEST = re.compile(r"/(?:t\d+/\w+/)?a\d+$")
"""The part of a request key that follows the item's."""


@dataclass(frozen=True)
class Pilot:
    """What a pilot showed."""

    num_items: int
    """Items made."""
    good: float
    """Share of them that were accepted, 0..1."""
    requests_per_item: float
    estimate: CostEstimate
    seconds: float | None
    """Of the whole run at the pilot's speed; None when the pilot's answers were on file already."""


class Asking(Protocol):
    """Settings of a stage that asks a text model."""

    in_flight: int

    @property
    def backend(self) -> BackendConfig | None:
        """Which model."""
        ...


def run_estimate(
    stage: str,
    function: StageFunction,
    config: StageConfig,
    inputs: Mapping[str, Path],
    out: Path,
    num_items: int,
    *,
    report: Callable[[Progress], None],
    stop: Event,
    count_items: Callable[[], int] | None = None,
) -> Pilot:
    """Make the first items of a run and scale what they used to the whole of it.

    Args:
        stage: Name of the stage, which is that of its journal.
        function: The stage's function.
        config: Settings of the whole run.
        inputs: Its inputs; a stage that works on a file gets its first rows.
        out: The file it will make.
        num_items: Items (or rows of the input) of the pilot.
        report: Receives progress.
        stop: Set it to ask for an early end.
        count_items: Returns the items of the whole run; None: as many as the settings or the input's rows say.

    Raises:
        ConfigError: Too few items.
        BackendError: Too few of them were good enough.
        StageInterrupted: A stop was asked for.
    """
    if num_items < MIN_ITEMS:
        raise ConfigError(f"--estimate {num_items}: a pilot needs {MIN_ITEMS} items or more")
    part, part_inputs, wanted = _cut(config, inputs, out, num_items)
    resume = resume_folder(out)
    with Journal(resume / f"{stage}.journal") as journal:
        known = len(journal)
    speech_level("어서 와요.")  # its dictionary takes seconds to load, once; that says nothing about a run
    started = time.monotonic()
    try:
        stats = run_pilot(function, part, part_inputs, out, report=report, stop=stop)
    finally:
        for path in part_inputs.values():
            path.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    with Journal(resume / f"{stage}.journal") as journal:
        items, num_new, num_requests = usage_of_items(journal.results()), len(journal) - known, len(journal)
    if len(items) < MIN_ITEMS:
        raise ConfigError(f"the pilot had {len(items)} items to ask for, too few to say how much they vary. Give a larger --estimate")
    good = float(str(stats["accepted"])) / max(1.0, float(str(stats["planned"])))
    made_anew = isinstance(config, SingleturnConfig | ScenariosConfig)  # a lost item is made up for by another one
    total = count_items() if count_items else round(wanted / max(good, 0.01)) if made_anew else wanted
    asking = cast("Asking", config)
    assert asking.backend is not None, "it has just answered"
    width = min(asking.in_flight, len(items)) / min(asking.in_flight, total)  # more items at once, when there are more
    return Pilot(
        num_items=len(items),
        good=good,
        requests_per_item=num_requests / len(items),
        estimate=estimate_cost(list(items.values()), total, find_backend_price(asking.backend)),
        seconds=seconds / len(items) * total * width if num_new == num_requests else None,
    )


def _cut(config: StageConfig, inputs: Mapping[str, Path], out: Path, num_items: int) -> tuple[StageConfig, dict[str, Path], int]:
    """Return (settings, inputs of the pilot, items or rows of the whole run)."""
    if getattr(config, "shard", None) is not None:
        raise ConfigError("--estimate looks at a whole run. Leave --shard away")
    if isinstance(config, SingleturnConfig):
        return config.model_copy(update={"target_rows": min(num_items, config.target_rows)}), {}, config.target_rows
    if isinstance(config, ScenariosConfig):
        return config.model_copy(update={"count": min(num_items, config.count)}), {}, config.count
    ((name, source),) = inputs.items()
    rows = [row for _, row in read_rows(source)]
    path = resume_folder(out) / "pilot.jsonl"
    write_rows(path, rows[:num_items])
    return config, {name: path}, len(rows)


def usage_of_items(results: Iterable[ChatResult]) -> dict[str, Usage]:
    """Return what each item used, all its requests added up."""
    items: dict[str, Usage] = {}
    for result in results:
        item = _REQUEST.sub("", result.key)
        before = items.get(item, Usage())
        items[item] = Usage(before.prompt_tokens + result.usage.prompt_tokens, before.completion_tokens + result.usage.completion_tokens)
    return items
