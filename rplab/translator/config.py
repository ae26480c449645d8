"""Settings of the translator: training, decoding and its gates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rplab.llm.config import LoraSettings, OptimiserSettings, Precision
from rplab.llm.eval_config import Precision as InferencePrecision
from rplab.stage import StageConfig
from rplab.translator.prompt import INSTRUCTION


class TranslatorConfig(StageConfig):
    """Stage `translator`: a base model learns Korean speech -> Japanese speech.

    Defaults are for a real 1.7B to 4B base; the smoke profile trains every weight of the tiny one.
    """

    seed: int = 42
    instruction: str = Field(default=INSTRUCTION, min_length=1, max_length=400)
    """What stands before every Korean line; kept beside the weights, so that play asks in the same words."""
    method: Literal["lora", "full"] = "lora"
    """`lora`: the SFT of `rplab.llm.sft`, merged at the end. `full`: every weight, in float32; for models of some millions of
    parameters, which an adapter hardly moves (tiny base: chrF++ 32 against 62, measured)."""
    precision: Precision = "bf16"
    """`lora`: how the frozen base is held. NF4 only where memory is short: translation suffers first from coarse weights."""
    lora: LoraSettings = LoraSettings(rank=32, alpha=64)
    max_length: int = Field(default=2048, ge=32)
    """Tokens of one packed row; longer pairs are dropped and counted."""
    packing: bool = True
    attention: Literal["varlen", "sdpa"] = "varlen"
    rows_per_step: int = Field(default=2, ge=1)
    """Packed rows of one forward pass. `full`: one step is one row of rows_per_step x accumulation_steps x max_length tokens."""
    accumulation_steps: int = Field(default=2, ge=1)
    """Forward passes of one optimiser step."""
    epochs: float = Field(default=3.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides `epochs`."""
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=2e-4)
    activation_checkpointing: bool = False
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
    min_shipped_chrfpp: float = Field(default=0.0, ge=0, le=100)
    """chrF++ on the shipped held-out set. No limit by default: a tiny base that knows only its data set's words cannot do it."""


class TranslatorEvalConfig(StageConfig):
    """Stage `translator_eval`."""

    num_pairs: int = Field(default=200, ge=1)
    """Held-out pairs; when the evaluation file has fewer, all are used and the report says so."""
    num_shipped: int = Field(default=1000, ge=0)
    """Lines of the shipped held-out set (`heldout.yaml`, 212 lines that no generator wrote) that are translated as well; 0 = none."""
    max_new_tokens: int = Field(default=128, ge=1, le=2048)
    batch_size: int = Field(default=32, ge=1)
    precision: InferencePrecision = "auto"
    bootstrap_samples: int = Field(default=1000, ge=100)
    """Resamples behind the 95 % interval."""
    num_samples: int = Field(default=20, ge=0)
    """Translations printed in the report."""
    gates: TranslatorGates = TranslatorGates()
    seed: int = 42
