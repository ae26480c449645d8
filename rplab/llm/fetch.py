"""Fetching a base model: pinned, verified, resumed, published whole.

Weights come as safetensors only; code in a repository is never fetched. A folder appears when every file has been
verified against the hub's list, the manifest and the lock; until then everything is in `.NAME.partial` beside it, where
the same command goes on.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rplab.errors import ConfigError, ModelError
from rplab.jsonl import JsonValue
from rplab.llm.hub import Hub, RemoteFile
from rplab.llm.model_folder import check_model_folder
from rplab.llm.model_manifest import KnownModel, LockedModel, find_model, read_lock, write_lock

logger = logging.getLogger(__name__)

_WANTED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "LICENSE*",
    "README.md",
)
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_SPARE_BYTES = 1 << 28


@dataclass(frozen=True)
class Fetched:
    """What a fetch did."""

    folder: Path
    repo: str
    commit: str
    files: Mapping[str, str]
    """File -> sha256."""
    num_bytes: int
    pinned: bool
    """The manifest or an earlier lock said what to expect; False: these files were trusted, and are pinned from now on."""

    def as_json(self) -> dict[str, JsonValue]:
        """Return it for `--json`."""
        return {
            "folder": str(self.folder),
            "repo": self.repo,
            "revision": self.commit,
            "files": dict(self.files),
            "bytes": self.num_bytes,
            "pinned_before": self.pinned,
        }


def fetch_model(
    name: str,
    models: Path,
    *,
    revision: str | None = None,
    hub: Hub | None = None,
    report: Callable[[int, int, str], None] = lambda done, total, file: None,  # noqa: ARG005
) -> Fetched:
    """Fetch a model into `<models>/<name>`.

    Args:
        name: Name in the manifest, or `owner/name` on the hub.
        models: Models folder; holds fetch.lock.json.
        revision: Another revision than the manifest's or lock's; it is fetched beside the pinned one, as `<name>@<commit>`.
        hub: Where from; by the environment when None.
        report: Receives bytes so far, all bytes, and the file in work.

    Raises:
        ConfigError: No model of this name, or the lock is not readable.
        ModelError: Offline, no connection, no permission, no space, or files that are not what was pinned.
    """
    known = find_model(name)
    locks = read_lock(models)
    lock = locks.get(known.repo) if revision is None else None
    wanted = revision or (lock.revision if lock else known.revision)
    if lock and known.revision and lock.revision != known.revision:
        raise ModelError(
            f"{known.repo}: the manifest names revision {known.revision[:12]}, the lock in {models} {lock.revision[:12]}. "
            "Delete the entry in fetch.lock.json to take the manifest's"
        )
    folder = models / (name.replace("/", "--") if revision is None else f"{name.replace('/', '--')}@{revision[:12]}")
    if lock is not None and folder.is_dir():
        return _verify_present(folder, known, lock)
    _refuse_offline(known.repo, folder)
    if folder.exists():
        raise ConfigError(f"{folder} exists already, and was not fetched by this command. Delete it, or use another folder with --models")
    hub = hub or Hub()
    commit, listed = hub.list_files(known.repo, wanted or "main")
    if known.revision and revision is None and commit != known.revision:
        raise ModelError(f"{known.repo}: asked for commit {known.revision[:12]}, the hub answered with {commit[:12]}. Do not use this hub")
    files = _choose(known.repo, listed)
    expected = {
        **{f.name: f.sha256 for f in files if f.sha256},
        **(lock.files if lock else {}),
        **(known.files if revision is None else {}),
    }
    partial = models / f".{folder.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    _check_space(partial, files)
    hashes = _download_all(hub, known.repo, commit, files, expected, partial, report)
    if lock and (changed := sorted(set(lock.files) ^ set(hashes))):
        raise ModelError(f"{known.repo}@{commit[:12]}: other files than the lock says: {', '.join(changed[:5])}. Do not use this hub")
    check_model_folder(partial)
    os.replace(partial, folder)
    if revision is None and lock is None:
        write_lock(models, {**read_lock(models), known.repo: LockedModel(revision=commit, files=hashes)})
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Fetched(folder, known.repo, commit, hashes, size, pinned=lock is not None or set(hashes) <= set(known.files))


def _refuse_offline(repo: str, folder: Path) -> None:
    for variable in _OFFLINE:
        if os.environ.get(variable, "").strip().casefold() in {"1", "true", "yes", "on"}:
            raise ModelError(
                f"{repo}: {variable} is set, so nothing is fetched, and {folder} is not there. Unset {variable}, or copy the model folder "
                "from a machine that has it (with fetch.lock.json beside it, so that it is verified)"
            )


def _choose(repo: str, listed: list[RemoteFile]) -> list[RemoteFile]:
    """Return the files of a model folder, small ones first."""
    plain = [file for file in listed if "/" not in file.name and "\\" not in file.name and not file.name.startswith(".")]
    files = [file for file in plain if any(fnmatch.fnmatchcase(file.name, pattern) for pattern in _WANTED)]
    if not any(file.name.endswith(".safetensors") for file in files):
        raise ModelError(f"{repo}: no safetensors weights (other formats can run code when they are loaded). Choose another repository")
    return sorted(files, key=lambda file: (file.size or 0, file.name))


def _check_space(folder: Path, files: list[RemoteFile]) -> None:
    here = {file.name: (folder / file.name).stat().st_size for file in files if (folder / file.name).exists()}
    needed = sum(max(0, (file.size or 0) - here.get(file.name, 0)) for file in files) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free. Free some, or use --models on another disk"
        )


def _download_all(
    hub: Hub,
    repo: str,
    commit: str,
    files: list[RemoteFile],
    expected: Mapping[str, str],
    partial: Path,
    report: Callable[[int, int, str], None],
) -> dict[str, str]:
    """Download and verify every file; return their hashes. A file that came wrong is fetched once more, from its start."""
    total, done = sum(file.size or 0 for file in files), 0
    hashes: dict[str, str] = {}
    for file in files:
        target = partial / file.name
        for attempt in (1, 2):
            hub.download(repo, commit, file, target, lambda place, done=done, file=file: report(done + place, total, file.name))
            digest = _sha256(target)
            wanted = expected.get(file.name)
            if wanted is None or digest == wanted:
                break
            target.unlink()
            if attempt == 2:
                raise ModelError(
                    f"{repo}/{file.name}: sha256 is {digest[:16]}, {wanted[:16]} was expected, twice. It was damaged on the way, or the "
                    "hub holds another file under this revision. Try another network or HF_ENDPOINT; nothing was published"
                )
            logger.warning("%s/%s: damaged on the way, fetched once more", repo, file.name)
        hashes[file.name] = digest
        done += target.stat().st_size
    return hashes


def _verify_present(folder: Path, known: KnownModel, lock: LockedModel) -> Fetched:
    """Check a folder that is there already against the lock."""
    for name, wanted in lock.files.items():
        path = folder / name
        found = _sha256(path) if path.is_file() else "missing"
        if found != wanted:
            raise ModelError(f"{path}: {found[:16]}, the lock says {wanted[:16]}. The folder was changed: delete it and fetch again")
    check_model_folder(folder)
    size = sum((folder / name).stat().st_size for name in lock.files)
    return Fetched(folder, known.repo, lock.revision, lock.files, size, pinned=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
