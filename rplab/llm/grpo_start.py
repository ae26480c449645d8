"""Where GRPO starts: on the merged model with a new adapter, or, when that does not fit, with the adapter of stage 2.

The merged model in bf16 is what SFT produced, and without the new adapter it is the reference policy for nothing. It
needs two bytes a weight beside rollouts and activations. On a smaller card the base stays in 4 bits and the adapter of
stage 2 goes on, with a frozen copy as the reference. A merged model rounded to 4 bits again would be neither.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from rplab.errors import ConfigError
from rplab.llm.adapter import ADAPTER_WEIGHTS, adapter_folder, load_adapter
from rplab.llm.config import GrpoConfig, Precision
from rplab.llm.lineage import check_base, read_lineage
from rplab.llm.memory import GIB, RESERVE_GIB, MemoryEstimate, cache_bytes, estimate_training, free_memory, read_shape, refuse_without_room
from rplab.llm.precision import load_model, model_folder
from rplab.llm.rows import file_digest

logger = logging.getLogger(__name__)

_ADVICE = "a smaller micro_batch, prompts_per_step or max_completion_tokens, activation_checkpointing: true, or start: adapter"


@dataclass(frozen=True)
class Start:
    """What GRPO trains."""

    kind: str
    """`merged` or `adapter`."""
    folder: Path
    """Model that the trained adapter will belong to."""
    precision: Precision
    adapter: Path | None = None
    """Adapter that goes on; None: a new one."""

    @property
    def parent(self) -> str | None:
        """sha256 of the adapter that goes on."""
        return None if self.adapter is None else file_digest(self.adapter / ADAPTER_WEIGHTS)

    def load(self) -> PreTrainedModel | PeftModel:
        """Load the model, with the adapter when there is one."""
        model = load_model(self.folder, self.precision)
        if self.adapter is None:
            return model
        adapted = load_adapter(model, self.adapter, trainable=True)
        for module in adapted.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # what is learnt from must be what was drawn from
        return adapted


def choose_start(config: GrpoConfig, inputs: Mapping[str, Path]) -> Start:
    """Choose where to start, by setting or by free memory; the log says what and why.

    Raises:
        ConfigError: `start: adapter` without `base` and `adapter`, or settings that have no effect there.
        ModelError: A folder is incomplete, or the adapter belongs to another base.
        TrainingError: Nothing fits.
    """
    if config.start == "adapter":
        return _with_adapter(config, inputs)
    folder = model_folder(inputs["model"])
    merged = Start("merged", folder, config.precision)
    needed = estimate(config, folder, config.precision)
    free, where = free_memory()
    if config.start == "auto" and needed.total + RESERVE_GIB * GIB > free and {"base", "adapter"} <= set(inputs):
        logger.info(
            "grpo: the merged model needs about %.1f GiB, %s has %.1f GiB free: going on with the adapter of stage 2 instead",
            needed.total / GIB + RESERVE_GIB, where, free / GIB,
        )  # fmt: skip
        return _with_adapter(config, inputs)
    refuse_without_room(needed, "grpo", _ADVICE)
    return merged


def _with_adapter(config: GrpoConfig, inputs: Mapping[str, Path]) -> Start:
    if missing := sorted({"base", "adapter"} - set(inputs)):
        raise ConfigError(f"start: adapter goes on with the adapter of stage 2 and needs --{' and --'.join(missing)}")
    if config.vllm:
        raise ConfigError("vllm: true needs the merged model, which does not fit here. Set vllm: false, or take a larger GPU")
    folder, adapter = model_folder(inputs["base"]), adapter_folder(inputs["adapter"])
    lineage = read_lineage(adapter)
    check_base(lineage, adapter, folder)
    refuse_without_room(estimate(config, folder, lineage.precision), "grpo", _ADVICE)
    return Start("adapter", folder, lineage.precision, adapter)


def estimate(config: GrpoConfig, folder: Path, precision: Precision) -> MemoryEstimate:
    """Estimate a step: one micro-batch, or the cache of the rollouts where that is larger."""
    shape = read_shape(folder)
    prompts = math.ceil(config.micro_batch / config.num_generations)
    tokens = config.micro_batch * config.max_completion_tokens + prompts * config.max_prompt_tokens
    training = estimate_training(
        shape, precision, config.lora, config.optimiser, tokens=tokens, checkpointing=config.activation_checkpointing
    )
    rows = config.prompts_per_step * config.num_generations
    cache = cache_bytes(shape, rows, config.max_prompt_tokens + config.max_completion_tokens)
    return MemoryEstimate(**{**vars(training), "activations": max(training.activations, cache)})
