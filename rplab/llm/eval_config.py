"""Settings of the rewards, the evaluation and its gates, and of publishing.

They stand apart from the training settings so that a weight or a gate can be changed without reading a trainer.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rplab.backend.config import OpenAIConfig
from rplab.character import Card
from rplab.stage import StageConfig

Precision = Literal["auto", "fp32", "bf16", "nf4"]


class RewardWeights(StageConfig):
    """What each reward term counts. Only the proportions matter; 0 leaves a term out."""

    format: float = Field(default=0.20, ge=0)
    """One narration line, one quoted line, nothing else."""
    role: float = Field(default=0.15, ge=0)
    """No speaker labels, no special tokens, no words put into the player's mouth."""
    character: float = Field(default=0.25, ge=0)
    """The protagonist's name, plain-style narration, the card's speech level."""
    length: float = Field(default=0.10, ge=0)
    """Inside the band that the training replies have."""
    repetition: float = Field(default=0.20, ge=0)
    """No loops, no padding. As much as the format: with 0.12 one of three runs learnt to say a sentence three times."""
    script: float = Field(default=0.10, ge=0)
    """Korean only: no Hanja, kana, Latin letters or broken Hangul."""
    echo: float = Field(default=0.08, ge=0)
    """Does not hand the player's own words back."""

    @model_validator(mode="after")
    def _something_counts(self) -> RewardWeights:
        if sum(self.model_dump().values()) <= 0:
            raise ValueError("every weight is 0; give at least one reward term a weight above 0")
        return self


class DecodingConfig(StageConfig):
    """How tokens are chosen."""

    max_new_tokens: int = Field(default=160, ge=1, le=4096)
    temperature: float = Field(default=0.0, ge=0, le=5)
    """0 = greedy (the most probable token each time)."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 = no cut."""
    repetition_penalty: float = Field(default=1.0, ge=1, le=2)
    """Divides the logits of tokens that the reply already has; 1 = off. Counts the reply only, never the prompt."""


class EvalGates(StageConfig):
    """Least (or most) values of the final model; below them nothing is published."""

    min_format_rate: float = Field(default=0.8, ge=0, le=1)
    """Share of replies that are exactly one narration line and one quoted line."""
    min_register_rate: float = Field(default=0.7, ge=0, le=1)
    """Share of replies whose spoken line keeps the speech level."""
    min_name_rate: float = Field(default=0.7, ge=0, le=1)
    """Share of replies whose narration starts with the protagonist's name."""
    min_eos_rate: float = Field(default=0.9, ge=0, le=1)
    """Share of replies that the model ended by itself."""
    max_leak_rate: float = Field(default=0.05, ge=0, le=1)
    """Share of replies with a speaker label, a special token or the player's lines."""
    max_repetition_rate: float = Field(default=0.1, ge=0, le=1)
    """Share of replies that loop or pad."""
    max_echo_rate: float = Field(default=0.1, ge=0, le=1)
    """Share of replies that hand back most of the player's own words."""
    max_distinct_loss: float = Field(default=0.1, ge=0, le=1)
    """Share of distinct-2 that GRPO may cost: a policy that says the same to everybody earns well."""
    max_repetition_rise: float = Field(default=0.02, ge=0, le=1)
    """How far GRPO may raise the share of repetitive replies."""
    min_nll_gain: float = Field(default=0.0, ge=-10, le=10)
    """Least fall of the held-out loss (nats a token) from the base model to the model after SFT."""
    reward_tolerance: float = Field(default=0.01, ge=0, le=1)
    """How far the mean reward after GRPO may lie below the mean after SFT."""
    min_sft_gain: float = Field(default=0.0, ge=-1, le=1)
    """Least gain in mean reward from the base model to the model after SFT."""


class JudgeConfig(StageConfig):
    """A second opinion: a model behind any OpenAI-compatible endpoint compares the replies of two models, in both orders."""

    backend: OpenAIConfig
    """Endpoint, model and NAME of the key's environment variable."""
    num_prompts: int = Field(default=50, ge=1)
    """Prompts whose replies are compared, of those that are evaluated."""
    max_tokens: int = Field(default=256, ge=16, le=8192)
    """Longest verdict."""


class EvaluateConfig(StageConfig):
    """Settings of the stage `evaluate`."""

    num_prompts: int = Field(default=50, ge=1)
    """Held-out prompts; when the evaluation file has fewer, all are used and the report says so."""
    decoding: DecodingConfig = DecodingConfig()
    """Greedy by default: the numbers then say something about the model and not about the draw."""
    batch_size: int = Field(default=16, ge=1)
    """Prompts decoded together. Part of the config because it can change the last bits of the logits."""
    precision: Precision = "auto"
    """auto = bf16 on a GPU; fp32 on a CPU up to 1 B parameters, else bf16. nf4 = 4 bits (bitsandbytes), where memory is short."""
    weights: RewardWeights = RewardWeights()
    min_chars: int | None = Field(default=None, ge=1)
    """Reply length band in characters; None = 5th to 95th percentile of the training references."""
    max_chars: int | None = Field(default=None, ge=1)
    bootstrap_samples: int = Field(default=2000, ge=100)
    """Resamples behind each 95 % interval."""
    nll_rows: int = Field(default=50, ge=0)
    """Held-out dialogues on which the loss per assistant turn is measured; 0 = none."""
    max_nll_tokens: int = Field(default=2048, ge=16)
    """Longer dialogues are shortened to their first exchanges before the loss is measured; evaluation.json counts them."""
    num_samples: int = Field(default=8, ge=0)
    """Prompts whose replies are printed in the report."""
    judge: JudgeConfig | None = None
    """None = no judge; the gates never depend on it."""
    gates: EvalGates = EvalGates()
    seed: int = 42


class PublishConfig(StageConfig):
    """Settings of the stage `character`."""

    card: Card | None = None
    """The character that the models were made for; the profile's card when not set."""
    pack: str = "v7"
    """Recipe whose system text the model was trained on; the profile's when not set."""
    play: dict[str, Any] | None = None
    """How the character is played (the profile's section `play`): play starts from these settings."""
