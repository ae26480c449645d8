"""Small stage functions for the tests of the stage contract (importable by child processes through PYTHONPATH)."""

import os
import sys
import time

from rplab.errors import DataError
from rplab.stage import StageConfig


class CountConfig(StageConfig):
    """Settings of the toy stages."""

    count: int = 3
    label: str = "a"
    delay_s: float = 0.0


def count(config, inputs, context):
    """Write `count` lines, one file in `logs/` with the time, and resume after a stop."""
    done = context.resume / "lines.txt"
    lines = done.read_text().splitlines() if done.exists() else []
    for index in range(len(lines), config.count):
        context.check_stop()
        time.sleep(config.delay_s)
        with done.open("a") as handle:
            handle.write(f"{config.label}{index}\n")
        context.progress(index + 1, config.count, f"line {index + 1}")
    (context.out / "logs").mkdir()
    (context.out / "logs" / "time.txt").write_text(f"{time.time()} resumed at {len(lines)}")
    (context.out / "lines.txt").write_text(done.read_text())
    return {"rows": config.count, "resumed_at": len(lines)}


def total(config, inputs, context):
    """Count the lines of the input."""
    num = len((inputs["lines"] / "lines.txt").read_text().splitlines())
    (context.out / "total.txt").write_text(str(num))
    return {"total": num}


def bad_row(config, inputs, context):
    """Fail as a stage with a broken input row does."""
    raise DataError("not valid JSON", file="rows.jsonl", line=7, remedy="Repair this line")


def die(config, inputs, context):
    """Die as a process does when the kernel kills it."""
    sys.stderr.write("last words\n")
    os._exit(9)


def fill_disk(config, inputs, context):
    """Write until the disk is full."""
    with (context.out / "big").open("wb") as handle:
        while True:
            handle.write(b"x" * 65536)
            handle.flush()
