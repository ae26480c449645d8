"""Loading a model folder for inference: without the training half, unless 4-bit weights are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from rplab.errors import ModelError
from rplab.llm.eval_config import Precision
from rplab.llm.model_folder import check_model_folder
from rplab.llm.template_adoption import install_template

_FP32_MAX_PARAMETERS = 1_000_000_000
"""On a CPU, models up to this size run in fp32 (exact and fast enough); larger ones in bf16, which halves the memory."""


def open_model(folder: Path, precision: Precision, device: str | None) -> tuple[Any, Any]:
    """Return model and tokenizer of a folder, ready for generation.

    Args:
        folder: Directory with config.json, safetensors weights and a tokenizer.
        precision: See `rplab.llm.eval_config.EvaluateConfig.precision`.
        device: torch device; the first GPU when there is one, else the CPU.

    Raises:
        ModelError: The folder is missing, incomplete or not loadable; the message says what to do.
    """
    check_model_folder(folder)
    transformers_logging.disable_progress_bar()  # one bar a loaded file would stand between the lines of play
    if precision == "nf4":
        return _open_4bit(folder)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=_dtype(precision, folder, place)
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded ({error}). Make the stage that wrote it again, or copy the folder anew") from error
    install_template(tokenizer)
    return model.to(place).eval(), tokenizer


def _open_4bit(folder: Path) -> tuple[Any, Any]:
    try:
        from rplab.llm.precision import load_model, load_tokenizer  # bitsandbytes belongs to the training half
    except ImportError as error:
        raise ModelError(
            f"{folder}: precision nf4 needs bitsandbytes ({error}). Install the extra `train`, or use precision bf16"
        ) from None
    return load_model(folder, "nf4", "sdpa").eval(), load_tokenizer(folder)


def _dtype(precision: Precision, folder: Path, device: torch.device) -> torch.dtype:
    if precision == "fp32":
        return torch.float32
    if precision == "bf16" or device.type != "cpu":
        return torch.bfloat16
    stored_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return torch.float32 if stored_bytes <= 2 * _FP32_MAX_PARAMETERS else torch.bfloat16
