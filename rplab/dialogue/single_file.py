"""Runs a generation stage for one output file, outside the store; the command line uses it.

The journal lives in `.FILE.resume/` beside the output until the file is there, so that the same command after a kill
goes on where it was. The file appears at once and whole; what was refused goes to `FILE` with `.rejects` in its name.
The same command on a finished file asks nothing and says so (`finished.py`).
"""

from __future__ import annotations

import fcntl
import shutil
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.dialogue.finished import find_finished, identify, note_finished, note_path
from rplab.errors import ConfigError, StorageError
from rplab.jsonl import storage_error
from rplab.stage import Progress, StageConfig, StageContext, StageFunction, Stats


@dataclass(frozen=True)
class FileRun:
    """What came of it."""

    out: Path
    stats: Stats
    side_files: tuple[Path, ...]
    """Rejects and partial dialogues, where there were any."""
    before: bool = False
    """Whether an earlier run of the same command had made it all, so that nothing was done now."""


def run_to_file(
    function: StageFunction,
    config: StageConfig,
    inputs: Mapping[str, Path],
    out: Path,
    *,
    main: str,
    report: Callable[[Progress], None],
    stop: threading.Event,
    prepare: Callable[[Path], None] = lambda _: None,
    force: bool = False,
) -> FileRun:
    """Run a stage function and publish one of its files as `out`.

    Args:
        function: The stage's function.
        config: Its settings.
        inputs: Input name -> path.
        out: File to make; replaced when it exists.
        main: Name of the stage's file that becomes `out`; its other files are put beside it.
        report: Receives progress.
        stop: Set it to ask for an early end.
        prepare: Gets the resume folder before anything runs, to put answers there that came another way.
        force: Make the file again although the same run has made it before.

    Raises:
        StageInterrupted: `stop` was set; the same call goes on from there.
        StorageError: Disk full or not writable; `out` is unchanged.
    """
    if out.is_dir():
        raise ConfigError(f"--out {out} is a directory. Give the name of a file")
    resume = resume_folder(out)
    work = resume / "out"
    try:
        identity = identify(function, config, inputs, main)
        if not force and not resume.exists() and (finished := find_finished(out, identity)) is not None:
            return FileRun(out, finished.stats, finished.side_files, before=True)
        resume.mkdir(parents=True, exist_ok=True)
        with _locked(resume / "lock", out):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            prepare(resume)
            stats = function(config, inputs, StageContext(out=work, resume=resume, report=report, stop=stop))
            note_path(out).unlink(missing_ok=True)
            published = [_publish_side(path, out) for path in sorted(work.iterdir()) if path.suffix == ".jsonl" and path.name != main]
            side_files = tuple(path for path in published if path is not None)
            (work / main).replace(out)
            note_finished(out, identity, stats, side_files)
            shutil.rmtree(resume, ignore_errors=True)
    except OSError as error:
        raise storage_error(error, Path(error.filename or out)) from error
    finally:
        if not any(path.stat().st_size for path in resume.glob("*.journal")):
            shutil.rmtree(resume, ignore_errors=True)  # nothing was answered: nothing to resume
    return FileRun(out, stats, side_files)


def run_pilot(
    function: StageFunction,
    config: StageConfig,
    inputs: Mapping[str, Path],
    out: Path,
    *,
    report: Callable[[Progress], None],
    stop: threading.Event,
) -> Stats:
    """Run a stage function on a part of its items; only the journal is kept, where the whole run will find it.

    Args:
        function: The stage's function.
        config: Settings of the part.
        inputs: Input name -> path.
        out: The file that the whole run will make.
        report: Receives progress.
        stop: Set it to ask for an early end.

    Raises:
        StageInterrupted: `stop` was set.
        StorageError: Disk full or not writable, or the whole run is on its way.
    """
    resume = resume_folder(out)
    work = resume / "pilot"
    try:
        resume.mkdir(parents=True, exist_ok=True)
        with _locked(resume / "lock", out):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            return function(config, inputs, StageContext(out=work, resume=resume, report=report, stop=stop))
    except OSError as error:
        raise storage_error(error, Path(error.filename or out)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def resume_folder(out: Path) -> Path:
    """Return the folder in which the journal of an output lives until the output is there."""
    return out.parent / f".{out.name}.resume"


@contextmanager
def _locked(path: Path, out: Path) -> Generator[None]:
    """Hold the output; the kernel lets go of it when the process dies, however it dies."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"{out}: another process is writing this output. Wait until it is done, then run again") from None
        yield


def _publish_side(path: Path, out: Path) -> Path | None:
    """Put a side file beside the output; an empty one is left away, and an old one of that name removed."""
    target = out.with_name(f"{out.stem}.{path.stem}{path.suffix}")
    if path.stat().st_size == 0:
        target.unlink(missing_ok=True)
        return None
    path.replace(target)
    return target


def summarise(stats: Mapping[str, Any]) -> str:
    """Return the counts of a run as one line."""
    lost = {**stats["rejected"], **stats["failed"]}
    reasons = f" ({', '.join(f'{reason} {count}' for reason, count in lost.items())})" if lost else ""
    rejected, failed = sum(stats["rejected"].values()), sum(stats["failed"].values())
    return f"planned {stats['planned']} = accepted {stats['accepted']} + rejected {rejected} + failed {failed}{reasons}"
