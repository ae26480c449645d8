"""What a local model folder must hold, checked before torch is loaded, so that the error names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rplab.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def check_model_folder(folder: Path) -> None:
    """Check that a Hugging Face folder is complete.

    Raises:
        ModelError: Naming the folder, what is missing, and what to do.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder. Make one with `rplab run`, or give the path of a Hugging Face folder")
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if (folder / INDEX).is_file():
        missing += [name for name in _shards(folder / INDEX) if not (folder / name).is_file()]
    elif not (folder / WEIGHTS).is_file():
        missing.append(WEIGHTS)
    if missing:
        kind = " (an adapter alone is no model: merge it first, `rplab llm merge`)" if (folder / "adapter_config.json").is_file() else ""
        raise ModelError(f"{folder}: incomplete model folder, missing {', '.join(missing)}{kind}. Make it again or copy the missing files")
    config = _read_json(folder / "config.json")
    if "auto_map" in config:
        raise ModelError(
            f"{folder / 'config.json'}: this model wants to run its own Python code (auto_map), which the lab never does. "
            "Use a model that transformers supports natively"
        )


def _shards(index: Path) -> list[str]:
    table: Any = _read_json(index).get("weight_map", {})
    return sorted(set(table.values())) if isinstance(table, dict) else []


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error}). Copy the file anew") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: a JSON object is needed. Copy the file anew")
    return value
