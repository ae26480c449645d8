"""Run one stage function into a folder of the user's choice, outside the store.

The same promises as in the store: the folder appears whole or not at all, and an interrupted run goes on when the
same command is given again. (No key, no manifest: nothing is cached here.)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rplab.errors import ConfigError
from rplab.jsonl import canonical, storage_error
from rplab.libraries import configure_libraries
from rplab.stage import Progress, StageConfig, StageContext, StageFunction, Stats


def prepare_environment() -> None:
    """Keep the libraries offline and private, and memory small; call before torch and transformers are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    configure_libraries(os.environ)


def run_standalone(
    function: StageFunction,
    config: StageConfig,
    inputs: Mapping[str, Path],
    out: Path,
    *,
    report: Callable[[Progress], None],
    stop: threading.Event,
) -> Stats:
    """Run a stage into `out`.

    Args:
        function: What to run.
        config: Its settings.
        inputs: Input name -> folder.
        out: Must not exist yet.
        report: Receives progress.
        stop: Set it to ask for an early end.

    Raises:
        ConfigError: `out` exists.
        StorageError: Disk full or not writable.
        LabError: Whatever the stage found wrong.
    """
    out = out.absolute()
    if out.exists():
        raise ConfigError(f"{out} exists already. Choose a new folder with --out, or delete it")
    identity: dict[str, Any] = {"config": config.model_dump(mode="json"), "inputs": {k: str(v.absolute()) for k, v in inputs.items()}}
    key = hashlib.blake2b(canonical(identity).encode(), digest_size=6).hexdigest()
    work, resume = out.with_name(f".{out.name}.work"), out.with_name(f".{out.name}.resume-{key}")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        resume.mkdir(exist_ok=True)
        stats = function(config, inputs, StageContext(out=work, resume=resume, report=report, stop=stop))
        os.replace(work, out)
    except OSError as error:
        raise storage_error(error, Path(error.filename or out)) from error
    for leftover in (resume, out.with_name(f".{out.name}.data")):
        shutil.rmtree(leftover, ignore_errors=True)
    return stats
