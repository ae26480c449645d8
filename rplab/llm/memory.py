"""How much memory a training run will take, from a model's config.json alone: no weights are read.

Counted by hand for Llama-like decoders (Qwen, Llama, Gemma, Mistral); a test compares the parameter counts with real
models, and the activations with what autograd really keeps. The rest of a process (CUDA context, kernels' workspace,
fragmentation) is `RESERVE_GIB`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from rplab.errors import ModelError, TrainingError
from rplab.llm.config import LoraSettings, OptimiserSettings, Precision

logger = logging.getLogger(__name__)

GIB = 2**30
RESERVE_GIB = 1.0
_GPT2_NAMES = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes a weight: 4 bits, one 8-bit scale a block of 64, and one float32 a 256 of those."""
_HEAD_CHUNK = 1024
"""Positions that TRL's fused head scores at once."""


@dataclass(frozen=True)
class Shape:
    """What decides the size of a decoder-only transformer."""

    hidden: int
    layers: int
    query: int
    """Query heads x head size."""
    keys: int
    """Key/value heads x head size."""
    intermediate: int
    vocabulary: int
    tied: bool

    def linear_sizes(self) -> dict[str, tuple[int, int]]:
        """Return (inputs, outputs) of each projection of a layer."""
        return {
            "q_proj": (self.hidden, self.query),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.query, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def block_weights(self) -> int:
        """Matrix weights of all layers: the N of "4N operations a token"."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear_sizes().values())

    @property
    def embedding_weights(self) -> int:
        """Weights of the embedding, and of the head when it has its own."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter_weights(self, lora: LoraSettings) -> int:
        """Weights of an adapter; targets with other names are not counted."""
        sizes = self.linear_sizes()
        return self.layers * lora.rank * sum(sum(sizes[name]) for name in lora.targets if name in sizes)


def read_shape(folder: Path) -> Shape:
    """Read a shape from `config.json`.

    Raises:
        ModelError: No such file, or it describes no decoder of this kind.
    """
    path = folder / "config.json" if folder.is_dir() else folder
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}). Give a model folder or its config.json") from None
    text = _in_usual_words(data.get("text_config", data))
    try:
        heads = int(text["num_attention_heads"])
        size = int(text.get("head_dim") or text["hidden_size"] // heads)
        return Shape(
            hidden=int(text["hidden_size"]),
            layers=int(text["num_hidden_layers"]),
            query=heads * size,
            keys=int(text.get("num_key_value_heads") or heads) * size,
            intermediate=int(text["intermediate_size"]),
            vocabulary=int(text["vocab_size"]),
            tied=bool(data.get("tie_word_embeddings", text.get("tie_word_embeddings", True))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: describes no decoder-only transformer that the estimate knows ({error})") from None


def _in_usual_words(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with GPT-2's names for its sizes told in those of later models."""
    renamed = {usual: config[own] for own, usual in _GPT2_NAMES.items() if own in config and usual not in config}
    if "hidden_size" in renamed and "intermediate_size" not in config:
        renamed["intermediate_size"] = config.get("n_inner") or 4 * renamed["hidden_size"]
    return {**config, **renamed}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by purpose."""

    weights: int
    adapter: int
    gradients: int
    optimiser: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it, without the reserve."""
        return self.weights + self.adapter + self.gradients + self.optimiser + self.activations + self.logits

    def as_gib(self) -> dict[str, float]:
        """Return GiB by purpose, with the reserve and the total."""
        parts = {name: round(value / GIB, 3) for name, value in vars(self).items()}
        return {**parts, "reserve": RESERVE_GIB, "total": round(self.total / GIB + RESERVE_GIB, 2)}


def estimate_training(
    shape: Shape,
    precision: Precision,
    lora: LoraSettings,
    optimiser: OptimiserSettings,
    *,
    tokens: int,
    checkpointing: bool,
    learnt_share: float = 1.0,
) -> MemoryEstimate:
    """Estimate the most memory of an adapter's training.

    Args:
        shape: The base.
        precision: How the base is held.
        lora: The adapter's shape.
        optimiser: Decides the size of the optimiser's state.
        tokens: Tokens of one forward pass, padding included.
        checkpointing: Activations are recomputed in the backward pass.
        learnt_share: Share of the positions that go through the vocabulary.
    """
    wide = 4 if precision == "fp32" else 2
    per_weight = _NF4_BYTES if precision == "nf4" else wide
    trainable = shape.adapter_weights(lora)
    layer = activation_bytes(shape, lora, wide) * tokens
    kept = wide * shape.hidden * tokens
    scored = min(_HEAD_CHUNK, max(1, round(tokens * learnt_share)))
    return MemoryEstimate(
        weights=round(shape.block_weights * per_weight + shape.embedding_weights * wide + (2 * shape.layers + 1) * shape.hidden * wide),
        adapter=4 * trainable,
        gradients=4 * trainable,
        optimiser=trainable * (8 if optimiser.algorithm == "adamw" else 2),
        activations=shape.layers * kept + layer if checkpointing else shape.layers * layer,
        logits=scored * shape.vocabulary * (2 * wide + 4),
    )


def activation_bytes(shape: Shape, lora: LoraSettings, wide: int) -> int:
    """Return what autograd keeps of one layer for one token.

    Norms compute in float32 and keep input and result; each projection with an adapter keeps its input once more under
    dropout (values and mask); rotary positions, attention and the gated MLP keep their operands.
    """
    h, q, kv, i = shape.hidden, shape.query, shape.keys, shape.intermediate
    norms = 2 * (4 * h + 2 * wide * h) + (4 + 2 * wide) * (q + kv)
    attention = wide * (2 * q + 3 * kv) + wide * (q + kv) + wide * q
    mlp = 4 * wide * i
    adapters = sum(wide * lora.rank + ((wide + 1) * inputs if lora.dropout else 0) for inputs, _ in shape.linear_sizes().values())
    return norms + attention + mlp + adapters


def cache_bytes(shape: Shape, rows: int, tokens: int) -> int:
    """Return the bytes of a bf16 key/value cache."""
    return 2 * 2 * shape.layers * shape.keys * rows * tokens


def lower_memory(*, checkpointing: bool, precision: Precision, max_length: int, rows: int, what: str = "max_length") -> str:
    """Say what to lower, most effective and least harmful first."""
    steps: list[str] = []
    if not checkpointing:
        steps.append("activation_checkpointing: true (a third slower, a fraction of the activations)")
    if rows > 1:
        steps.append(f"rows_per_step below {rows}, with more accumulation_steps")
    if precision != "nf4":
        steps.append("precision: nf4 (a quarter of the weights)")
    steps.append(f"{what} below {max_length}")
    return "; ".join(steps)


def free_memory() -> tuple[int, str]:
    """Return the free bytes of the device that trains, and its name."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0], torch.cuda.get_device_name()
    return psutil.virtual_memory().available, "main memory"


def refuse_without_room(estimate: MemoryEstimate, label: str, advice: str) -> None:
    """Refuse what cannot fit, and warn of what probably does not.

    Raises:
        TrainingError: Weights, adapter and optimiser alone are larger than what is free.
    """
    free, where = free_memory()
    fixed = estimate.total - estimate.activations - estimate.logits
    if fixed > free:
        raise TrainingError(
            f"{label}: too little memory: weights, adapter and optimiser take {fixed / GIB:.1f} GiB, {where} has "
            f"{free / GIB:.1f} GiB free. Set {advice}; or take a smaller base"
        )
    if estimate.total + RESERVE_GIB * GIB > free:
        logger.warning(
            "%s: may run out of memory: about %.1f GiB needed, %.1f GiB free. If it does, set %s",
            label, estimate.total / GIB + RESERVE_GIB, free / GIB, advice,
        )  # fmt: skip
