"""Tiny real stages for the flow tests: importable by name, also in the child process of an isolated stage."""

from __future__ import annotations

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
