"""What a local model folder must hold, checked before torch is loaded, so that the error names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rplab.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Files that make a tokenizer without further packages."""


def check_model_folder(folder: Path) -> None:
    """Check that a Hugging Face folder is complete.

    Raises:
        ModelError: Naming the folder, what is missing, and what to do.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder. Make one with `rplab run`, or give the path of a Hugging Face folder")
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):
        missing.append("tokenizer.json")
    if (folder / INDEX).is_file():
        missing += [name for name in _shards(folder / INDEX) if not (folder / name).is_file()]
    elif not (folder / WEIGHTS).is_file():
        missing.append(WEIGHTS)
    if WEIGHTS in missing and any(folder.glob("pytorch_model*.bin")):
        raise ModelError(
            f"{folder}: its weights are pickled (pytorch_model.bin), which can run code when loaded. Save them as safetensors once: "
            "python -c "
            f"\"from transformers import AutoModelForCausalLM as M; M.from_pretrained('{folder}').save_pretrained('{folder}')\""
        )
    if missing:
        remedy = "give its base with --model and this folder with --adapter, or merge them with `rplab llm merge`"
        kind = f" (an adapter alone is no model: {remedy})" if (folder / "adapter_config.json").is_file() else ""
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
