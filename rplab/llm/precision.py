"""Loading models for training: number formats, and the bitsandbytes fix.

- On CPUs with AVX512-BF16, bitsandbytes repacks 4-bit weights at the first evaluation and has no backward for the
  packed form: gradients are wrong from then on (spec/llm.md 0.3). The repacking is switched off, and a test watches it.
- Loading follows the checkpoint's number format unless told; we always tell.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from bitsandbytes.nn.modules import Linear4bit
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rplab.errors import ModelError
from rplab.llm import attention
from rplab.llm.config import Attention, Precision
from rplab.llm.model_folder import check_model_folder
from rplab.llm.template import END_OF_TEXT, TURN_END, check_vocabulary, end_id, pad_id
from rplab.llm.template_adoption import install_template

logger = logging.getLogger(__name__)

_DTYPES = {"nf4": torch.bfloat16, "bf16": torch.bfloat16, "fp32": torch.float32}


def quiet_libraries() -> None:
    """Silence progress bars and notices that tell a user of the lab nothing."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\.")
    import datasets  # only its progress bars; slow to import

    datasets.disable_progress_bars()


def model_folder(artefact: Path) -> Path:
    """Return the Hugging Face folder of an artefact (its `model/`) or the folder itself, checked.

    Raises:
        ModelError: The folder or one of its parts is missing; the message names it.
    """
    folder = artefact / "model" if (artefact / "model").is_dir() else artefact
    check_model_folder(folder)
    return folder


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer with a template that can be trained with.

    Raises:
        ModelError: It cannot be read, or its template does not mark the assistant's turns.
    """
    with as_model_error(folder):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    install_template(tokenizer)
    check_vocabulary(tokenizer, num_embeddings(folder))
    return tokenizer


def num_embeddings(folder: Path) -> int:
    """Return how many tokens a model knows, from its config.json."""
    size = _setting(folder, "vocab_size")
    return int(size) if size is not None else 1 << 30


def bends_scores(folder: Path) -> bool:
    """Return whether a model's attention caps its scores softly (Gemma 2), from its config.json."""
    return (folder / "config.json").is_file() and _setting(folder, "attn_logit_softcapping") is not None


def _setting(folder: Path, name: str) -> Any:
    """Return a setting of a model's language part; None without it."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config.get(name, (config.get("text_config") or {}).get(name))


def ending_config(tokenizer: Any, folder: Path | None) -> GenerationConfig:
    """Return how a model ends a reply: at the end of its turn, or where the folder's own settings say so."""
    known = folder is not None and (folder / "generation_config.json").is_file()
    settings = GenerationConfig.from_pretrained(str(folder)) if known else GenerationConfig()
    before = settings.eos_token_id
    ends: list[Any] = [end_id(tokenizer), *(before if isinstance(before, list) else [before])]
    vocabulary = tokenizer.get_vocab()
    ends += [vocabulary[token] for token in (TURN_END, END_OF_TEXT) if token in vocabulary]
    settings.eos_token_id = list(dict.fromkeys(int(end) for end in ends if end is not None))
    settings.pad_token_id = pad_id(tokenizer)
    return settings


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a tokenizer with its template; how it was loaded stays out of the file."""
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(str(folder))


def load_model(folder: Path, precision: Precision, attention_name: Attention = "varlen") -> PreTrainedModel:
    """Load a causal language model with frozen weights, on the accelerator when there is one.

    Args:
        folder: Hugging Face folder.
        precision: Number format of the weights; the computation of `nf4` and `bf16` is bfloat16.
        attention_name: See `rplab.llm.attention.implementation`.

    Raises:
        ModelError: It cannot be read.
    """
    if bends_scores(folder):  # ours is the only one here that can
        attention_name = "varlen"
    arguments: dict[str, Any] = {"dtype": _DTYPES[precision], "attn_implementation": attention.implementation(attention_name)}
    if precision == "nf4":
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
        )
    if torch.cuda.is_available():
        arguments["device_map"] = {"": torch.cuda.current_device()}
    with as_model_error(folder):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True, **arguments)
    fix_4bit_layers(model)
    model.requires_grad_(False)
    return model


@contextmanager
def as_model_error(folder: Path) -> Generator[None]:
    """Turn what transformers raises for a broken folder into one message."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and "out of memory" in str(error).lower():
            raise
        raise ModelError(f"{folder}: cannot be loaded ({str(error).strip().splitlines()[0][:300]}). Copy or download it again") from error


def fix_4bit_layers(model: torch.nn.Module) -> int:
    """Switch off the CPU repacking that breaks gradients; return the number of 4-bit layers.

    bitsandbytes 0.50.2, nn/modules.py `Linear4bit.forward`: an evaluation forward packs the weight in place for an
    operator without a backward. Remove this when a release has one.
    """
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)
