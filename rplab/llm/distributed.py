"""One training stage in several processes, one a GPU: data parallel, with the numbers of one process.

The stage's own process stays outside: it starts the ranks with torch's launcher (as `accelerate launch` does; the same
environment variables, so that accelerate's settings apply), forwards their progress, and publishes what rank 0 leaves.
An optimiser step is made of the same forward passes whether one process takes them or several share them, and the loss
is divided by the tokens of all, so the number of processes changes the speed and not the result (beyond rounding).

    parent: <resume>/launch/spec.json, then `python -m torch.distributed.run ... -m rplab.llm.distributed spec.json`
    rank 0: works in the stage's own folders; events.jsonl, result.json
    others: work in folders of their own that share the checkpoints
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from rplab import errors
from rplab.errors import ConfigError, LabError, StageInterrupted, TrainingError
from rplab.stage import Progress, StageConfig, StageContext, StageFunction, Stats

logger = logging.getLogger(__name__)

PARALLEL_ENTRIES = ("rplab.llm.sft:train_sft", "rplab.llm.grpo:train_grpo")
"""Stages that several processes can share."""
PROCESSES = "RPLAB_PROCESSES"
SHARDING = "RPLAB_SHARDING"

_STOP = "stop"
_POLL_S = 0.2


def parallel(entry: str, processes: int) -> StageFunction:
    """Return a stage function that does the work of `entry` in several processes.

    Raises:
        ConfigError: The stage cannot be shared.
    """
    if entry not in PARALLEL_ENTRIES:
        raise ConfigError(f"{entry} runs in one process only. Set machine.processes: 1")

    def run(config: StageConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
        return _launch(entry, processes, config, inputs, context)

    return run


def train_in_processes(config: StageConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Do a stage in as many processes as the environment says; the stage follows from the type of its config."""
    entry = "rplab.llm.grpo:train_grpo" if type(config).__name__ == "GrpoConfig" else "rplab.llm.sft:train_sft"
    return _launch(entry, int(os.environ[PROCESSES]), config, inputs, context)


def _launch(entry: str, processes: int, config: StageConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    folder = context.resume / "launch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (context.resume / "checkpoints").mkdir(exist_ok=True)
    spec = {
        "entry": entry,
        "config_type": f"{type(config).__module__}:{type(config).__name__}",
        "config": config.model_dump(mode="json"),
        "inputs": {name: str(path.absolute()) for name, path in inputs.items()},
        "out": str(context.out.absolute()),
        "resume": str(context.resume.absolute()),
        "parent": os.getpid(),
    }
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    log = folder / "log.txt"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*_command(processes), str(folder / "spec.json")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
        )
    _follow(child, folder, context)
    return _outcome(folder, log, child.returncode, context)


def _command(processes: int) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={processes}", f"--master-port={port}"]
    return [sys.executable, *launcher, "--master-addr=127.0.0.1", "--max-restarts=0", "-m", "rplab.llm.distributed"]


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", "1")
    if environment.get(SHARDING) == "fsdp2":
        environment.update(
            ACCELERATE_USE_FSDP="true",
            FSDP_VERSION="2",
            FSDP_AUTO_WRAP_POLICY="TRANSFORMER_BASED_WRAP",
            FSDP_RESHARD_AFTER_FORWARD="true",
            FSDP_STATE_DICT_TYPE="FULL_STATE_DICT",
        )
    return environment


def _follow(child: subprocess.Popen[bytes], folder: Path, context: StageContext) -> None:
    """Forward progress until the ranks end; pass a stop request on."""
    events, offset = folder / "events.jsonl", 0
    try:
        while True:
            ended = child.poll() is not None
            if events.is_file():
                with events.open("rb") as handle:
                    handle.seek(offset)
                    data = handle.read()
                complete = data[: data.rfind(b"\n") + 1]
                offset += len(complete)
                for line in complete.splitlines():
                    event = json.loads(line)
                    context.progress(event["done"], event["total"], event["message"])
            if ended:
                return
            if context.stop.is_set():
                (folder / _STOP).touch()
            time.sleep(_POLL_S)
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise


def _outcome(folder: Path, log: Path, code: int, context: StageContext) -> Stats:
    """Return the stats of rank 0, or raise what a rank found wrong."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("result-*.json"))]
    for result in results:
        if "error" in result:
            kind = getattr(errors, result["error"]["type"], LabError)
            problem = kind.__new__(kind if issubclass(kind, LabError) else LabError)
            Exception.__init__(problem, result["error"]["message"])
            raise problem
    stats = next((result["stats"] for result in results if "stats" in result), None)
    if code == 0 and stats is not None:
        shutil.rmtree(folder, ignore_errors=True)
        return stats
    context.check_stop()
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    raise TrainingError(f"the training processes ended with code {code}; the last checkpoint is kept. Last lines of {log}:\n{tail}")


def main(argv: list[str]) -> int:
    """Do one rank's share of the spec in `argv[0]`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    rank = int(os.environ["RANK"])
    spec: dict[str, Any] = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    folder = Path(argv[0]).parent
    context = _rank_context(rank, spec, folder)
    module, _, name = spec["config_type"].partition(":")
    config = getattr(importlib.import_module(module), name).model_validate(spec["config"])
    module, _, name = spec["entry"].partition(":")

    import torch  # the parent never loads it
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
    function: StageFunction = getattr(importlib.import_module(module), name)
    result: dict[str, Any]
    code = 0
    try:
        result = {"stats": function(config, {key: Path(path) for key, path in spec["inputs"].items()}, context)}
    except LabError as error:
        result, code = {"error": {"type": type(error).__name__, "message": str(error)}}, 0 if isinstance(error, StageInterrupted) else 1
    if rank == 0 or "error" in result:
        (folder / f"result-{rank}.json").write_text(json.dumps(result), encoding="utf-8")
    if torch.distributed.is_initialized() and code == 0:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return code


def _rank_context(rank: int, spec: Mapping[str, Any], folder: Path) -> StageContext:
    """Return where a rank works: rank 0 in the stage's folders, the others in their own, with the same checkpoints."""
    stop = threading.Event()

    def ask_stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.set()

    signal.signal(signal.SIGTERM, ask_stop)

    def watch() -> None:
        while True:
            if (folder / _STOP).exists():
                stop.set()
            if not Path(f"/proc/{spec['parent']}").exists():
                os._exit(1)  # the stage was killed: nobody holds its lock any more, so nothing may be written
            time.sleep(_POLL_S)

    threading.Thread(target=watch, daemon=True, name="watch-stop").start()
    if rank == 0:
        events = (folder / "events.jsonl").open("a", encoding="utf-8")

        def report(progress: Progress) -> None:
            events.write(json.dumps({"done": progress.done, "total": progress.total, "message": progress.message}) + "\n")
            events.flush()

        return StageContext(out=Path(spec["out"]), resume=Path(spec["resume"]), report=report, stop=stop)
    own = folder / f"rank-{rank}"
    for name in ("out", "resume"):
        (own / name).mkdir(parents=True, exist_ok=True)
    (own / "resume" / "checkpoints").symlink_to(Path(spec["resume"]) / "checkpoints", target_is_directory=True)
    return StageContext(out=own / "out", resume=own / "resume", report=lambda _: None, stop=stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
