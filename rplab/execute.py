"""Run a stage where it belongs: in this process, or in a child process of its own.

Training stages are isolated: the driver frees all accelerator memory when the child exits, a crash takes nothing with
it, and each child gets its own thread count. Parent and child talk through files, not pipes: when the parent dies,
the child's next print cannot break it, so it still saves its checkpoint (measured: with a pipe the checkpoint of a
SIGTERM was lost). The child notices a dead parent by itself and stops.

    parent: request.json, then `python -m rplab.worker request.json`
    child:  <store>/runs/<stage>-<key>.<pid>/{log.txt, events.jsonl, result.json}
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rplab import errors
from rplab.artifact import Artifact, Manifest
from rplab.errors import LabError, StageInterrupted
from rplab.jsonl import storage_error
from rplab.libraries import configure_libraries
from rplab.stage import Progress, Stage, StageConfig, StageRun, explain_miss, lookup, point_latest, run_stage, stage_key
from rplab.worker import DISK_FULL_EXIT

logger = logging.getLogger(__name__)

GRACE_S = 25.0
"""Seconds a child gets to save its checkpoint; Prefect's own limit is 30."""


class Machine(BaseModel):
    """How to use this machine. Never part of a stage key: it must not change results."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    threads: int = 0
    """CPU threads of a training process; 0 = the library's choice. 1 is fastest for tiny models (no spin-waiting)."""
    processes: int = Field(default=1, ge=1)
    """Training processes of SFT and GRPO, one a GPU. They share the forward passes of a step; the result is the same up to rounding."""
    sharding: Literal["ddp", "fsdp2"] = "ddp"
    """What each process holds: the whole model (`ddp`) or a part of every layer (`fsdp2`), for bases that no single GPU holds."""
    hub_offline: bool = True
    """Forbid downloads from a model hub while a stage runs (`rplab llm fetch` is the one place that downloads)."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One stage run, ready to go."""

    stage: Stage
    config: StageConfig
    inputs: Mapping[str, Artifact]
    store: Path
    force: bool = False
    machine: Machine = dataclasses.field(default_factory=Machine)

    @property
    def key(self) -> str:
        """The key under which the result is stored."""
        return stage_key(self.stage, self.config, self.inputs)

    @property
    def label(self) -> str:
        """What people call it: the stage's name and, for a part of a run, which part."""
        shard = getattr(self.config, "shard", None)
        return f"{self.stage.name} {shard}" if shard else self.stage.name

    def dumps(self) -> str:
        """Return the request as JSON for the child process."""
        body = {
            "stage": {
                **dataclasses.asdict(self.stage),
                "config_type": f"{self.stage.config_type.__module__}:{self.stage.config_type.__name__}",
            },
            "config": self.config.model_dump(mode="json"),
            "inputs": {name: artifact.model_dump(mode="json") for name, artifact in self.inputs.items()},
            "store": str(self.store.absolute()),
            "force": self.force,
        }
        return json.dumps(body, ensure_ascii=False)


def execute(request: Request, report: Callable[[Progress], None], stop: threading.Event | None = None) -> StageRun:
    """Run a stage in the right process and return its artefact.

    Args:
        request: What to run.
        report: Receives progress, in the calling thread.
        stop: Set it to ask for an early end.

    Raises:
        StageInterrupted: Stopped on request (also by SIGTERM or Ctrl-C, which are passed on to a child).
        LabError: What the stage found wrong, with the type it had in the child.
    """
    if not request.stage.isolate:
        return run_stage(request.stage, request.config, request.inputs, request.store, report=report, stop=stop, force=request.force)
    try:
        if not request.force and (found := lookup(request.stage.name, request.key, request.store)):
            point_latest(request.store, request.stage.name, request.key)
            return StageRun(*found, cached=True)  # no child process for a cache hit
        explain_miss(request.stage, request.config, request.inputs, request.store)  # the child's own words are in its log only
        return _run_in_child(request, report, stop or threading.Event())
    except OSError as error:
        raise storage_error(error, request.store) from error


def _run_in_child(request: Request, report: Callable[[Progress], None], stop: threading.Event) -> StageRun:
    runs = request.store / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{request.stage.name}-{request.key}.", dir=runs))
    request_file = directory / "request.json"
    request_file.write_text(request.dumps(), encoding="utf-8")
    log = directory / "log.txt"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "rplab.worker", str(request_file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_child_environment(request.machine),
            start_new_session=True,  # one process group to signal, also when the child starts its own workers
        )
    try:
        _watch(child, directory / "events.jsonl", report, stop)
    except BaseException:
        _end(child)
        raise
    result = _read_result(directory / "result.json")
    if result is None:
        if stop.is_set():
            raise StageInterrupted(f"{request.stage.name} stopped on request; run again to resume")
        if child.returncode == DISK_FULL_EXIT:
            raise storage_error(OSError(errno.ENOSPC, "no space"), request.store)
        raise LabError(f"{request.stage.name}: the training process ended with code {child.returncode}. Last lines of {log}:\n{_tail(log)}")
    if error := result.get("error"):
        kind = getattr(errors, error["type"], LabError)
        problem = LabError(error["message"]) if not issubclass(kind, LabError) else _rebuild(kind, error["message"])
        raise problem
    shutil.copyfile(log, request.store / "runs" / f"{request.stage.name}-{request.key}.log")
    shutil.rmtree(directory, ignore_errors=True)
    return StageRun(Artifact.model_validate(result["artifact"]), Manifest.model_validate(result["manifest"]), cached=bool(result["cached"]))


def _rebuild(kind: type[LabError], message: str) -> LabError:
    problem = kind.__new__(kind)
    Exception.__init__(problem, message)
    return problem


def _child_environment(machine: Machine) -> dict[str, str]:
    environment = dict(os.environ)
    configure_libraries(environment)
    environment.update(
        PYTHONUNBUFFERED="1",
        CUBLAS_WORKSPACE_CONFIG=":4096:8",  # deterministic matrix products on CUDA
    )
    # glibc gives every large tensor back to the kernel and takes it anew: page faults cost a tiny model a third of its time
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**31))
    if machine.processes > 1:
        environment.update(RPLAB_PROCESSES=str(machine.processes), RPLAB_SHARDING=machine.sharding)
    if machine.hub_offline:
        environment.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    if machine.threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(machine.threads)
    return environment


def _watch(child: subprocess.Popen[bytes], events: Path, report: Callable[[Progress], None], stop: threading.Event) -> None:
    """Pass on the child's progress until it ends; pass a stop request on to it."""
    offset = 0
    deadline: float | None = None
    while True:
        ended = child.poll() is not None
        offset = _forward_events(events, offset, report)
        if ended:
            return
        if stop.is_set() and deadline is None:
            deadline = time.monotonic() + GRACE_S
            _signal_group(child, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            _signal_group(child, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2)


def _forward_events(events: Path, offset: int, report: Callable[[Progress], None]) -> int:
    try:
        with events.open("rb") as handle:
            handle.seek(offset)
            data = handle.read()
    except FileNotFoundError:
        return offset
    complete = data[: data.rfind(b"\n") + 1]
    for line in complete.splitlines():
        event = json.loads(line)
        report(Progress(event["done"], event["total"], event["message"]))
    return offset + len(complete)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let the child save its checkpoint, then make sure that nothing of its group is left."""
    _signal_group(child, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    _signal_group(child, signal.SIGKILL)
    child.wait()


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _read_result(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
