"""Where an adapter comes from: a sidecar `lineage.json` that says on what, and on which data, it was trained.

A LoRA adapter fits any model of the same shape, and is wrong on every one but its own. So the base is recorded by
content, not by path, and checked before an adapter is continued or merged.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rplab.errors import ModelError
from rplab.jsonl import write_text
from rplab.llm.config import Precision

LINEAGE = "lineage.json"
_SAMPLES = 64
_SAMPLE_BYTES = 1 << 20
_WHOLE_BYTES = 64 << 20


class Lineage(BaseModel):
    """What an adapter was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    """`sft1`, `sft2`, `grpo`, `translator`..."""
    base: str
    """Fingerprint of the base model's weights and shape."""
    precision: Precision
    """How the base was held while training: a merge must start from the same numbers."""
    template: str
    """sha256 of the chat template."""
    data: str
    """sha256 of the training rows."""
    steps: int
    """Optimiser steps taken."""
    parent: str | None = None
    """sha256 of the adapter that was continued."""


def model_fingerprint(folder: Path) -> str:
    """Return the identity of a model: its shape and its weights.

    Files up to 64 MiB are hashed whole; of larger ones the safetensors header and 64 pieces of 1 MiB, so that a 4B
    model takes a fraction of a second and two models of one shape still differ.
    """
    digest = hashlib.sha256()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name in ("architectures", "hidden_size", "num_hidden_layers", "vocab_size", "model_type"):
        digest.update(f"{name}={config.get(name)}\n".encode())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{size}\n".encode())
        with path.open("rb") as handle:
            if size <= _WHOLE_BYTES:
                digest.update(handle.read())
                continue
            header = int.from_bytes(handle.read(8), "little")
            digest.update(handle.read(header))
            for index in range(_SAMPLES):
                handle.seek(8 + header + (size - 8 - header - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
                digest.update(handle.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def write_lineage(folder: Path, lineage: Lineage) -> None:
    """Write the sidecar."""
    write_text(folder / LINEAGE, json.dumps(lineage.model_dump(), indent=2, sort_keys=True) + "\n")


def read_lineage(folder: Path) -> Lineage:
    """Read the sidecar.

    Raises:
        ModelError: It is missing or not ours.
    """
    path = folder / LINEAGE
    try:
        return Lineage.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"{path} is missing, so nobody knows on which base and in which precision this adapter was trained. "
            "Train it with `rplab llm sft`, or write the file by hand when you know"
        ) from None
    except ValidationError as error:
        raise ModelError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}. Train the adapter again") from None


def check_base(lineage: Lineage, adapter: Path, base: Path) -> None:
    """Make sure that `base` is the model on which an adapter was trained.

    Raises:
        ModelError: It is another one.
    """
    fingerprint = model_fingerprint(base)
    if fingerprint != lineage.base:
        raise ModelError(
            f"{adapter}: this adapter was trained on another base (recorded {lineage.base[:12]}, {base} is {fingerprint[:12]}). "
            "Use that base, or train the adapter again on this one"
        )
