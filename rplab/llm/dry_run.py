"""What a training run would do, without loading weights: `rplab llm sft --dry-run`.

Reads the rows as training does, and reports their tokens, how well they pack, what is learnt (a preview a person can
check), how much memory the run takes, how many steps, and about how long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from rplab.jsonl import JsonValue
from rplab.llm.adapter import adapter_settings
from rplab.llm.config import GrpoConfig, LoraSettings, SftConfig
from rplab.llm.memory import Shape, cache_bytes, estimate_training, read_shape
from rplab.llm.precision import load_tokenizer
from rplab.llm.rows import view_path
from rplab.llm.template import IGNORED, Example
from rplab.stage import Stats

_PREVIEW_TOKENS = 400
_ASSUMED_SHARE = 0.35
"""Of the measured matrix rate that training is assumed to reach."""


def plan_sft(config: SftConfig, base: Path, dataset: Path, adapter: Path | None = None, *, processes: int = 1) -> Stats:
    """Report what SFT would do.

    Args:
        config: Settings.
        base: Folder with tokenizer and config.json; weights are not needed.
        dataset: Dataset artefact.
        adapter: Adapter that is continued; its shape counts.
        processes: Training processes.

    Raises:
        DataError: The view is missing or has no usable row.
        ModelError: The tokenizer or config.json is missing or cannot be trained with.
        ConfigError: A setting that would have no effect.
    """
    from rplab.llm.sft import load_dialogues  # the trainer is slow to import
    from rplab.llm.sft_trainer import trainer_arguments

    folder = base / "model" if (base / "model").is_dir() else base
    tokenizer = load_tokenizer(folder)
    shape = read_shape(folder)
    train = load_dialogues(view_path(dataset, config.view, "train"), tokenizer, config.max_length)
    held = load_dialogues(view_path(dataset, config.view, "eval"), tokenizer, config.max_length)
    examples = [dialogue.example for dialogue in train.rows]
    lora = config.lora or (LoraSettings() if adapter is None else adapter_settings(adapter))
    trainer_arguments(config, Path("checkpoints"), check_device=False)
    rows, efficiency = packed_rows(examples, config)
    updates = config.max_steps or math.ceil(rows * config.epochs / (config.rows_per_step * config.passes_per_step))
    tokens = tokens_of_pass(examples, config)
    learnt = sum(example.num_learnt for example in examples) / sum(len(example.input_ids) for example in examples)
    memory = estimate_training(
        shape,
        config.precision,
        lora,
        config.optimiser,
        tokens=tokens,
        checkpointing=config.activation_checkpointing,
        learnt_share=learnt,
    )
    trained = updates * config.rows_per_step * config.passes_per_step * (config.max_length if config.packing else mean_length(examples))
    return {
        "view": config.view,
        "train_rows": train.tally.as_stats(),
        "eval_rows": held.tally.as_stats(),
        "tokens": token_statistics(examples),
        "learnt_share": round(learnt, 4),
        "packed_rows": rows,
        "packing_efficiency": efficiency,
        "tokens_per_pass": tokens,
        "tokens_per_step": round(tokens * config.passes_per_step * (efficiency if config.packing else 1.0)),
        "steps": updates,
        "memory_gib": dict[str, JsonValue](memory.as_gib()),
        "estimated_minutes": estimated_minutes(shape, trained, processes, checkpointing=config.activation_checkpointing),
        "preview": mask_preview(tokenizer, examples[0]),
    }


def plan_grpo(config: GrpoConfig, model: Path, dataset: Path) -> Stats:
    """Report what GRPO would do; see `plan_sft`."""
    from rplab.llm.grpo import load_prompts
    from rplab.llm.grpo_start import estimate
    from rplab.llm.grpo_trainer import trainer_arguments
    from rplab.llm.rewards import TERMS

    folder = model / "model" if (model / "model").is_dir() else model
    tokenizer = load_tokenizer(folder)
    shape = read_shape(folder)
    train = load_prompts(view_path(dataset, "grpo", "train"), tokenizer, config)
    trainer_arguments(config, Path("checkpoints"), [1 / len(TERMS)] * len(TERMS), check_device=False)
    replies = config.prompts_per_step * config.num_generations
    return {
        "train_rows": train.tally.as_stats(),
        "length_band": [train.rows[0].context.min_chars, train.rows[0].context.max_chars],
        "replies_per_step": replies,
        "steps": config.max_steps,
        "epochs": round(config.max_steps * config.prompts_per_step / len(train.rows), 2),
        "rollout_cache_gib": round(cache_bytes(shape, replies, config.max_prompt_tokens + config.max_completion_tokens) / 2**30, 2),
        "memory_gib": dict[str, JsonValue](estimate(config, folder, config.precision).as_gib()),
    }


def packed_rows(examples: Sequence[Example], config: SftConfig) -> tuple[int, float]:
    """Return the rows that training sees and how full they are, by the packing that training uses."""
    if not config.packing:
        longest = max(len(example.input_ids) for example in examples)
        return len(examples), round(mean_length(examples) / longest, 4) if config.rows_per_step > 1 else 1.0
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    lengths = Dataset.from_list([{"input_ids": example.input_ids} for example in examples]).with_format("arrow")
    rows = len(pack_dataset(lengths, config.max_length, "bfd"))
    return rows, round(sum(len(example.input_ids) for example in examples) / (rows * config.max_length), 4)


def tokens_of_pass(examples: Sequence[Example], config: SftConfig) -> int:
    """Return the most tokens of one forward pass, padding included."""
    longest = config.max_length if config.packing else max(len(example.input_ids) for example in examples)
    return config.rows_per_step * longest


def mean_length(examples: Sequence[Example]) -> float:
    """Return the mean number of tokens."""
    return sum(len(example.input_ids) for example in examples) / len(examples)


def token_statistics(examples: Sequence[Example]) -> dict[str, JsonValue]:
    """Return how long the rows are."""
    lengths = [len(example.input_ids) for example in examples]
    low, middle, high = (int(value) for value in np.quantile(lengths, [0.05, 0.5, 0.95]))
    return {"total": sum(lengths), "shortest": min(lengths), "p5": low, "median": middle, "p95": high, "longest": max(lengths)}


def mask_preview(tokenizer: PreTrainedTokenizerBase, example: Example) -> str:
    """Return a row as text with what is learnt between ⟦ and ⟧."""
    ids, labels = example.input_ids[-_PREVIEW_TOKENS:], example.labels[-_PREVIEW_TOKENS:]
    pieces: list[str] = []
    start = 0
    for end in range(1, len(ids) + 1):
        if end < len(ids) and (labels[end] == IGNORED) == (labels[start] == IGNORED):
            continue
        text = str(tokenizer.decode(ids[start:end], skip_special_tokens=False))
        pieces.append(text if labels[start] == IGNORED else f"⟦{text}⟧")
        start = end
    return ("… " if len(example.input_ids) > len(ids) else "") + "".join(pieces)


def estimated_minutes(shape: Shape, tokens: float, processes: int, *, checkpointing: bool) -> float:
    """Return about how long training takes here: 4 operations a weight and token (6 recomputed), at a third of the matrix rate."""
    operations = (6 if checkpointing else 4) * (shape.block_weights + shape.vocabulary * shape.hidden / 4) * tokens
    return round(operations / (matrix_rate() * _ASSUMED_SHARE * processes) / 60, 1)


def matrix_rate() -> float:
    """Measure bf16 operations a second of this device on a matrix product, in a tenth of a second."""
    device: Any = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side = 4096 if device.type == "cuda" else 512
    left = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    torch.mm(left, left)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.1:
        torch.mm(left, left)
        if device.type == "cuda":
            torch.cuda.synchronize()
        count += 1
    return 2.0 * side**3 * count / (time.perf_counter() - start)
