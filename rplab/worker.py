"""The child process of an isolated stage: `python -m rplab.worker request.json` (started by `rplab.execute`).

It stops cleanly on SIGTERM, SIGINT, and when its parent dies: the stage saves a checkpoint and ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from rplab.artifact import Artifact
from rplab.errors import LabError, StorageError
from rplab.jsonl import dumps, write_text
from rplab.stage import Progress, Stage, StageConfig, run_stage

logger = logging.getLogger(__name__)

DISK_FULL_EXIT = 74
"""Exit code (EX_IOERR) of a child that could not even write its result."""

PARALLEL_ENTRIES = ("rplab.llm.sft:train_sft", "rplab.llm.grpo:train_grpo")
"""Stage functions that several processes can share (`rplab.llm.distributed`)."""

_EVENT_INTERVAL_S = 0.25


class _EventWriter:
    """Writes progress as JSON lines, a few times a second at most, and always the last one."""

    def __init__(self, path: Path) -> None:
        self._handle = path.open("a", encoding="utf-8")
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < _EVENT_INTERVAL_S and progress.done < progress.total:
            return
        self._last = now
        with contextlib.suppress(OSError):  # progress is for show: a full disk must not end the stage here
            self._handle.write(dumps({"done": progress.done, "total": progress.total, "message": progress.message}) + "\n")
            self._handle.flush()


def _watch_parent(stop: threading.Event) -> None:
    """Ask for a stop when the parent is gone: an orphan must not hold the accelerator."""
    parent = os.getppid()

    def watch() -> None:
        while not stop.is_set():
            if os.getppid() != parent:
                logger.warning("the process that started this stage is gone: saving and stopping")
                stop.set()
            time.sleep(0.5)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


def load_request(path: Path) -> tuple[Stage, StageConfig, dict[str, Artifact], Path, bool]:
    """Read a request file written by `rplab.execute.Request.dumps`."""
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    module, _, name = body["stage"]["config_type"].partition(":")
    config_type: type[StageConfig] = getattr(importlib.import_module(module), name)
    fields = body["stage"]
    stage = Stage(fields["name"], fields["version"], fields["entry"], config_type, isolate=fields["isolate"], gpu=fields["gpu"])
    inputs = {input_name: Artifact.model_validate(value) for input_name, value in body["inputs"].items()}
    return stage, config_type.model_validate(body["config"]), inputs, Path(body["store"]), bool(body["force"])


def _shared_by_processes(stage: Stage) -> Stage:
    """Return the stage as several processes run it, where the machine asks for that and the stage can."""
    if int(os.environ.get("RPLAB_PROCESSES", "1")) < 2 or stage.entry not in PARALLEL_ENTRIES:
        return stage
    return dataclasses.replace(stage, entry="rplab.llm.distributed:train_in_processes")


def main(argv: list[str]) -> int:
    """Run the request of `argv[0]` and leave `result.json` beside it. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    request = Path(argv[0])
    stop = threading.Event()

    def ask_stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_stop)
    _watch_parent(stop)
    stage, config, inputs, store, force = load_request(request)
    stage = _shared_by_processes(stage)
    result: dict[str, Any]
    code = 0
    try:
        run = run_stage(stage, config, inputs, store, report=_EventWriter(request.parent / "events.jsonl"), stop=stop, force=force)
        result = {"artifact": run.artifact.model_dump(mode="json"), "manifest": run.manifest.model_dump(mode="json"), "cached": run.cached}
    except LabError as error:
        logger.error("%s: %s", type(error).__name__, error)
        result, code = {"error": {"type": type(error).__name__, "message": str(error)}}, error.exit_code
    try:
        write_text(request.parent / "result.json", dumps(result))
    except StorageError:
        return DISK_FULL_EXIT  # not even the result could be written: the exit code has to say it
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
