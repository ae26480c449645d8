"""The stage contract: frozen config + pure function + output directory + manifest.

`run_stage` is the only way an artefact comes into being:

1. key = hash(stage name, stage version, config, digests of the inputs); nothing else, no paths, no dates;
2. lock the key (a second process waits, then finds the finished artefact);
3. a published artefact that verifies is a cache hit; a damaged one is made again, and the log says why;
4. the function writes into `<store>/<stage>/.work-<key>/`; what it needs to resume goes to `.resume-<key>/`, which
   survives a kill and is deleted after publishing;
5. files are hashed and flushed, `manifest.json` is written last, the directory is renamed into place.

To add a stage: write its config (`StageConfig`) in `<package>/config.py`, its function
`fn(config, inputs, context) -> stats`, and one `Node` in `rplab/pipeline.py`.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import hashlib
import importlib
import importlib.metadata
import logging
import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict

from rplab.artifact import MANIFEST, Artifact, Damage, InputEntry, Manifest, content_digest, list_files, read_manifest, verify
from rplab.errors import LabError, StageInterrupted
from rplab.jsonl import JsonValue, canonical, storage_error, write_text

logger = logging.getLogger(__name__)

_RECORDED_PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "pyopenjtalk-plus", "kiwipiepy", "onnxruntime")

_DISK_FULL_BYTES = 64 * 2**10
"""Less free space than this counts as full."""


@dataclass(frozen=True)
class RunOnly:
    """Marks a config field that says how fast or how dear, never what: `Annotated[float, RunOnly()]`; it stays out of the key.

    So a run that stopped (at its budget, say) goes on after the field was changed.
    """


class StageConfig(BaseModel):
    """Base of every stage config: frozen, unknown keys are errors, no paths and no device inside."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def key_fields(self) -> dict[str, Any]:
        """Return the JSON value that enters the key: all fields but those marked `RunOnly`, in nested configs, too."""
        fields = self.model_dump(mode="json")
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if any(isinstance(mark, RunOnly) for mark in info.metadata):
                del fields[name]
            elif isinstance(value, StageConfig):
                fields[name] = value.key_fields()
        return fields

    def outside(self) -> JsonValue:
        """Return what the result depends on beside config and inputs (files that the user brings), or None.

        It is part of the key: when such a file changes, the stage runs again.
        """
        return None


Stats: TypeAlias = dict[str, JsonValue]
"""What a stage counted: goes into the manifest and the stage's report."""


@dataclass(frozen=True)
class Progress:
    """How far a stage is: `done` of `total` (in `unit`), and one line for people."""

    done: float
    total: float
    message: str = ""


def _ignore_progress(_: Progress) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class StageContext:
    """What a running stage may touch."""

    out: Path
    """Empty directory for the results; files below `logs/` do not enter the content digest."""
    resume: Path
    """Survives a kill; holds journals and checkpoints; deleted after publishing."""
    report: Callable[[Progress], None] = _ignore_progress
    """Call as often as wanted; the receiver throttles."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the run was asked to stop: save what is needed to resume, then call `check_stop`."""

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Report progress."""
        self.report(Progress(done, total, message))

    def check_stop(self) -> None:
        """Raise `StageInterrupted` when a stop was asked for. Call where everything is saved."""
        if self.stop.is_set():
            raise StageInterrupted("stopped on request; what is finished is kept, run again to resume")


StageFunction: TypeAlias = Callable[[Any, Mapping[str, Path], StageContext], Stats]


@dataclass(frozen=True)
class Stage:
    """One kind of work: its name is the same word in profile, store, command line, task and UI."""

    name: str
    version: int
    """Raise it when the function gives other results for equal inputs; old artefacts then run again."""
    entry: str
    """`package.module:function`, imported only when the stage runs (heavy imports stay out of start-up)."""
    config_type: type[StageConfig]
    isolate: bool = False
    """Run in a process of its own: a training stage frees all its memory, and a crash takes nothing with it."""
    gpu: bool = False
    """Takes the accelerator when there is one; such stages run one at a time on a machine."""

    def load(self) -> StageFunction:
        """Import and return the stage's function."""
        module, _, name = self.entry.partition(":")
        function: StageFunction = getattr(importlib.import_module(module), name)
        return function


@dataclass(frozen=True)
class StageRun:
    """The outcome of `run_stage`."""

    artifact: Artifact
    manifest: Manifest
    cached: bool


def stage_key(stage: Stage, config: StageConfig, inputs: Mapping[str, Artifact]) -> str:
    """Return the key of a stage run: the one place that computes it, for the store and for Prefect."""
    identity: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "config": config.key_fields(),
        "inputs": {name: artifact.digest for name, artifact in inputs.items()},
    }
    if (outside := config.outside()) is not None:
        identity["outside"] = outside
    return hashlib.blake2b(canonical(identity).encode(), digest_size=10).hexdigest()


def lookup(stage_name: str, key: str, store: Path) -> tuple[Artifact, Manifest] | None:
    """Return the published artefact of a key when it is there and undamaged; log why not when it is damaged."""
    directory = store / stage_name / key
    if not directory.is_dir():
        return None
    try:
        manifest = verify(directory)
    except Damage as damage:
        logger.warning("%s/%s: %s: the stage runs again", stage_name, key, damage)
        return None
    return Artifact(stage=stage_name, key=key, path=directory.absolute(), digest=manifest.digest), manifest


def run_stage(
    stage: Stage,
    config: StageConfig,
    inputs: Mapping[str, Artifact],
    store: Path,
    *,
    report: Callable[[Progress], None] = _ignore_progress,
    stop: threading.Event | None = None,
    force: bool = False,
) -> StageRun:
    """Return the artefact of a stage, made now or found in the store.

    Args:
        stage: What to run.
        config: Its settings.
        inputs: Input name -> artefact.
        store: Root of the store.
        report: Receives progress.
        stop: Set it to ask for an early end.
        force: Run even when the store has the artefact.

    Raises:
        StageInterrupted: `stop` was set; what is needed to resume is kept.
        StorageError: Disk full or not writable; nothing was published, finished work is kept.
        LabError: Whatever the stage function found wrong.
    """
    key = stage_key(stage, config, inputs)
    home = store / stage.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f".lock-{key}"):
            if not force and (found := lookup(stage.name, key, store)):
                point_latest(store, stage.name, key)
                return StageRun(*found, cached=True)
            explain_miss(stage, config, inputs, store)
            artifact, manifest = _make(stage, config, inputs, store, key, report, stop or threading.Event())
            return StageRun(artifact, manifest, cached=False)
    except OSError as error:
        raise storage_error(error, Path(error.filename or home)) from error
    except LabError:
        raise
    except Exception as error:
        if is_disk_full(error, store):  # torch and safetensors report a full disk as errors of their own
            raise storage_error(OSError(errno.ENOSPC, str(error)), home) from error
        raise


def is_disk_full(error: BaseException, store: Path) -> bool:
    """Return whether an error comes from a full disk, whatever type a library gave it."""
    return "No space left on device" in str(error) or shutil.disk_usage(store).free < _DISK_FULL_BYTES


def _make(
    stage: Stage,
    config: StageConfig,
    inputs: Mapping[str, Artifact],
    store: Path,
    key: str,
    report: Callable[[Progress], None],
    stop: threading.Event,
) -> tuple[Artifact, Manifest]:
    home = store / stage.name
    work, resume = home / f".work-{key}", resume_folder(store, stage.name, key)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    resume.mkdir(exist_ok=True)
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    context = StageContext(out=work, resume=resume, report=report, stop=stop)
    stats = stage.load()(config, {name: artifact.path for name, artifact in inputs.items()}, context)
    files = list_files(work)
    manifest = Manifest(
        stage=stage.name,
        stage_version=stage.version,
        key=key,
        digest=content_digest(files),
        config=config.model_dump(mode="json"),
        inputs={name: InputEntry(stage=a.stage, key=a.key, digest=a.digest) for name, a in inputs.items()},
        files=tuple(files),
        stats=stats,
        packages=_packages(),
        commit=_commit(),
        machine={"platform": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()},
        started_utc=started.isoformat(timespec="microseconds"),
        wall_s=round(time.monotonic() - clock, 2),
    )
    target = _publish(work, home / key, manifest)
    shutil.rmtree(resume, ignore_errors=True)
    point_latest(store, stage.name, key)
    return Artifact(stage=stage.name, key=key, path=target.absolute(), digest=manifest.digest), manifest


def resume_folder(store: Path, stage_name: str, key: str) -> Path:
    """Return where a run of a stage keeps what it needs to resume."""
    return store / stage_name / f".resume-{key}"


def _publish(work: Path, target: Path, manifest: Manifest) -> Path:
    """Flush every file, write the manifest last, and rename the directory into place."""
    for path in sorted(work.rglob("*")):
        _fsync(path)
    write_text(work / MANIFEST, manifest.dumps())
    _fsync(work)
    if target.exists():  # damaged or forced: moved away first, since a directory cannot replace a full one
        broken = target.with_name(f".broken-{target.name}")
        shutil.rmtree(broken, ignore_errors=True)
        os.replace(target, broken)
        os.replace(work, target)
        shutil.rmtree(broken, ignore_errors=True)
    else:
        os.replace(work, target)
    _fsync(target.parent)
    return target


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold an advisory lock; the kernel drops it when the process dies, however it dies."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("%s: another process is at work on this stage; waiting for it", path.parent.name)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def point_latest(store: Path, stage_name: str, key: str) -> None:
    """Make `<store>/latest/<stage>` point at the artefact (relative link, replaced atomically)."""
    latest = store / "latest"
    latest.mkdir(exist_ok=True)
    target = os.path.join("..", stage_name, key)
    link = latest / stage_name
    if link.is_symlink() and os.readlink(link) == target:
        return
    temporary = latest / f".{stage_name}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def explain_miss(stage: Stage, config: StageConfig, inputs: Mapping[str, Artifact], store: Path) -> None:
    """Log what differs from the last run of this stage, so that nobody has to guess why it runs."""
    try:
        last = read_manifest(store / "latest" / stage.name)
    except Damage:
        return
    for line in explain_difference(last, stage, config, inputs):
        logger.info("%s runs again: %s", stage.name, line)


def explain_difference(last: Manifest, stage: Stage, config: StageConfig, inputs: Mapping[str, Artifact]) -> list[str]:
    """List the differences between an earlier run and a wanted one, one line each."""
    lines: list[str] = []
    if last.stage_version != stage.version:
        lines.append(f"stage version {last.stage_version} -> {stage.version}")
    lines += diff_fields(last.config, config.model_dump(mode="json"))
    for name, artifact in inputs.items():
        before = last.inputs.get(name)
        if before is None or before.digest != artifact.digest:
            lines.append(f"input {name} ({artifact.stage}) has other content")
    return lines


def diff_fields(before: Any, after: Any, path: str = "") -> list[str]:
    """List `path: old -> new` for every leaf in which two JSON values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for name in sorted({*before, *after})
            for line in diff_fields(before.get(name, "(absent)"), after.get(name, "(absent)"), f"{path}.{name}" if path else name)
        ]
    if canonical(before) == canonical(after):
        return []
    return [f"{path}: {_short(before)} -> {_short(after)}"]


def _short(value: Any, limit: int = 60) -> str:
    text = canonical(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _packages() -> dict[str, str]:
    versions: dict[str, str] = {}
    for name in _RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """Return the git commit of the code, with `+` when the tree has changes; None outside a checkout."""
    try:
        out = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return out.stdout.strip() or None
