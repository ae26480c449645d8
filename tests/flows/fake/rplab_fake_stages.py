"""Tiny real stages for the flow tests: importable by name, also in the child process of an isolated stage."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from rplab.errors import BackendError, DataError
from rplab.stage import StageConfig, StageContext, Stats


class CountConfig(StageConfig):
    """Write numbers."""

    count: int = 3
    step_s: float = 0.0


class SumConfig(StageConfig):
    """Add numbers up."""

    factor: int = 1


def count_up(config: CountConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Write `count` lines, resuming from a journal; slow on request."""
    journal = context.resume / "journal.txt"
    done = len(journal.read_text().splitlines()) if journal.exists() else 0
    for number in range(done, config.count):
        time.sleep(config.step_s)
        with journal.open("a") as handle:
            handle.write(f"{number}\n")
        context.progress(number + 1, config.count, "numbers")
        context.check_stop()
    (context.out / "numbers.txt").write_text(journal.read_text())
    return {"rows": config.count, "resumed_at": done}


def add_up(config: SumConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Write the sum of the numbers and a report of its own."""
    total = config.factor * sum(int(line) for line in (inputs["numbers"] / "numbers.txt").read_text().split())
    (context.out / "total.txt").write_text(f"{total}\n")
    (context.out / "report.md").write_text(f"# Sum\n\nThe total is **{total}**.\n")
    context.progress(1, 1, "added")
    return {"rows": 1}


def flaky(config: SumConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Fail as often as the file named by RPLAB_TEST_FAULTS says, in the way that it says (`backend` or `data`)."""
    faults = Path(os.environ["RPLAB_TEST_FAULTS"])
    left = faults.read_text().split()
    if left:
        faults.write_text(" ".join(left[1:]))
        raise BackendError("the endpoint did not answer") if left[0] == "backend" else DataError("broken row", file="rows.jsonl", line=3)
    (context.out / "ok.txt").write_text("ok\n")
    return {"rows": 1}


class ImitateConfig(StageConfig):
    """Settings of a stage that stands for a real one."""

    name: str
    style: str = "plain"


def imitate(config: ImitateConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Write what went in; log the call; fail as often as `RPLAB_TEST_FAULTS` says for this stage (`stage:kind ...`)."""
    calls = Path(os.environ["RPLAB_TEST_CALLS"])
    calls.write_text(f"{calls.read_text()}{config.name}\n")
    faults = Path(os.environ["RPLAB_TEST_FAULTS"])
    left = faults.read_text().split()
    if left and left[0].startswith(f"{config.name}:"):
        faults.write_text(" ".join(left[1:]))
        raise {"data": DataError("broken row", file="rows.jsonl", line=3), "backend": BackendError("no answer")}[left[0].partition(":")[2]]
    (context.out / "made.json").write_text(json.dumps({"style": config.style, "inputs": sorted(inputs)}))
    if config.name == "evaluate":
        (context.out / "evaluation.json").write_text(json.dumps({"passed": True, "failed": [], "models": {}}))
    if config.name == "translator_eval":
        scores = {"chrfpp": 71.5, "pairs": 12, "stop_rate": 1.0, "hangul_rate": 0.0}
        (context.out / "evaluation.json").write_text(json.dumps({"passed": True, "failed": [], **scores}))
    return {"rows": 7}
