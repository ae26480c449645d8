"""Looking into the store: list, show, compare, and throw away what nothing needs any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rplab.artifact import Damage, Manifest, read_manifest, verify
from rplab.errors import ArtifactError, ConfigError
from rplab.stage import diff_fields

_RESERVED = {"latest", "runs", "sessions", "prefect"}


@dataclass(frozen=True)
class Entry:
    """One artefact in the store."""

    stage: str
    key: str
    path: Path
    manifest: Manifest | None
    """None when the manifest is damaged."""
    latest: bool
    size: int
    """Bytes of all files."""


def entries(store: Path) -> Iterator[Entry]:
    """Yield every published artefact, by stage name, then by start time."""
    if not store.is_dir():
        raise ConfigError(f"{store}: no such store. Run `make demo` or `rplab run` first, or give --store")
    for home in sorted(store.iterdir()):
        if not home.is_dir() or home.name in _RESERVED or home.name.startswith("."):
            continue
        current = (store / "latest" / home.name).resolve()
        found = [
            _entry(home.name, path, path.resolve() == current) for path in home.iterdir() if path.is_dir() and not path.name.startswith(".")
        ]
        yield from sorted(found, key=lambda entry: (entry.manifest.started_utc if entry.manifest else "", entry.key))


def _entry(stage: str, path: Path, latest: bool) -> Entry:
    try:
        manifest = read_manifest(path)
    except Damage:
        manifest = None
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Entry(stage, path.name, path, manifest, latest, size)


def find(store: Path, reference: str) -> Entry:
    """Return the artefact called `stage` (its latest), `stage/key` or `stage/key-prefix`.

    Raises:
        ConfigError: None or several match.
    """
    stage, _, prefix = reference.partition("/")
    matches = [e for e in entries(store) if e.stage == stage and (e.key.startswith(prefix) if prefix else e.latest)]
    if len(matches) == 1:
        return matches[0]
    known = ", ".join(sorted({entry.stage for entry in entries(store)})) or "nothing yet"
    problem = "no artefact" if not matches else f"{len(matches)} artefacts"
    raise ConfigError(f"{problem} called {reference!r} in {store} (stages there: {known}). See `rplab store ls`")


def check(entry: Entry) -> str:
    """Return "ok" or what is damaged."""
    try:
        verify(entry.path)
    except Damage as damage:
        return str(damage)
    return "ok"


def compare(first: Entry, second: Entry) -> list[str]:
    """List the differences of two artefacts of one stage: version, config, inputs, content.

    Raises:
        ArtifactError: One manifest is damaged.
    """
    if first.manifest is None or second.manifest is None:
        raise ArtifactError("a damaged manifest cannot be compared; run the pipeline again, it repairs the stage")
    a, b = first.manifest, second.manifest
    lines = [] if a.stage_version == b.stage_version else [f"stage version {a.stage_version} -> {b.stage_version}"]
    lines += diff_fields(a.config, b.config)
    lines += diff_fields({n: i.digest[:12] for n, i in a.inputs.items()}, {n: i.digest[:12] for n, i in b.inputs.items()}, "input")
    lines += diff_fields({f.path: f.sha256[:12] for f in a.files}, {f.path: f.sha256[:12] for f in b.files}, "file")
    return lines


def garbage(store: Path) -> list[Path]:
    """List what can go: artefacts that no latest artefact is made from, and the remains of killed runs.

    Checkpoints and journals of unfinished runs (`.resume-*`) are kept: they are work that can still be resumed.
    """
    alive: set[tuple[str, str]] = set()
    by_key = {(entry.stage, entry.key): entry for entry in entries(store)}
    queue = [name for name, entry in by_key.items() if entry.latest]
    while queue:
        name = queue.pop()
        if name in alive or name not in by_key:
            continue
        alive.add(name)
        manifest = by_key[name].manifest
        if manifest:
            queue += [(item.stage, item.key) for item in manifest.inputs.values()]
    dead = [entry.path for name, entry in by_key.items() if name not in alive]
    dead += [path for home in store.iterdir() if home.is_dir() and home.name not in _RESERVED for path in home.glob(".broken-*")]
    return sorted(dead)


def collect(paths: list[Path]) -> int:
    """Delete what `garbage` listed; return the bytes freed."""
    freed = 0
    for path in paths:
        freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
    return freed
