"""Settings of the training stages: base, SFT, merge, GRPO.

No paths, no device. Defaults are for a real 4B model on one GPU; `deployments/profiles/smoke.yaml` shrinks them. The
settings of evaluation and publishing are in `rplab.llm.eval_config`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rplab.jsonl import JsonValue
from rplab.llm.eval_config import RewardWeights
from rplab.stage import RunOnly, StageConfig

Precision: TypeAlias = Literal["nf4", "bf16", "fp32"]
"""How the frozen weights are held in memory: 4-bit NormalFloat with double quantisation, bfloat16 or float32."""

Tracker: TypeAlias = Literal["tensorboard", "trackio", "wandb"]

Attention: TypeAlias = Literal["auto", "fa4", "varlen", "sdpa"]
"""How packed dialogues are kept apart: `varlen` by torch's own kernel, `fa4` by FlashAttention 4, `sdpa` by a mask of the whole
row; `auto` takes the fastest that the machine has and says so in the log."""

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

    algorithm: Literal["adamw", "paged_adamw_8bit"] = "adamw"
    """`paged_adamw_8bit` holds its state in 8 bits and pages it out (NVIDIA only); an adapter's state is so small that it gains little."""
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


class AdapterTraining(StageConfig):
    """What every training of an adapter is told."""

    seed: int = 42
    fused: bool = True
    """Compute each adapter in one step with its layer (`rplab.llm.fused_lora`) and, on a CPU, the loss in one step with the head
    (`rplab.llm.fused_head`); false: PEFT's and TRL's own, operator by operator."""
    report_to: Annotated[tuple[Tracker, ...], RunOnly()] = ()
    """Trackers beside metrics.jsonl: tensorboard, trackio, wandb."""


class SftConfig(AdapterTraining):
    """Stages `sft1` and `sft2`: supervised fine-tuning of a LoRA adapter."""

    view: Literal["sft1", "sft2"] = "sft1"
    """Which view of the dataset is learnt: single-turn or multi-turn."""
    precision: Precision = "nf4"
    lora: LoraSettings | None = None
    """Shape of a new adapter (None: the defaults). When an adapter is continued its own shape holds, and another one here is an error."""
    max_length: int = Field(default=4096, ge=32)
    """Tokens of one packed row; longer dialogues are shortened to their first exchanges."""
    packing: bool = True
    attention: Attention = "auto"
    rows_per_step: int = Field(default=1, ge=1)
    """Packed rows (dialogues without packing) of one forward pass."""
    accumulation_steps: int | None = Field(default=None, ge=1)
    """Forward passes of one optimiser step, of all processes together (None: what `step_tokens` asks for, else 4)."""
    step_tokens: int | None = Field(default=None, ge=32)
    """Tokens of one optimiser step instead of `accumulation_steps`, which follows from it: a budget that keeps its meaning when
    `max_length` or `rows_per_step` is changed to fit another GPU. Needs packing."""
    epochs: float = Field(default=2.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides `epochs`."""
    optimiser: OptimiserSettings = OptimiserSettings()
    activation_checkpointing: bool = True
    """Recompute activations in the backward pass: less memory, about a third slower."""
    eval_rows: int = Field(default=128, ge=1)
    """Held-out dialogues whose loss is measured before and after, and every `eval_steps`."""
    eval_steps: int | None = Field(default=None, ge=1)
    """Steps between measurements of the held-out loss while training; the adapter with the lowest one is the result."""
    sample_prompts: int = Field(default=3, ge=0, le=64)
    """Held-out prompts answered at every measurement and at the end, into samples.jsonl; 0 = none."""
    sample_tokens: int = Field(default=96, ge=1)
    """Longest of these answers."""
    save_steps: int = Field(default=25, ge=1)
    """Steps between checkpoints; a killed run loses at most this many."""

    @property
    def passes_per_step(self) -> int:
        """Forward passes of one optimiser step."""
        if self.step_tokens is None:
            return self.accumulation_steps or 4
        return max(1, round(self.step_tokens / (self.max_length * self.rows_per_step)))

    @model_validator(mode="after")
    def _budget(self) -> SftConfig:
        if self.step_tokens is not None and self.accumulation_steps is not None:
            raise ValueError("give either step_tokens or accumulation_steps, not both: one of them would have no effect")
        if self.step_tokens is not None and not self.packing:
            raise ValueError("step_tokens counts tokens of packed rows and has no effect with packing: false. Set accumulation_steps")
        return self


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


class RelevanceSettings(_Section):
    """A reward from outside: whether a reply answers what was said."""

    kind: Literal["embedding", "judge"]
    """`embedding`: likeness of line and reply; `judge`: a model gives 0 to 10."""
    base_url: str
    """An endpoint with OpenAI's protocol, for example http://127.0.0.1:8000/v1."""
    model: str
    api_key_env: str = ""
    """Environment variable that holds the key; empty: none is needed."""
    weight: float = Field(default=0.15, gt=0)
    """Beside those of `rewards`."""
    concurrency: int = Field(default=8, ge=1, le=256)
    timeout_s: float = Field(default=60.0, gt=0)


class GrpoConfig(AdapterTraining):
    """Stage `grpo`: group-relative policy optimisation (Shao et al. 2024) of a new adapter on the merged model.

    Rollouts are drawn at temperature 1 without nucleus, top-k or repetition penalty: the trainer's probabilities know only
    the temperature, so that anything else makes the gradient wrong. There are no settings for it on purpose.
    """

    precision: Precision = "bf16"
    start: Literal["auto", "merged", "adapter"] = "auto"
    """`merged`: a new adapter on the merged model (the start policy is that model, for free). `adapter`: go on with the adapter of
    stage 2 on its own base, for cards that cannot hold the merged model and its rollouts. `auto`: merged if that fits."""
    lora: LoraSettings = LoraSettings(dropout=0.0)
    """Without dropout: the probabilities that are learnt from must be those that were drawn from."""
    rewards: RewardWeights = RewardWeights()
    relevance: RelevanceSettings | None = None
    """One more reward, from an embedding model or a judge behind an endpoint; off by default."""
    vllm: bool = False
    """Draw the replies with vLLM in this process (`pip install vllm`, an NVIDIA GPU, and the merged model in bf16): faster for
    real models, needs room for a second copy of the weights."""
    vllm_memory: float | None = Field(default=None, gt=0, lt=1)
    """Share of the GPU's memory that vLLM takes (None: 0.3)."""
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
        if self.vllm and (self.precision != "bf16" or self.start == "adapter"):
            raise ValueError("vllm: true needs precision: bf16 and start: merged; vLLM cannot take over 4-bit weights while they train")
        if not self.vllm and self.vllm_memory is not None:
            raise ValueError("vllm_memory has no effect without vllm: true")
        if self.start == "merged" and self.precision == "nf4":
            raise ValueError(
                "start: merged with precision: nf4 rounds the merged model a second time. Set precision: bf16 or start: adapter"
            )
        total = self.prompts_per_step * self.num_generations
        if total % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} must divide prompts_per_step x num_generations = {total}")
        if self.length_band is not None and not 0 < self.length_band[0] < self.length_band[1]:
            raise ValueError(f"length_band {self.length_band} must be (smallest, largest) with 0 < smallest < largest")
        return self
