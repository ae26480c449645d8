"""GRPO: reinforcement learning on the merged model, with rewards that are pure functions of the text.

The story of `train_grpo`: choose the start (`rplab.llm.grpo_start`), bound the prompts, draw groups of replies at
temperature 1, score them, push up what is better than its group, save the adapter. A run that has collapsed is stopped
with the reason.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback

from rplab.character import Register
from rplab.errors import DataError, TrainingError
from rplab.jsonl import write_rows
from rplab.llm.adapter import kept_adapters, lora_config, save_adapter, to_float32
from rplab.llm.bootstrap import difference_interval
from rplab.llm.callbacks import CollapseDetector, MetricsFile, StageCallback
from rplab.llm.checkpoint import latest_checkpoint
from rplab.llm.config import GrpoConfig
from rplab.llm.fused_head import fused_head
from rplab.llm.fused_lora import fuse_adapters
from rplab.llm.grpo_start import Start, choose_start
from rplab.llm.grpo_trainer import LabGrpoTrainer, trainer_arguments
from rplab.llm.lineage import Lineage, model_fingerprint, write_lineage
from rplab.llm.precision import load_tokenizer, quiet_libraries
from rplab.llm.relevance import make_relevance
from rplab.llm.rewards import TERMS, RewardContext, context_from_row, length_band, score, total
from rplab.llm.rows import Drop, Loaded, Messages, check_messages, load_rows, view_path, without_oldest_exchange
from rplab.llm.samples import SampleFile
from rplab.llm.sft_trainer import tracker_callbacks
from rplab.llm.template import encode_prompt, end_id, pad_id, render, template_hash
from rplab.stage import StageContext, Stats

logger = logging.getLogger(__name__)

WINDOW = 10
"""Steps at each end of the run whose mean rewards are compared."""

RewardFunction = Callable[..., list[float]]


@dataclass(frozen=True)
class PromptRow:
    """A prompt, what its replies are judged against, and a reply that somebody wrote."""

    messages: Messages
    context: RewardContext
    reference: str


def train_grpo(config: GrpoConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Train an adapter by reinforcement.

    Args:
        config: Settings.
        inputs: `model` (merged) and `dataset`; `base` and `adapter` (stage 2) for `start: adapter`.
        context: Writes adapter/ (PEFT + lineage.json), completions.jsonl, probe.jsonl and logs/metrics.jsonl.

    Returns:
        Row tally, mean rewards of the first and last steps with the interval of the difference, each term's means.

    Raises:
        DataError: The view is missing or has no usable row.
        ModelError: The model is missing or incomplete.
        TrainingError: Collapse, a loss that is no number, or memory is short.
        StageInterrupted: Stopped on request, after a checkpoint.
    """
    quiet_libraries()
    start = choose_start(config, inputs)
    tokenizer = load_tokenizer(start.folder)
    train = load_prompts(view_path(inputs["dataset"], "grpo", "train"), tokenizer, config)
    held = load_prompts(view_path(inputs["dataset"], "grpo", "eval"), tokenizer, config)
    samples = SampleFile(context, config.logged_completions, config.max_steps)
    metrics = MetricsFile(context)
    trainer, callback = build_trainer(config, start, tokenizer, train.rows, samples, metrics, context)

    found = latest_checkpoint(context.resume / "checkpoints")
    metrics.rewind(found[0] if found else 0)
    samples.rewind(found[0] if found else 0)
    if found:
        logger.info("grpo: going on from step %d", found[0])
    _run(trainer, str(found[1]) if found else None, config)
    if callback.stopped:
        context.check_stop()

    assert isinstance(trainer.model, PeftModel)
    save_adapter(trainer.model, context.out / "adapter")
    lineage = Lineage(
        stage="grpo",
        base=model_fingerprint(start.folder),
        precision=start.precision,
        template=template_hash(str(tokenizer.chat_template)),
        data=train.digest,
        steps=trainer.state.global_step,
        parent=start.parent,
    )
    write_lineage(context.out / "adapter", lineage)
    dialogues = ([*row.messages, {"role": "assistant", "content": row.reference}] for row in held.rows[: config.probes])
    write_rows(context.out / "probe.jsonl", ({"text": render(tokenizer, dialogue)} for dialogue in dialogues))
    samples.publish()
    metrics.publish()
    if (context.resume / "tensorboard").is_dir():
        shutil.copytree(context.resume / "tensorboard", context.out / "logs" / "tensorboard", dirs_exist_ok=True)
    return {"start": start.kind, "train_rows": train.tally.as_stats(), **reward_stats(trainer.state.log_history, config.seed)}


def load_prompts(path: Path, tokenizer: PreTrainedTokenizerBase, config: GrpoConfig) -> Loaded[PromptRow]:
    """Read prompts; too long ones lose their oldest exchanges, and what still does not fit is dropped.

    TRL bounds no prompt by itself: an over-long one would simply use up the memory.

    Raises:
        DataError: No such file, a broken line, or no usable row.
    """

    def encode(messages: Messages, row: dict[str, Any]) -> PromptRow | None:
        if len(encode_prompt(tokenizer, messages)) > config.max_prompt_tokens:
            return None
        judged = context_from_row({**row, "prompt_messages": messages}, config.length_band or (1, 2))
        return PromptRow(messages, judged, str(row.get("reference") or ""))

    loaded = load_rows(path, check_prompt, encode, without_oldest_exchange)
    if config.length_band is not None:
        return loaded
    band = length_band([row.reference for row in loaded.rows if row.reference])
    rows = [replace(row, context=replace(row.context, min_chars=band[0], max_chars=band[1])) for row in loaded.rows]
    return Loaded(rows, loaded.tally, loaded.digest)


def check_prompt(row: dict[str, Any]) -> Messages | Drop:
    """Return the messages of a GRPO row, which must end with the player's."""
    messages = check_messages(row.get("prompt_messages"))
    if isinstance(messages, Drop):
        return messages
    if messages[-1]["role"] != "user":
        return Drop.NO_PROMPT
    try:
        context_from_row(row)
    except DataError:
        return Drop.NO_COLUMNS
    return messages


def build_trainer(
    config: GrpoConfig,
    start: Start,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[PromptRow],
    samples: SampleFile,
    metrics: MetricsFile,
    context: StageContext,
) -> tuple[LabGrpoTrainer, StageCallback]:
    """Build the trainer: model, new adapter, rewards, callbacks."""
    model = start.load()
    callback = StageCallback(context, metrics, "grpo")
    trackers = tracker_callbacks(config.report_to, context.resume / "tensorboard")
    weights = config.rewards.model_dump()
    if config.relevance is not None:
        weights["relevance"] = config.relevance.weight
    scale = sum(weights.values())
    functions = reward_functions(config, tokenizer, samples)
    arguments = trainer_arguments(config, context.resume / "checkpoints", [weights[function.__name__] / scale for function in functions])
    with kept_adapters(model):
        trainer = LabGrpoTrainer(
            model=model,  # type: ignore[arg-type]
            reward_funcs=functions,  # type: ignore[arg-type]
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": row.messages, "context": asdict(row.context)} for row in rows]),
            processing_class=tokenizer,
            callbacks=[callback, CollapseDetector(config.collapse_steps), *trackers],
            peft_config=lora_config(model, config.lora) if isinstance(model, PreTrainedModel) else None,
        )
    trainer.remove_callback(PrinterCallback)
    assert isinstance(trainer.model, PeftModel)
    to_float32(trainer.model)
    if config.fused:
        fuse_adapters(trainer.model)
    return trainer, callback


def reward_functions(config: GrpoConfig, tokenizer: PreTrainedTokenizerBase, samples: SampleFile) -> list[RewardFunction]:
    """Return one TRL reward function a term (and `relevance` where set), so that each is logged and can be scaled by itself.

    They read the tokens, not TRL's text: that has lost the special tokens, and a reply full of them would look clean.
    """
    ends = {end_id(tokenizer), pad_id(tokenizer)}
    judge = lru_cache(maxsize=8 * config.prompts_per_step * config.num_generations)(score)

    def text_of(ids: list[int]) -> str:
        return str(tokenizer.decode(ids[:-1] if ids and ids[-1] in ends else ids, skip_special_tokens=False))

    def reward_function(name: str, *, keeps_samples: bool) -> RewardFunction:
        def reward(completion_ids: list[list[int]], context: list[dict[str, Any]], trainer_state: Any, **_: Any) -> list[float]:
            texts = [text_of(ids) for ids in completion_ids]
            results = [judge(text, _context(columns)) for text, columns in zip(texts, context, strict=True)]
            if keeps_samples:
                totals = [round(total(result, config.rewards), 6) for result in results]
                samples.add(trainer_state.global_step + 1, texts, context, totals, results)
            return [result[name] for result in results]

        reward.__name__ = name
        return reward

    functions = [reward_function(name, keeps_samples=index == 0) for index, name in enumerate(TERMS)]
    if config.relevance is not None:
        ask = make_relevance(config.relevance)

        def relevance(completion_ids: list[list[int]], context: list[dict[str, Any]], **_: Any) -> list[float]:
            return ask([columns["user"] for columns in context], [text_of(ids) for ids in completion_ids])

        functions.append(relevance)
    return functions


def _context(columns: dict[str, Any]) -> RewardContext:
    """Build the context again from a dataset column, where the speech level has become plain text."""
    values: dict[str, Any] = {**columns, "register": Register(columns["register"])}
    return RewardContext(**values)


def _run(trainer: LabGrpoTrainer, checkpoint: str | None, config: GrpoConfig) -> None:
    try:
        with fused_head(config.fused):
            trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"grpo: out of memory. Lower micro_batch ({config.micro_batch}), prompts_per_step ({config.prompts_per_step}) or "
            f"max_completion_tokens ({config.max_completion_tokens}); the last checkpoint is kept"
        ) from error


def reward_stats(history: Sequence[dict[str, Any]], seed: int) -> Stats:
    """Compare the first and the last steps of a run."""
    steps = [row for row in history if "reward" in row]
    window = max(1, min(WINDOW, len(steps) // 2))
    first, last = steps[:window], steps[-window:]

    def mean(rows: Sequence[dict[str, Any]], name: str) -> float:
        return round(float(np.mean([row[name] for row in rows])), 5)

    low, high = difference_interval([row["reward"] for row in first], [row["reward"] for row in last], seed)
    return {
        "steps": len(steps),
        "window_steps": window,
        "reward_first": mean(first, "reward"),
        "reward_last": mean(last, "reward"),
        "reward_gain": round(mean(last, "reward") - mean(first, "reward"), 5),
        "reward_gain_interval": [round(low, 5), round(high, 5)],
        "terms": {name: {"first": mean(first, f"rewards/{name}/mean"), "last": mean(last, f"rewards/{name}/mean")} for name in TERMS},
        "clipped_ratio_last": mean(last, "completions/clipped_ratio"),
        "mean_tokens_last": mean(last, "completions/mean_length"),
        "no_difference_last": mean(last, "frac_reward_zero_std"),
        "entropy_last": mean(last, "entropy"),
        "kl_last": mean(last, "kl") if "kl" in last[-1] else None,
    }
