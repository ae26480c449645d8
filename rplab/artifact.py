"""What a stage leaves behind: an artefact directory, its manifest, and the small reference that is passed on.

A reference (`Artifact`) is JSON: stage, key, path, digest. It never holds data. The manifest is the last file written
into an artefact directory, so its existence means that the rest is complete; it lists every file with size and
sha256 and carries its own checksum, so that one flipped byte anywhere is found.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rplab.jsonl import canonical

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
LOGS = "logs"
"""Files below `logs/` are kept and verified but do not enter the digest: they hold wall times."""

_ALWAYS_HASH_BYTES = 64 * 2**20
"""Files up to this size are hashed at every verification; larger ones only when their inode data changed."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Artifact(_Frozen):
    """Reference to a published artefact."""

    stage: str
    key: str
    path: Path
    """Absolute directory."""
    digest: str
    """sha256 over the content files (not `logs/`): equal content, equal digest, whatever made it."""


class FileEntry(_Frozen):
    """One file of an artefact."""

    path: str
    """Relative, with forward slashes."""
    size: int
    """Bytes."""
    sha256: str
    mtime_ns: int
    inode: int


class InputEntry(_Frozen):
    """What a stage was made from."""

    stage: str
    key: str
    digest: str


class Manifest(_Frozen):
    """Everything about how an artefact came to be."""

    schema_version: int = SCHEMA_VERSION
    stage: str
    stage_version: int
    key: str
    digest: str
    config: dict[str, Any]
    inputs: dict[str, InputEntry]
    files: tuple[FileEntry, ...]
    stats: dict[str, Any]
    packages: dict[str, str]
    commit: str | None
    machine: dict[str, Any]
    started_utc: str
    wall_s: float

    def dumps(self) -> str:
        """Return the manifest as readable JSON with its own checksum."""
        body = self.model_dump(mode="json")
        return json.dumps({**body, "manifest_sha256": _checksum(body)}, ensure_ascii=False, indent=1) + "\n"


class Damage(Exception):  # noqa: N818 - a finding, always caught by the store
    """An artefact does not hold what its manifest says; the text says which file and how."""


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of an artefact directory.

    Raises:
        Damage: Missing, unreadable, of another schema version, or not matching its own checksum.
    """
    path = directory / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
        body = json.loads(text)
        checksum = body.pop("manifest_sha256")
    except FileNotFoundError:
        raise Damage(f"{MANIFEST} is missing") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise Damage(f"{MANIFEST} is not readable") from None
    try:
        manifest = Manifest.model_validate(body)
    except ValidationError:
        raise Damage(f"{MANIFEST} has another layout (schema version {body.get('schema_version')!r}, this is {SCHEMA_VERSION})") from None
    if _checksum(body) != checksum or text != manifest.dumps():
        raise Damage(f"{MANIFEST} was changed")
    return manifest


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def list_files(directory: Path) -> list[FileEntry]:
    """Describe every regular file below `directory`, sorted by relative path; the manifest is left out.

    Raises:
        Damage: A symbolic link or special file, which an artefact must not hold.
    """
    entries: list[FileEntry] = []
    for path in sorted(directory.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        relative = path.relative_to(directory).as_posix()
        if path.is_symlink() or not path.is_file():
            raise Damage(f"{relative} is not a regular file")
        if relative == MANIFEST:
            continue
        status = path.stat()
        entries.append(
            FileEntry(path=relative, size=status.st_size, sha256=sha256_file(path), mtime_ns=status.st_mtime_ns, inode=status.st_ino)
        )
    return entries


def content_digest(files: Iterable[FileEntry]) -> str:
    """Return the digest of the content files: names and sha256, without `logs/`."""
    content = [[entry.path, entry.sha256] for entry in files if not entry.path.startswith(f"{LOGS}/")]
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def verify(directory: Path) -> Manifest:
    """Check that a directory holds exactly the bytes that its manifest lists.

    Files above 64 MiB are hashed again only when size, inode or modification time differ from what was recorded at
    publishing; `RPLAB_DEEP_VERIFY=1` always hashes.

    Raises:
        Damage: With the first file that is missing or differs.
    """
    manifest = read_manifest(directory)
    deep = os.environ.get("RPLAB_DEEP_VERIFY") == "1"
    for entry in manifest.files:
        path = directory / entry.path
        try:
            status = path.stat()
        except OSError:
            raise Damage(f"{entry.path} is missing") from None
        if status.st_size != entry.size:
            raise Damage(f"{entry.path} has {status.st_size} bytes instead of {entry.size}")
        untouched = (status.st_mtime_ns, status.st_ino) == (entry.mtime_ns, entry.inode)
        if entry.size > _ALWAYS_HASH_BYTES and untouched and not deep:
            continue
        if sha256_file(path) != entry.sha256:
            raise Damage(f"{entry.path} was changed (its sha256 differs)")
    return manifest
