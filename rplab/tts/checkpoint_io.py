"""Reading and writing weights of this model family; a mismatch is loud.

Official files: `G_0/D_0.safetensors` (bases, may lack `emb_g`, may carry `iteration`), inference files (lack `enc_q`),
and `.pth` files of a running training (`{"model": ..., "iteration": ...}`). Exactly these differences are allowed, each
is in the report, and every other one is an error: the predecessor caught load errors and silently trained from scratch.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rplab.errors import ModelError
from rplab.jsonl import storage_error

logger = logging.getLogger(__name__)

_COUNTER = "iteration"
_SPEAKERS = "emb_g.weight"
_POSTERIOR = "enc_q."
_SHOWN = 5


@dataclass(frozen=True)
class LoadReport:
    """What was taken from a file, and what was not."""

    path: Path
    loaded: int
    """Tensors taken over."""
    fresh: tuple[str, ...]
    """Tensors that the file lacks and that keep their initial values: speakers, posterior encoder."""
    iteration: int | None

    def __str__(self) -> str:
        """One line for people."""
        missing = f"; not in the file, left at their start: {', '.join(self.fresh)}" if self.fresh else ""
        return f"{self.path.name}: {self.loaded} tensors loaded{missing}"


def load_weights(module: nn.Module, path: Path, *, allow_speakers: bool = False, allow_no_posterior: bool = False) -> LoadReport:
    """Load a checkpoint file into `module`.

    Args:
        module: Generator or discriminator.
        path: `.safetensors`, or `.pth` as written by upstream's trainer (read with `weights_only`).
        allow_speakers: The speaker table may be missing or of another size; it then keeps its initial values.
        allow_no_posterior: The posterior encoder may be missing (an inference file).

    Raises:
        ModelError: Unreadable, or any key or shape differs beyond what is allowed; names the first ones.
    """
    state, iteration = read_weights(path)
    wanted = module.state_dict()
    fresh = _fresh_keys(state, wanted, allow_speakers=allow_speakers, allow_no_posterior=allow_no_posterior)
    for key in fresh:
        state.pop(key, None)
    _refuse_mismatch(path, state, wanted, fresh)
    module.load_state_dict({key: state.get(key, wanted[key]) for key in wanted})
    names = tuple(sorted({"enc_q" if key.startswith(_POSTERIOR) else key for key in fresh}))
    report = LoadReport(path, len(state), names, iteration)
    logger.info("%s", report)
    return report


def _fresh_keys(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, allow_speakers: bool, allow_no_posterior: bool) -> set[str]:
    fresh: set[str] = set()
    if allow_speakers and _SPEAKERS in wanted and (_SPEAKERS not in state or state[_SPEAKERS].shape != wanted[_SPEAKERS].shape):
        fresh.add(_SPEAKERS)
    if allow_no_posterior and not any(key.startswith(_POSTERIOR) for key in state):
        fresh |= {key for key in wanted if key.startswith(_POSTERIOR)}
    return fresh


def _refuse_mismatch(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], fresh: set[str]) -> None:
    missing = [key for key in wanted if key not in state and key not in fresh]
    unknown = [key for key in state if key not in wanted]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    parts = [
        f"{len(found)} {what}: {', '.join(found[:_SHOWN])}{', ...' if len(found) > _SHOWN else ''}"
        for what, found in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
        if found
    ]
    if parts:
        raise ModelError(f"{path}: does not fit this network; {'; '.join(parts)}. Use the config.json that belongs to the checkpoint")


def read_weights(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """Return the tensors of a checkpoint (float32, weight-norm names as stored) and its iteration when it has one.

    Raises:
        ModelError: No such file, or not a checkpoint.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Check the path of the checkpoint")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
            state = dict(content.get("model", content))
            if _COUNTER in content and _COUNTER not in state:
                state[_COUNTER] = torch.tensor(int(content[_COUNTER]))
    except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError, EOFError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({error}). Fetch or copy it again") from error
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path}: refused, it holds more than tensors ({error}). Convert it to safetensors first") from error
    counter = state.pop(_COUNTER, None)
    return {key: value.float() for key, value in state.items()}, None if counter is None else int(counter.reshape(-1)[0])


def save_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically and byte-deterministically.

    Raises:
        StorageError: The disk is full or not writable; `path` is unchanged then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    ordered = {key: state[key].detach().cpu().contiguous().clone() for key in sorted(state)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(ordered, temporary, metadata=None if metadata is None else dict(sorted(metadata.items())))
        temporary.chmod(0o644)  # safetensors makes it readable by its owner only
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def inference_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what speaking needs: everything but the posterior encoder, as official inference files."""
    return {key: value for key, value in state.items() if not key.startswith(_POSTERIOR)}
