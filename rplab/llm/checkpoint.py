"""Checkpoints that are complete or not there.

A checkpoint is written into a staging folder, every file is flushed and hashed, the list of hashes is written last,
and the folder is renamed into place. A killed or full-disk write leaves at most a staging folder; a damaged one is
found by its hashes and passed over for the one before it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

from rplab.jsonl import write_text

logger = logging.getLogger(__name__)

SEAL = "complete.json"
STAGING = ".staging"
_PREFIX = "checkpoint-"


def publish_checkpoint(staged: Path, root: Path, step: int, keep: int = 2) -> Path:
    """Seal the folder `staged` and rename it to `<root>/checkpoint-<step>`; older ones beyond `keep` are deleted.

    Raises:
        StorageError: The disk is full or not writable; earlier checkpoints are untouched.
    """
    files = {path.relative_to(staged).as_posix(): _digest(path) for path in sorted(staged.rglob("*")) if path.is_file()}
    write_text(staged / SEAL, json.dumps(files, indent=1))
    target = root / f"{_PREFIX}{step}"
    shutil.rmtree(target, ignore_errors=True)
    os.replace(staged, target)
    for _, old in _listed(root)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def latest_checkpoint(root: Path) -> tuple[int, Path] | None:
    """Return step and folder of the newest undamaged checkpoint; damaged ones are logged and passed over."""
    for step, folder in _listed(root):
        if (problem := _problem(folder)) is None:
            return step, folder
        logger.warning("%s: %s; the checkpoint before it is used", folder, problem)
    return None


def _listed(root: Path) -> list[tuple[int, Path]]:
    """Return (step, folder), newest first."""
    if not root.is_dir():
        return []
    found = [(path.name.removeprefix(_PREFIX), path) for path in root.iterdir() if path.name.startswith(_PREFIX)]
    return sorted(((int(step), path) for step, path in found if step.isdigit()), reverse=True)


def _problem(folder: Path) -> str | None:
    try:
        files: dict[str, str] = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "the checkpoint is incomplete"
    for name, digest in files.items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            return f"the checkpoint is damaged ({name})"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        os.fsync(handle.fileno())
    return digest
