"""LoRA adapters: made from a seed, kept in float32, saved to the same bytes every time.

TRL rounds the adapters of a 4-bit model to bf16, in which a usual step is too small to change a weight, and PEFT turns
them back to float32 on resuming, so that a resumed run is another run (spec/llm.md 0.1, 0.2). Here they are float32
from the first step to the file, and a trainer that touches them is undone (`kept_adapters`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rplab.errors import ModelError
from rplab.jsonl import write_text
from rplab.llm.config import ALL_LINEAR, LoraSettings
from rplab.llm.lineage import check_base, read_lineage
from rplab.llm.precision import as_model_error, load_model

logger = logging.getLogger(__name__)

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


def adapter_folder(artefact: Path) -> Path:
    """Return the PEFT folder of an artefact (its `adapter/`) or the folder itself, checked.

    Raises:
        ModelError: The folder or one of its parts is missing; the message names it.
    """
    folder = artefact / "adapter" if (artefact / "adapter").is_dir() else artefact
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder}: {', '.join(missing)} missing. It must be a PEFT adapter folder; run the training stage again")
    return folder


def lora_config(model: PreTrainedModel, settings: LoraSettings) -> LoraConfig:
    """Translate our settings into PEFT's.

    The default targets are the seven projections of a Llama-like block. A family that names its layers otherwise (GPT-NeoX, GPT-2,
    Phi-3) gets an adapter on every linear layer of its blocks: the same thing under other names.

    Raises:
        ModelError: A target layer that somebody asked for does not exist in this model.
    """
    linear = block_layers(model)
    targets = settings.targets
    if unknown := sorted(set(targets) - set(linear)):
        if targets != ALL_LINEAR or not linear:
            raise ModelError(
                f"no layer is called {', '.join(unknown)} in this model. lora.targets may be any of: {', '.join(sorted(linear)) or 'none'}"
            )
        targets = tuple(sorted(linear))
        logger.info("this model's blocks have other layers than a Llama's; the adapter goes on %s", ", ".join(targets))
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(targets),
        fan_in_fan_out=any(issubclass(linear[name], Conv1D) for name in targets),
        bias="none",
        task_type="CAUSAL_LM",
    )


def block_layers(model: PreTrainedModel) -> dict[str, type[torch.nn.Module]]:
    """Return names and kinds of the linear layers in the blocks of a model; neither its head nor a mixture's router."""
    head = model.get_output_embeddings()
    found = {
        name.rpartition(".")[2]: type(module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }
    return {name: kind for name, kind in found.items() if name not in {"gate", "router", "lm_head", "embed_out"}}


def new_adapter(model: PreTrainedModel, settings: LoraSettings, seed: int) -> PeftModel:
    """Put a fresh float32 adapter on a frozen model; the same seed gives the same weights.

    Raises:
        ModelError: A target layer does not exist in this model.
    """
    config = lora_config(model, settings)
    torch.manual_seed(seed)
    peft_model = get_peft_model(model, config)  # type: ignore[arg-type]
    assert isinstance(peft_model, PeftModel)
    to_float32(peft_model)
    return peft_model


def load_adapter(model: PreTrainedModel, folder: Path, *, trainable: bool) -> PeftModel:
    """Put a saved adapter on a frozen model, exactly as saved.

    Raises:
        ModelError: The adapter does not fit the model.
    """
    with as_model_error(folder):
        peft_model = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable, local_files_only=True)
    copy_adapter_weights(peft_model, folder)
    return peft_model


def load_with_lineage(base: Path, adapter: Path) -> PeftModel:
    """Load a base in the precision in which an adapter was trained, and put the adapter on it, frozen.

    Raises:
        ModelError: The adapter is incomplete, or belongs to another base.
    """
    folder = adapter_folder(adapter)
    lineage = read_lineage(folder)
    check_base(lineage, folder, base)
    return load_adapter(load_model(base, lineage.precision, "sdpa"), folder, trainable=False)


def copy_adapter_weights(model: PeftModel, folder: Path) -> None:
    """Set the adapter to the float32 weights in `folder`, whatever number format it had."""
    to_float32(model)
    result = set_peft_model_state_dict(model, load_file(str(folder / ADAPTER_WEIGHTS)))
    if result.unexpected_keys:
        raise ModelError(f"{folder}: the adapter has layers that this model lacks, for example {result.unexpected_keys[0]}")


def to_float32(model: torch.nn.Module) -> None:
    """Turn every adapter weight to float32."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or "lora_" in name:
            parameter.data = parameter.data.float()


def low_precision_adapters(model: torch.nn.Module) -> list[str]:
    """Return the names of trainable weights that are not float32; must be empty at every step."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.dtype != torch.float32]


@contextmanager
def kept_adapters(model: torch.nn.Module) -> Generator[None]:
    """Undo whatever the block does to the trainable weights (TRL rounds them when a trainer is built)."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    yield
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in before:
                parameter.data = before[name]


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Save an adapter as PEFT reads it: no paths and no dates inside, so equal weights are equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    save_file(weights, str(folder / ADAPTER_WEIGHTS), metadata={"format": "pt"})
    settings = model.peft_config[str(model.active_adapter)].to_dict() | {
        "base_model_name_or_path": "base",
        "revision": None,
        "inference_mode": True,
    }
    write_text(folder / ADAPTER_CONFIG, json.dumps(_plain(settings), indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    """Turn a PEFT setting into JSON; sets, whose order changes from process to process, are sorted."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def adapter_settings(folder: Path) -> LoraSettings:
    """Return the shape of a saved adapter."""
    data = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return LoraSettings(rank=data["r"], alpha=data["lora_alpha"], dropout=data["lora_dropout"], targets=tuple(data["target_modules"]))
