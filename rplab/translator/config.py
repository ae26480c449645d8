"""Settings of the translator: training, decoding and its gates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rplab.llm.config import LoraSettings, OptimiserSettings
from rplab.stage import StageConfig


class TranslatorConfig(StageConfig):
    """Stage `translator`: a base model learns Korean speech -> Japanese speech.

    Defaults are for a real 1.7B to 4B base; the smoke profile trains every weight of the tiny one.
    """

    seed: int = 42
    method: Literal["lora", "full"] = "lora"
    """`lora`: an adapter that is merged at the end; `full`: every weight (tiny models)."""
    lora: LoraSettings = LoraSettings(rank=32, alpha=64)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Frozen weights under `lora`. auto = bf16 on a GPU, fp32 on a CPU. What is trained is always held in fp32."""
    max_pair_tokens: int = Field(default=512, ge=16)
    """Prompt and answer together; longer pairs are dropped and counted."""
    batch_tokens: int = Field(default=4096, ge=16)
    """Tokens of one forward pass, padding included; pairs of like length go together."""
    accumulation_steps: int = Field(default=4, ge=1)
    """Forward passes of one optimiser step."""
    epochs: float = Field(default=3.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides `epochs`."""
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=2e-4)
    eval_rows: int = Field(default=128, ge=1)
    """Held-out pairs whose loss is measured before and after."""
    save_steps: int = Field(default=100, ge=1)
    """Steps between checkpoints; a killed run loses at most this many."""


class TranslatorGates(StageConfig):
    """Least (or most) values of the translator; below them nothing is published."""

    min_chrfpp: float = Field(default=60.0, ge=0, le=100)
    max_hangul_rate: float = Field(default=0.02, ge=0, le=1)
    """Share of translations with Hangul left in them, after the retry."""
    min_stop_rate: float = Field(default=0.98, ge=0, le=1)
    """Share of translations that the model ended by itself."""
    min_politeness_rate: float = Field(default=0.8, ge=0, le=1)
    """Share of clearly polite or casual Korean lines whose Japanese has the same level."""


class TranslatorEvalConfig(StageConfig):
    """Stage `translator_eval`."""

    num_pairs: int = Field(default=200, ge=1)
    """Held-out pairs; when the evaluation file has fewer, all are used and the report says so."""
    max_new_tokens: int = Field(default=128, ge=1, le=2048)
    batch_size: int = Field(default=32, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    num_samples: int = Field(default=20, ge=0)
    """Translations printed in the report."""
    gates: TranslatorGates = TranslatorGates()
    seed: int = 42
