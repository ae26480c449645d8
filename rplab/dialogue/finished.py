"""What a finished output file was made from, so that the same command run again does not pay for it again.

The note stands beside the file as `.FILE.finished.json`. It counts only while it fits: same stage, same settings, same
input files, and the output file unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.artifact import sha256_file
from rplab.backend.config import ScriptedConfig
from rplab.backend.scripted.model import VERSION
from rplab.jsonl import canonical, write_text
from rplab.stage import StageConfig, StageFunction, Stats


@dataclass(frozen=True)
class Finished:
    """A note that fits."""

    stats: Stats
    side_files: tuple[Path, ...]


def note_path(out: Path) -> Path:
    """Return where the note of an output stands."""
    return out.with_name(f".{out.name}.finished.json")


def identify(function: StageFunction, config: StageConfig, inputs: Mapping[str, Path], main: str) -> str:
    """Return the hash of all that decides what a run makes: stage, settings that enter the result, grammar version, input bytes."""
    files = {
        f"{name}/{path.name if path == source else path.relative_to(source).as_posix()}": sha256_file(path)
        for name, source in inputs.items()
        for path in ([source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file()))
    }
    backend = getattr(config, "backend", None)
    grammar = VERSION if isinstance(backend, ScriptedConfig) else None
    made_of = [function.__module__, main, config.key_fields(), config.outside(), grammar, files]
    return hashlib.sha256(canonical(made_of).encode()).hexdigest()


def find_finished(out: Path, identity: str) -> Finished | None:
    """Return the note of an output that is there already, made from the same, and not changed since; else None."""
    try:
        note: dict[str, Any] = json.loads(note_path(out).read_bytes())
        if note["made_of"] != identity or not out.is_file() or note["sha256"] != sha256_file(out):
            return None
        return Finished(note["stats"], tuple(out.with_name(name) for name in note["side_files"]))
    except (OSError, ValueError, KeyError, TypeError):  # no note, or a damaged one: the run is made again
        return None


def note_finished(out: Path, identity: str, stats: Stats, side_files: tuple[Path, ...]) -> None:
    """Write the note of an output that is in place.

    Raises:
        StorageError: It could not be written.
    """
    note = {"made_of": identity, "sha256": sha256_file(out), "stats": stats, "side_files": [path.name for path in side_files]}
    write_text(note_path(out), json.dumps(note, ensure_ascii=False, indent=1) + "\n")
