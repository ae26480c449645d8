"""Settings of the data-set stages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rplab.backend.config import EmbeddingsConfig
from rplab.stage import StageConfig


class NormaliseConfig(StageConfig):
    """Convert single-turn rows to messages and clean them."""

    seed: int = 42
    """Root seed of the name drawn for a `{{user}}` whose row names no player."""


class SemanticConfig(StageConfig):
    """Leave out conversations that say the same as an earlier one in other words."""

    embeddings: EmbeddingsConfig
    """The endpoint that turns texts into vectors."""
    similarity: float = Field(default=0.92, gt=0, le=1)
    """Cosine from which the later of two conversations is left out."""


class DatasetConfig(StageConfig):
    """Unite the rows, split them by scenario, cut the training views."""

    seed: int = 42
    eval_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the scenarios (of each kind) kept for evaluation; at least one when there are two or more."""
    sft2_single_turn_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the single-turn rows that stage 2 sees again beside the dialogues."""
    max_context_messages: int = Field(default=12, ge=0)
    """Messages of a GRPO prompt, system turns included; 0 = no limit."""
    min_prompt_chars: int = Field(default=8, ge=0)
    """Characters of the flattened GRPO prompt."""
    min_reference_chars: int = Field(default=4, ge=0)
    """Characters of a GRPO reference."""
    translation_narration: bool = False
    """Also pair narration lines, not only speech."""
    min_translation_eval: int = Field(default=24, ge=0)
    """Lines to hold out for translation even when training scenarios say them too (those copies leave training)."""
    near_duplicate_similarity: float = Field(default=0.85, gt=0, le=1)
    """Jaccard similarity of character 3-grams from which two conversations count as near duplicates."""
    near_duplicates: Literal["count", "drop"] = "count"
    """What happens to the later of two near duplicates: it is marked and counted, or it is left out (and counted)."""
    semantic: SemanticConfig | None = None
    """Also compare meanings, through an embeddings endpoint; without this section nobody does."""
