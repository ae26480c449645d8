"""Settings of the training stages: base, SFT, merge, GRPO.

No paths, no device. Defaults are for a real 4B model on one GPU; `deployments/profiles/smoke.yaml` shrinks them. The
settings of evaluation and publishing are in `rplab.llm.eval_config`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rplab.jsonl import JsonValue
from rplab.llm.eval_config import RewardWeights
from rplab.stage import StageConfig

Precision: TypeAlias = Literal["nf4", "bf16", "fp32"]
"""How the frozen weights are held in memory: 4-bit NormalFloat with double quantisation, bfloat16 or float32."""

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The seven projections of a Llama-like decoder layer."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LoraSettings(_Section):
    """A low-rank adapter (Hu et al. 2021)."""

    rank: int = Field(default=16, ge=1, le=512)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: tuple[str, ...] = Field(default=ALL_LINEAR, min_length=1)
    """Names of the linear layers that get an adapter."""


class OptimiserSettings(_Section):
    """AdamW with linear warm-up, then cosine decay to zero."""

    learning_rate: float = Field(default=1e-4, gt=0, lt=1)
    """Peak learning rate. The predecessor used 2e-5 with bf16 adapters, where most updates rounded to nothing."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)


class TinyModel(_Section):
    """Shape of the Qwen3 that the base stage makes when no `source` is given."""

    vocab_size: int = Field(default=8192, ge=512, le=200_000)
    """Tokens of the byte-level BPE, special tokens included."""
    hidden_size: int = Field(default=256, ge=32, multiple_of=32)
    num_layers: int = Field(default=4, ge=1)
    num_heads: int = Field(default=8, ge=1)
    num_kv_heads: int = Field(default=4, ge=1)
    head_dim: int = Field(default=32, ge=8, multiple_of=8)
    intermediate_size: int = Field(default=768, ge=64, multiple_of=64)
    max_positions: int = Field(default=8192, ge=256)
    """Longest sequence, in tokens."""

    @model_validator(mode="after")
    def _heads(self) -> TinyModel:
        if self.num_heads % self.num_kv_heads:
            raise ValueError("num_heads must be a multiple of num_kv_heads")
        return self


class PretrainSettings(_Section):
    """Full-parameter next-token training of the tiny model, counted in steps so that it is the same everywhere."""

    max_steps: int = Field(default=2000, ge=1)
    batch_tokens: int = Field(default=8192, ge=64)
    """Tokens of one optimiser step."""
    sequence_tokens: int = Field(default=1024, ge=32)
    """Length of one packed row."""
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=1e-2, weight_decay=0.01)
    wrong_share: float = Field(default=0.6, ge=0, le=1)
    """Share of replies in a wrong format (no narration, no quotes, swapped, labelled...), so that tuning has something to fix."""
    translation_share: float = Field(default=0.25, ge=0, lt=1)
    """Share of the rows that are a Korean line and its Japanese translation."""
    save_steps: int = Field(default=200, ge=1)


class BaseConfig(StageConfig):
    """Stage `base`: the model that everything else starts from."""

    seed: int = 42
    source: str | None = None
    """A local Hugging Face folder to use as the base; None makes a tiny Qwen3 from the dataset."""
    model: TinyModel = TinyModel()
    pretrain: PretrainSettings = PretrainSettings()

    def outside(self) -> JsonValue:
        """Return names, sizes and times of the source's files: another model in the same folder is another base."""
        folder = Path(self.source).expanduser() if self.source is not None else None
        if folder is None or not folder.is_dir():
            return None
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(folder.iterdir()) if path.is_file()]


class SftConfig(StageConfig):
    """Stages `sft1` and `sft2`: supervised fine-tuning of a LoRA adapter."""

    seed: int = 42
    view: Literal["sft1", "sft2"] = "sft1"
    """Which view of the dataset is learnt: single-turn or multi-turn."""
    precision: Precision = "nf4"
    lora: LoraSettings | None = None
    """Shape of a new adapter (None: the defaults). When an adapter is continued its own shape holds, and another one here is an error."""
    max_length: int = Field(default=4096, ge=32)
    """Tokens of one packed row; longer dialogues are shortened to their first exchanges."""
    packing: bool = True
    attention: Literal["varlen", "sdpa"] = "varlen"
    """`varlen` keeps packed dialogues apart without a mask; `sdpa` builds the mask."""
    rows_per_step: int = Field(default=1, ge=1)
    """Packed rows (dialogues without packing) of one forward pass."""
    accumulation_steps: int = Field(default=4, ge=1)
    """Forward passes of one optimiser step."""
    epochs: float = Field(default=2.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides `epochs`."""
    optimiser: OptimiserSettings = OptimiserSettings()
    activation_checkpointing: bool = True
    """Recompute activations in the backward pass: less memory, about a third slower."""
    eval_rows: int = Field(default=128, ge=1)
    """Held-out dialogues whose loss is measured before and after."""
    save_steps: int = Field(default=25, ge=1)
    """Steps between checkpoints; a killed run loses at most this many."""


class MergeConfig(StageConfig):
    """Stages `merge` and `grpo_merge`: fold an adapter into its base, and prove that it is the same model."""

    max_rel_l2: float = Field(default=0.02, gt=0)
    """Gate: relative L2 distance of the logits, merged against base + adapter."""
    min_top1: float = Field(default=0.99, gt=0, le=1)
    """Gate: share of positions whose most likely token is the same."""
    max_kl: float = Field(default=1e-4, gt=0)
    """Gate: mean KL divergence in nats a token."""
    probes: int = Field(default=16, ge=1)
    """Held-out dialogues on which the two are compared."""
    probe_tokens: int = Field(default=512, ge=16)
    """Longest probe; the rest of a dialogue is not compared."""


class GrpoConfig(StageConfig):
    """Stage `grpo`: group-relative policy optimisation (Shao et al. 2024) of a new adapter on the merged model.

    Rollouts are drawn at temperature 1 without nucleus, top-k or repetition penalty: the trainer's probabilities know only
    the temperature, so that anything else makes the gradient wrong. There are no settings for it on purpose.
    """

    seed: int = 42
    precision: Precision = "bf16"
    lora: LoraSettings = LoraSettings(dropout=0.0)
    """Without dropout: the probabilities that are learnt from must be those that were drawn from."""
    rewards: RewardWeights = RewardWeights()
    aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "sum_then_normalize"
    """`normalize_then_sum` (GDPO) scales each reward within its group before adding, so that no single one drowns the rest."""
    length_band: tuple[int, int] | None = None
    """Characters of a reply that earn the whole length reward; None takes the 5th and 95th percentile of the references."""
    max_steps: int = Field(default=200, ge=1)
    prompts_per_step: int = Field(default=8, ge=1)
    num_generations: int = Field(default=8, ge=2)
    """Replies drawn for one prompt: the group."""
    micro_batch: int = Field(default=8, ge=1)
    """Replies of one backward pass; must divide prompts_per_step x num_generations."""
    max_prompt_tokens: int = Field(default=1024, ge=32)
    """Longer prompts lose their oldest exchanges (never the system text); what still does not fit is dropped and counted."""
    max_completion_tokens: int = Field(default=220, ge=4)
    beta: float = Field(default=0.02, ge=0)
    """Weight of the KL divergence from the start policy."""
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    """Clip range of the probability ratio."""
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=1e-5)
    activation_checkpointing: bool = False
    collapse_steps: int = Field(default=10, ge=2)
    """Stop with an error after this many steps in a row without any reward difference or with every reply cut off."""
    logged_completions: int = Field(default=64, ge=0)
    """Replies kept in completions.jsonl, spread over the run."""
    probes: int = Field(default=16, ge=1)
    """Held-out prompts with references kept for the parity check of the merge."""
    save_steps: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _divides(self) -> GrpoConfig:
        total = self.prompts_per_step * self.num_generations
        if total % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} must divide prompts_per_step x num_generations = {total}")
        if self.length_band is not None and not 0 < self.length_band[0] < self.length_band[1]:
            raise ValueError(f"length_band {self.length_band} must be (smallest, largest) with 0 < smallest < largest")
        return self
