"""What a run will cost, from a pilot: the first few items made for real, with the answers kept for the whole run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from rplab.backend.base import ChatResult, Usage
from rplab.backend.cost import CostEstimate, estimate_cost
from rplab.backend.prices import find_backend_price
from rplab.dialogue.config import DialoguesConfig, ScenariosConfig, SingleturnConfig
from rplab.dialogue.journal import Journal
from rplab.dialogue.single_file import resume_folder, run_pilot
from rplab.errors import ConfigError
from rplab.jsonl import read_rows, write_rows
from rplab.stage import Progress, StageFunction
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


def run_estimate(
    stage: str,
    function: StageFunction,
    config: SingleturnConfig | ScenariosConfig | DialoguesConfig,
    inputs: Mapping[str, Path],
    out: Path,
    num_items: int,
    *,
    report: Callable[[Progress], None],
    stop: Event,
) -> Pilot:
    """Make the first items of a run and scale what they used to the whole of it.

    Args:
        stage: Name of the stage, which is that of its journal.
        function: The stage's function.
        config: Settings of the whole run.
        inputs: Its inputs.
        out: The file it will make.
        num_items: Items of the pilot.
        report: Receives progress.
        stop: Set it to ask for an early end.

    Raises:
        ConfigError: Too few items.
        BackendError: Too few of them were good enough.
        StageInterrupted: A stop was asked for.
    """
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
            if path.parent == resume:
                path.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    with Journal(resume / f"{stage}.journal") as journal:
        items, num_new, num_requests = usage_of_items(journal.results()), len(journal) - known, len(journal)
    planned, accepted = stats["planned"], stats["accepted"]
    assert isinstance(planned, int), "counts are numbers"
    assert isinstance(accepted, int), "counts are numbers"
    good = accepted / max(1, planned)
    total = wanted if isinstance(config, DialoguesConfig) else round(wanted / max(good, 0.01))
    width = min(config.in_flight, len(items)) / min(config.in_flight, total)  # more items at once, when there are more
    return Pilot(
        num_items=len(items),
        good=good,
        requests_per_item=num_requests / len(items),
        estimate=estimate_cost(list(items.values()), total, find_backend_price(config.backend)),
        seconds=seconds / len(items) * total * width if num_new == num_requests else None,
    )


def _cut(
    config: SingleturnConfig | ScenariosConfig | DialoguesConfig, inputs: Mapping[str, Path], out: Path, num_items: int
) -> tuple[SingleturnConfig | ScenariosConfig | DialoguesConfig, dict[str, Path], int]:
    """Return (settings, inputs of the pilot, items wanted in the whole run)."""
    if config.shard is not None:
        raise ConfigError("--estimate looks at a whole run. Leave --shard away")
    if num_items < MIN_ITEMS:
        raise ConfigError(f"--estimate {num_items}: a pilot needs {MIN_ITEMS} items or more")
    if isinstance(config, SingleturnConfig):
        return config.model_copy(update={"target_rows": min(num_items, config.target_rows)}), {}, config.target_rows
    if isinstance(config, ScenariosConfig):
        return config.model_copy(update={"count": min(num_items, config.count)}), {}, config.count
    rows = [row for _, row in read_rows(inputs["scenarios"])]
    path = resume_folder(out) / "pilot-scenarios.jsonl"
    write_rows(path, rows[:num_items])
    return config, {"scenarios": path}, len(rows)


def usage_of_items(results: Iterable[ChatResult]) -> dict[str, Usage]:
    """Return what each item used, all its requests added up."""
    items: dict[str, Usage] = {}
    for result in results:
        item = _REQUEST.sub("", result.key)
        before = items.get(item, Usage())
        items[item] = Usage(before.prompt_tokens + result.usage.prompt_tokens, before.completion_tokens + result.usage.completion_tokens)
    return items
