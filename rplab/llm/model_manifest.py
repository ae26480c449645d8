"""Which models can be fetched, at which revision, and with which contents.

Two records decide. The manifest (`models.yaml`) ships with the lab: name, repository, revision, licence. The lock
(`fetch.lock.json` in the models folder) is written by the first fetch that succeeds: the commit that was resolved and
the sha256 of every file. Later fetches, of anybody who has the lock, must bring the same bytes. This is trust on first
use: the first fetch is as good as the hub and the way to it; every later one is as good as the first.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rplab.errors import ConfigError
from rplab.jsonl import write_text

_MANIFEST = Path(__file__).parent / "models.yaml"
LOCK = "fetch.lock.json"
_REPOSITORY = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


class KnownModel(BaseModel):
    """One entry of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repo: str
    """`owner/name` on the hub."""
    revision: str | None = None
    """Commit; None = the newest one when it is fetched first, and that one from then on."""
    licence: str = "unknown: read the model's page"
    size_gb: float | None = None
    use: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    """File -> sha256 that it must have."""


class LockedModel(BaseModel):
    """What a repository was when it was fetched first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str
    """Commit."""
    files: dict[str, str]
    """File -> sha256."""


def known_models() -> dict[str, KnownModel]:
    """Return the manifest."""
    table: dict[str, Any] = yaml.safe_load(_MANIFEST.read_text(encoding="utf-8"))
    return {name: KnownModel.model_validate(entry) for name, entry in table.items()}


def find_model(name: str) -> KnownModel:
    """Return the model called `name`, or the hub repository `owner/name`.

    Raises:
        ConfigError: It is neither.
    """
    models = known_models()
    if name in models:
        return models[name]
    for model in models.values():
        if model.repo.casefold() == name.casefold():
            return model
    if _REPOSITORY.match(name):
        return KnownModel(repo=name)
    near = difflib.get_close_matches(name.casefold(), models, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"no model is called {name!r}.{hint} Known: {', '.join(models)}; or give a hub repository as owner/name")


def read_lock(folder: Path) -> dict[str, LockedModel]:
    """Return repository -> what it was, from the lock in `folder`.

    Raises:
        ConfigError: The file is not readable.
    """
    path = folder / LOCK
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {repo: LockedModel.model_validate(entry) for repo, entry in table.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, ValidationError, AttributeError) as error:
        raise ConfigError(f"{path}: not readable ({str(error).splitlines()[0]}). Restore it from version control, or delete it") from None


def write_lock(folder: Path, locks: dict[str, LockedModel]) -> None:
    """Write the lock."""
    body = {repo: locks[repo].model_dump() for repo in sorted(locks)}
    write_text(folder / LOCK, json.dumps(body, indent=1, sort_keys=True) + "\n")
