"""Supervised fine-tuning: stage 1 on single exchanges, stage 2 on dialogues, one adapter all the way.

The story of `train_sft`: read the view, drop what cannot be learnt from, put an adapter on the frozen base (new, or the
one of the stage before), measure the held-out loss, train packed rows on the assistant's tokens, measure again, save
the adapter with its lineage. Killed at any moment, the next run goes on from the last complete checkpoint and ends
with the same bytes.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback

from rplab.errors import ConfigError, TrainingError
from rplab.jsonl import write_rows
from rplab.llm.adapter import ADAPTER_WEIGHTS, adapter_folder, adapter_settings, kept_adapters, load_adapter, new_adapter, save_adapter
from rplab.llm.callbacks import MetricsFile, StageCallback
from rplab.llm.checkpoint import latest_checkpoint
from rplab.llm.config import LoraSettings, SftConfig
from rplab.llm.fused_head import fused_head
from rplab.llm.fused_lora import fuse_adapters
from rplab.llm.heldout import HeldOut, gain_interval, measure_loss
from rplab.llm.lineage import Lineage, check_base, model_fingerprint, read_lineage, write_lineage
from rplab.llm.memory import estimate_training, lower_memory, read_shape, refuse_without_room
from rplab.llm.precision import load_model, load_tokenizer, model_folder, quiet_libraries
from rplab.llm.progress_eval import BestAdapter, ProgressEval, SampleReplies
from rplab.llm.rows import Loaded, Messages, check_dialogue, file_digest, load_rows, view_path, without_last_exchange
from rplab.llm.sft_trainer import LabSftTrainer, tracker_callbacks, trainer_arguments
from rplab.llm.template import Example, encode_dialogue, pad_id, render, template_hash
from rplab.stage import StageContext, Stats

logger = logging.getLogger(__name__)

PROBES = 64
"""Held-out texts kept beside an adapter, on which its merge is checked."""


@dataclass(frozen=True)
class Dialogue:
    """A row of a view, as text and as numbers."""

    messages: Messages
    example: Example


@dataclass(frozen=True)
class Fit:
    """What a training run did."""

    steps: int
    before: HeldOut
    after: HeldOut
    stats: Stats


def train_sft(config: SftConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Train an adapter on a view of the dataset.

    Args:
        config: Settings.
        inputs: `base` (model), `dataset`, and `adapter` to continue one.
        context: Writes adapter/ (PEFT + lineage.json), probe.jsonl and logs/metrics.jsonl.

    Returns:
        Row tallies, packing efficiency, held-out loss before and after with the interval of the gain.

    Raises:
        DataError: The view is missing or has no usable row.
        ModelError: The base or adapter is missing, incomplete, or they do not belong together.
        ConfigError: A setting that would have no effect.
        TrainingError: The loss is no number, or memory is short.
        StageInterrupted: Stopped on request, after a checkpoint.
    """
    quiet_libraries()
    base = model_folder(inputs["base"])
    tokenizer = load_tokenizer(base)
    train = load_dialogues(view_path(inputs["dataset"], config.view, "train"), tokenizer, config.max_length)
    held = load_dialogues(view_path(inputs["dataset"], config.view, "eval"), tokenizer, config.max_length)
    model, parent = adapted_model(config, base, inputs.get("adapter"))

    fit = fit_adapter(
        model,
        tokenizer,
        [dialogue.example for dialogue in train.rows],
        [dialogue.example for dialogue in held.rows[: config.eval_rows]],
        config,
        context,
        label=config.view,
        prompts=[dialogue.messages for dialogue in held.rows[: config.sample_prompts]],
    )

    save_adapter(model, context.out / "adapter")
    lineage = Lineage(
        stage=config.view,
        base=model_fingerprint(base),
        precision=config.precision,
        template=template_hash(str(tokenizer.chat_template)),
        data=train.digest,
        steps=fit.steps,
        parent=parent,
    )
    write_lineage(context.out / "adapter", lineage)
    write_rows(context.out / "probe.jsonl", ({"text": render(tokenizer, row.messages)} for row in held.rows[:PROBES]))
    return {"view": config.view, "train_rows": train.tally.as_stats(), "eval_rows": held.tally.as_stats(), **fit.stats}


def load_dialogues(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Loaded[Dialogue]:
    """Read and tokenise dialogues; what does not fit in `max_length` tokens is shortened to its first exchanges.

    Raises:
        DataError: No such file, a broken line, or no usable row.
    """

    def encode(messages: Messages, _row: dict[str, Any]) -> Dialogue | None:
        example = encode_dialogue(tokenizer, messages)
        return Dialogue(messages, example) if len(example.input_ids) <= max_length else None

    return load_rows(path, check_dialogue, encode, without_last_exchange)


def adapted_model(config: SftConfig, base: Path, adapter: Path | None) -> tuple[PeftModel, str | None]:
    """Load the base with a new adapter, or with the one to continue; return it with the hash of its parent.

    Raises:
        ModelError: The adapter belongs to another base.
        ConfigError: `lora` or `precision` differ from those of the adapter that is continued.
    """
    check_memory(config, base)
    if adapter is None:
        model = load_model(base, config.precision, config.attention)
        return new_adapter(model, config.lora or LoraSettings(), config.seed), None
    folder = adapter_folder(adapter)
    lineage = read_lineage(folder)
    check_base(lineage, folder, base)
    if lineage.precision != config.precision:
        raise ConfigError(
            f"precision is {config.precision}, but the adapter that is continued was trained on a {lineage.precision} base. "
            f"Set precision: {lineage.precision}"
        )
    if config.lora is not None and config.lora != adapter_settings(folder):
        raise ConfigError("lora has no effect when an adapter is continued, and differs from that adapter's shape. Remove it")
    model = load_model(base, config.precision, config.attention)
    return load_adapter(model, folder, trainable=True), file_digest(folder / ADAPTER_WEIGHTS)


def check_memory(config: SftConfig, base: Path) -> None:
    """Refuse a run that cannot fit before the weights are loaded.

    Raises:
        TrainingError: The frozen weights and the adapter alone are larger than the free memory.
    """
    estimate = estimate_training(
        read_shape(base),
        config.precision,
        config.lora or LoraSettings(),
        config.optimiser,
        tokens=config.max_length * config.rows_per_step,
        checkpointing=config.activation_checkpointing,
    )
    advice = lower_memory(
        checkpointing=config.activation_checkpointing, precision=config.precision, max_length=config.max_length, rows=config.rows_per_step
    )
    refuse_without_room(estimate, config.view, advice)


def fit_adapter(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[Example],
    held: Sequence[Example],
    config: SftConfig,
    context: StageContext,
    *,
    label: str,
    prompts: Sequence[Messages] = (),
) -> Fit:
    """Train the adapter of `model` in place; resumes from `context.resume`. With `eval_steps` the best adapter stays.

    Args:
        model: Frozen base with a trainable adapter.
        tokenizer: Gives the padding token.
        train: What is learnt.
        held: What the loss is measured on, before and after.
        config: Settings.
        context: Progress, stop, checkpoints, metrics.
        label: Name in progress lines.
        prompts: Held-out dialogues whose first reply is sampled as training goes on.

    Raises:
        TrainingError: The loss is no number, or memory is short.
        StageInterrupted: Stopped on request, after a checkpoint.
    """
    padding = pad_id(tokenizer)
    with advice_when_out_of_memory(label, config):
        before = measure_loss(model, held, padding)
    metrics = MetricsFile(context)
    callback = StageCallback(context, metrics, label)
    samples = SampleReplies(context, tokenizer, prompts, config.sample_tokens, config.seed)
    best = BestAdapter(context)
    callbacks: list[TrainerCallback] = [callback, *tracker_callbacks(config.report_to, context.resume / "tensorboard")]
    if config.eval_steps is not None:
        measure = partial(_mean_loss, model, held, padding)
        callbacks.append(ProgressEval(config.eval_steps, measure, best, samples, metrics, label))
    if config.fused:
        fuse_adapters(model)
    rows = Dataset.from_list([{"input_ids": example.input_ids, "labels": example.labels} for example in train])
    with kept_adapters(model):
        trainer = LabSftTrainer(
            model=model,
            args=trainer_arguments(config, context.resume / "checkpoints"),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=callbacks,
        )
    trainer.remove_callback(PrinterCallback)
    found = latest_checkpoint(context.resume / "checkpoints")
    trainer.resume_counters(metrics.rewind(found[0] if found else 0))
    for file in (best, samples):
        file.rewind(found[0] if found else 0)
    if found:
        logger.info("%s: going on from step %d", label, found[0])
    with advice_when_out_of_memory(label, config), fused_head(config.fused):
        trainer.train(resume_from_checkpoint=str(found[1]) if found else None)
    if callback.stopped:
        context.check_stop()
    after = measure_loss(model, held, padding)
    after, kept = _keep_best(model, best, after, trainer.state.global_step, partial(measure_loss, model, held, padding))
    samples.add(model, trainer.state.global_step, final=True)
    samples.publish()
    metrics.publish()
    if (context.resume / "tensorboard").is_dir():
        shutil.copytree(context.resume / "tensorboard", context.out / "logs" / "tensorboard", dirs_exist_ok=True)
    return Fit(trainer.state.global_step, before, after, _stats(trainer, train, before, after, config) | {"best_step": kept})


def _mean_loss(model: PeftModel, held: Sequence[Example], padding: int) -> float:
    return measure_loss(model, held, padding).mean


def _keep_best(model: PeftModel, best: BestAdapter, last: HeldOut, step: int, measure: Callable[[], HeldOut]) -> tuple[HeldOut, int]:
    """Return the held-out loss and the step of the adapter that stays: the best measured one, or that of the last step."""
    record = best.record()
    if record is None or last.mean <= record["loss"]:
        return last, step
    best.restore(model)
    return measure(), int(record["step"])


@contextmanager
def advice_when_out_of_memory(label: str, config: SftConfig) -> Generator[None]:
    """Turn running out of memory into what to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        advice = lower_memory(
            checkpointing=config.activation_checkpointing,
            precision=config.precision,
            max_length=config.max_length,
            rows=config.rows_per_step,
        )
        raise TrainingError(f"{label}: out of memory. Set {advice}. The last checkpoint is kept: run again to go on") from error


def _stats(trainer: LabSftTrainer, train: Sequence[Example], before: HeldOut, after: HeldOut, config: SftConfig) -> Stats:
    low, high = gain_interval(before, after, config.seed)
    tokens = sum(len(example.input_ids) for example in train)
    packed_rows = len(trainer.train_dataset)  # type: ignore[arg-type]
    losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
    return {
        "steps": trainer.state.global_step,
        "attention": str(trainer.model.config._attn_implementation),  # type: ignore[union-attr]
        "tokens": tokens,
        "learnt_tokens": sum(example.num_learnt for example in train),
        "packed_rows": packed_rows,
        "packing_efficiency": round(tokens / (packed_rows * config.max_length), 4) if config.packing else None,
        "loss_first": round(losses[0], 4),
        "loss_last": round(losses[-1], 4),
        "eval_dialogues": len(before.tokens),
        "eval_loss_before": round(before.mean, 5),
        "eval_loss_after": round(after.mean, 5),
        "eval_gain_interval": [round(low, 5), round(high, 5)],
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),  # type: ignore[union-attr]
    }
