"""Stage `translator`: the SFT of `rplab.llm.sft` on KO->JA pairs and its merge, or every weight of a tiny model.

Prompt and answer are tokenised apart, as inference does, and the answer is learnt with its end of turn (the predecessor's
translator never learnt to stop: its end token was the padding token, and padding was masked). The result is one
folder that holds all that play needs: weights, tokenizer, template, prompt.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from rplab.errors import DataError
from rplab.jsonl import JsonValue, read_rows, write_rows
from rplab.llm.adapter import new_adapter, save_adapter
from rplab.llm.config import MergeConfig, PretrainSettings, SftConfig
from rplab.llm.heldout import measure_loss
from rplab.llm.lineage import Lineage, model_fingerprint, write_lineage
from rplab.llm.merge import merge_adapter
from rplab.llm.precision import load_model, load_tokenizer, model_folder, quiet_libraries
from rplab.llm.pretrain import Packed, pack_steps, pretrain
from rplab.llm.rows import file_digest, view_path
from rplab.llm.sft import PROBES, fit_adapter
from rplab.llm.template import Example, encode_completion, pad_id, render, template_hash
from rplab.seeding import derive
from rplab.stage import StageContext, Stats
from rplab.text.korean import has_hangul
from rplab.translator.config import TranslatorConfig
from rplab.translator.prompt import TranslationPrompt

logger = logging.getLogger(__name__)


@dataclass
class Pairs:
    """The usable pairs of one file."""

    examples: list[Example] = field(default_factory=list[Example])
    texts: list[str] = field(default_factory=list[str])
    """The same as text, for the merge's parity check."""
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    """Reason -> rows."""
    digest: str = ""
    """sha256 of the file."""

    def as_stats(self) -> dict[str, JsonValue]:
        """Return the counts as JSON."""
        return {"read": self.read, "kept": len(self.examples), "dropped": dict[str, JsonValue](sorted(self.dropped.items()))}


def train_translator(config: TranslatorConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Train, merge and save the translator.

    Args:
        config: Settings.
        inputs: `base` (model) and `dataset` (views/translation).
        context: Writes model/ (with translator.json), parity.json (`lora`) and logs/metrics.jsonl; checkpoints survive a kill.

    Returns:
        Row counts, loss before and after, parity of the merge (`lora`).

    Raises:
        DataError: The view is missing or has no usable pair.
        ModelError: The base is missing or incomplete.
        TrainingError: The loss is no number, memory is short, or the merge is not the model that was trained.
        StageInterrupted: Stopped on request, after a checkpoint.
    """
    quiet_libraries()
    base = model_folder(inputs["base"])
    tokenizer = load_tokenizer(base)
    prompt = TranslationPrompt(config.instruction)
    train = load_pairs(view_path(inputs["dataset"], "translation", "train"), tokenizer, prompt, config.max_length)
    held = load_pairs(view_path(inputs["dataset"], "translation", "eval"), tokenizer, prompt, config.max_length)

    train_weights = _train_full if config.method == "full" else _train_adapter
    stats = train_weights(config, inputs, train, held, tokenizer, context)
    prompt.save(context.out / "model")
    return {"method": config.method, "train_pairs": train.as_stats(), "eval_pairs": held.as_stats(), **stats}


def _train_adapter(
    config: TranslatorConfig, inputs: Mapping[str, Path], train: Pairs, held: Pairs, tokenizer: Any, context: StageContext
) -> Stats:
    """Train an adapter as SFT does, and merge it."""
    base = model_folder(inputs["base"])
    model = new_adapter(load_model(base, config.precision, config.attention), config.lora, config.seed)
    sft = SftConfig(**config.model_dump(exclude={"method", "instruction"}))
    fit = fit_adapter(model, tokenizer, train.examples, held.examples[: config.eval_rows], sft, context, label="translator")
    artefact = context.resume / "trained"
    save_adapter(model, artefact / "adapter")
    write_lineage(
        artefact / "adapter",
        Lineage(
            stage="translator",
            base=model_fingerprint(base),
            precision=config.precision,
            template=template_hash(str(tokenizer.chat_template)),
            data=train.digest,
            steps=fit.steps,
        ),
    )
    write_rows(artefact / "probe.jsonl", ({"text": text} for text in held.texts[:PROBES]))
    del model
    merged = merge_adapter(MergeConfig(), {"base": inputs["base"], "adapter": artefact}, replace(context, resume=artefact))
    return {**fit.stats, "merge": dict(merged)}


def _train_full(
    config: TranslatorConfig, inputs: Mapping[str, Path], train: Pairs, held: Pairs, tokenizer: Any, context: StageContext
) -> Stats:
    """Train every weight, and save the model as bfloat16."""
    base = model_folder(inputs["base"])
    model = load_model(base, "fp32", config.attention)
    model.requires_grad_(True)
    pad = pad_id(tokenizer)
    before = measure_loss(model, held.examples[: config.eval_rows], pad)
    rows = pack_pairs(train.examples, config)
    settings = PretrainSettings(optimiser=config.optimiser, save_steps=config.save_steps)
    losses = pretrain(model, rows, settings, context, label="translator")
    after = measure_loss(model, held.examples[: config.eval_rows], pad)
    model.to(torch.bfloat16).save_pretrained(str(context.out / "model"))  # type: ignore[arg-type]
    tokenizer.save_pretrained(str(context.out / "model"))
    return {
        "steps": len(losses),
        "tokens": sum(row.ids.shape[1] for row in rows),
        "loss_first": round(losses[0], 4),
        "loss_last": round(losses[-1], 4),
        "eval_loss_before": round(before.mean, 5),
        "eval_loss_after": round(after.mean, 5),
        "trainable_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def pack_pairs(examples: Sequence[Example], config: TranslatorConfig) -> list[Packed]:
    """Pack pairs, shuffled anew every epoch, into one row an optimiser step; a row holds whole pairs."""
    budget = config.rows_per_step * config.accumulation_steps * config.max_length
    tokens = sum(len(example.input_ids) for example in examples)
    steps = config.max_steps or max(1, round(config.epochs * tokens / budget))
    return pack_steps(_draw(examples, config.seed), steps, budget, config.max_length)


def _draw(examples: Sequence[Example], seed: int) -> Iterator[Example]:
    """Yield the examples without end, epoch after epoch."""
    for epoch in itertools.count():
        order = list(range(len(examples)))
        derive(seed, "translator", "epoch", epoch).shuffle(order)
        for index in order:
            yield examples[index]


def load_pairs(path: Path, tokenizer: Any, prompt: TranslationPrompt, max_length: int) -> Pairs:
    """Read and tokenise pairs.

    Args:
        path: Rows {instruction, input, output}; the instruction of a row is not used, ours is.
        tokenizer: With its template.
        prompt: The wording.
        max_length: Longest pair in tokens; longer ones are dropped and counted, since half a translation teaches to stop early.

    Raises:
        DataError: No such file, a row without texts, or no usable pair.
    """
    pairs = Pairs(digest=file_digest(path) if path.is_file() else "")
    for number, row in read_rows(path):
        pairs.read += 1
        source, target = row.get("input"), row.get("output")
        if not isinstance(source, str) or not isinstance(target, str):
            raise DataError(
                "input and output must be texts", file=path, line=number, remedy='Rows look like {"input": "...", "output": "..."}'
            )
        if reason := _drop_reason(source, target):
            pairs.dropped[reason] += 1
            continue
        head = render(tokenizer, prompt.messages(source), reply_follows=True)
        example = encode_completion(tokenizer, head, target.strip())
        if len(example.input_ids) > max_length:
            pairs.dropped["too_long"] += 1
            continue
        pairs.examples.append(example)
        pairs.texts.append(head + target.strip())
    if not pairs.examples:
        reasons = ", ".join(f"{reason} {count}" for reason, count in pairs.dropped.items()) or "the file is empty"
        raise DataError(
            f"no usable pair ({reasons})", file=path, remedy="Make the dataset again, or raise max_length when pairs are too long"
        )
    if pairs.dropped:
        logger.warning("%s: %d of %d pairs dropped: %s", path, pairs.dropped.total(), pairs.read, dict(pairs.dropped))
    return pairs


def _drop_reason(source: str, target: str) -> str | None:
    if not source.strip() or not target.strip():
        return "empty"
    if has_hangul(target):
        return "hangul_in_japanese"
    return None if has_hangul(source) else "no_korean"
