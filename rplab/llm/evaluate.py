"""Stage `evaluate`: do SFT and GRPO make better replies, and is the result fit to be published?

Base, SFT and GRPO model answer the same held-out prompts; every reply is scored with the rewards; means carry a
bootstrap interval. The gates look at the last model. Nothing is refused here: `evaluation.json` says what failed, and
publishing (`rplab.llm.publish`) refuses.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rplab.errors import DataError
from rplab.jsonl import JsonValue, read_rows, write_rows, write_text
from rplab.llm.bootstrap import Interval
from rplab.llm.eval_config import EvaluateConfig
from rplab.llm.eval_metrics import Answer, ModelMetrics, failed_gates, gains, judge, loss_falls, measure
from rplab.llm.eval_report import render_report
from rplab.llm.generate import TextModel
from rplab.llm.judge import Comparison, Contest, compare, render_comparisons
from rplab.llm.nll import measure_nll
from rplab.llm.rewards import RewardContext, context_from_row, length_band
from rplab.llm.rows import Drop, Messages, check_dialogue, view_path, without_oldest_exchange
from rplab.seeding import derive
from rplab.stage import StageContext, Stats

logger = logging.getLogger(__name__)

MODELS = ("base", "sft", "grpo")
"""Input names in the order of training; any may be absent, the last one present is what would be published."""


@dataclass(frozen=True)
class Question:
    """A held-out prompt."""

    id: str
    messages: Messages
    reference: str
    context: RewardContext


@dataclass(frozen=True)
class Findings:
    """What an evaluation found."""

    models: Mapping[str, ModelMetrics]
    changes: Mapping[str, Interval]
    """`before_to_after` -> paired gain in reward."""
    falls: Mapping[str, Interval]
    """`before_to_after` -> paired fall of the held-out loss."""
    failed: Sequence[Mapping[str, JsonValue]]
    comparisons: Mapping[str, Comparison]
    """`before_to_after` -> the judge's verdicts; empty without a judge."""


def evaluate_models(config: EvaluateConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Compare the models on held-out prompts.

    Args:
        config: Settings and gates.
        inputs: `dataset`, and any of `base`, `sft`, `grpo` (artefacts that hold `model/`).
        context: Writes evaluation.json, completions.jsonl, report.md; keeps each finished model's replies for a resume.

    Raises:
        DataError: No held-out prompts.
        ModelError: A model folder is missing or broken.
        BackendError: A judge is configured and its endpoint cannot be used; the replies are kept for the next try.
    """
    questions, available = load_questions(config, inputs["dataset"])
    dialogues = load_dialogues(config, inputs["dataset"])
    names = [name for name in MODELS if name in inputs]
    answers: dict[str, list[Answer]] = {}
    models: dict[str, ModelMetrics] = {}
    shortened: dict[str, int] = {}
    for position, name in enumerate(names):
        record = _answered(config, name, inputs[name], questions, dialogues, context, done=position, total=len(names))
        answers[name] = [
            judge(
                q.id,
                row["text"],
                finished=row["finished"],
                num_tokens=row["tokens"],
                context=q.context,
                reference=q.reference,
                config=config,
            )
            for q, row in zip(questions, record["replies"], strict=True)
        ]
        models[name] = measure(answers[name], config, record["nll"])
        shortened[name] = record["shortened"]
    failed = failed_gates(models, config.gates)
    changes = gains({name: [answer.reward for answer in rows] for name, rows in answers.items()}, config)
    falls = loss_falls(models, config.seed)
    comparisons = _judged(config, questions, answers, context)
    notes = _notes(config, len(questions), available, shortened, questions[0].context)
    _write(context.out, Findings(models, changes, falls, failed, comparisons), answers, notes, config)
    context.progress(len(names), len(names), "passed" if not failed else f"{len(failed)} gates failed")
    return {
        "passed": not failed,
        "failed": [str(gate["gate"]) for gate in failed],
        "prompts": len(questions),
        "prompts_wanted": config.num_prompts,
        "prompts_available": available,
        "reward": {name: dict(model.reward.as_json()) for name, model in models.items()},
        "format_rate": {name: round(model.rates["format"], 6) for name, model in models.items()},
        "shortened": dict[str, JsonValue](shortened),
        "notes": list[JsonValue](notes),
    }


def _judged(
    config: EvaluateConfig, questions: Sequence[Question], answers: Mapping[str, Sequence[Answer]], context: StageContext
) -> dict[str, Comparison]:
    """Let the judge, when there is one, compare each model with the one before it."""
    comparisons: dict[str, Comparison] = {}
    for before, after in itertools.pairwise(answers) if config.judge is not None else ():
        context.progress(len(answers), len(answers), f"judge: {before} against {after}")
        contests = [
            Contest(question.id, question.messages, left.text, right.text)
            for question, left, right in zip(questions, answers[before], answers[after], strict=True)
        ]
        kept = context.resume / f"judge-{before}-{after}.json"
        assert config.judge is not None
        comparisons[f"{before}_to_{after}"] = compare(config.judge, before, after, contests, kept, seed=config.seed)
        context.check_stop()
    return comparisons


def load_questions(config: EvaluateConfig, dataset: Path) -> tuple[list[Question], int]:
    """Draw the held-out prompts; return them with the number that the file has.

    Raises:
        DataError: The file is missing, empty, or a row lacks a column.
    """
    path = view_path(dataset, "grpo", "eval")
    rows = [row for _, row in read_rows(path)]
    if not rows:
        raise DataError("there are no held-out prompts", file=path, remedy="Make a larger dataset, or raise its evaluation share")
    train = view_path(dataset, "grpo", "train")
    low, high = length_band([str(row.get("reference", "")) for _, row in read_rows(train)] if train.is_file() else [])
    band = (config.min_chars or low, config.max_chars or high)
    chosen = sorted(derive(config.seed, "evaluate", "prompts").sample(range(len(rows)), min(config.num_prompts, len(rows))))
    questions = [
        Question(str(rows[i].get("id", i)), _messages(rows[i]), str(rows[i].get("reference", "")), context_from_row(rows[i], band))
        for i in chosen
    ]
    return questions, len(rows)


def _messages(row: Mapping[str, Any]) -> Messages:
    return [{"role": str(message["role"]), "content": str(message["content"])} for message in row["prompt_messages"]]


def load_dialogues(config: EvaluateConfig, dataset: Path) -> list[Messages]:
    """Return held-out dialogues for the loss: multi-turn ones when there are any, else single-turn ones."""
    for view in ("sft2", "sft1"):
        path = view_path(dataset, view, "eval")
        if config.nll_rows and path.is_file() and path.stat().st_size:
            checked = [check_dialogue(row) for _, row in read_rows(path)]
            rows = [messages for messages in checked if not isinstance(messages, Drop)]
            chosen = sorted(derive(config.seed, "evaluate", "dialogues").sample(range(len(rows)), min(config.nll_rows, len(rows))))
            return [rows[index] for index in chosen]
    return []


def _answered(
    config: EvaluateConfig,
    name: str,
    artefact: Path,
    questions: Sequence[Question],
    dialogues: Sequence[Messages],
    context: StageContext,
    *,
    done: int,
    total: int,
) -> dict[str, Any]:
    """Return what one model answered, now or from an interrupted run: {replies, shortened, nll}."""
    kept = context.resume / f"{name}.json"
    if kept.is_file():
        logger.info("%s: replies of an interrupted run are used", name)
        return json.loads(kept.read_text(encoding="utf-8"))
    context.progress(done, total, f"{name}: loading")
    model = TextModel.load(artefact / "model", precision=config.precision)
    prompts, shortened = _fitting(model, config, questions)

    def report(answered: int) -> None:
        context.progress(done + answered / len(prompts), total, f"{name}: {answered} of {len(prompts)} replies")
        context.check_stop()

    completions = model.generate(prompts, config.decoding, seed=config.seed, batch_size=config.batch_size, on_done=report)
    record = {
        "replies": [{"text": answer.text, "finished": answer.finished, "tokens": answer.num_tokens} for answer in completions],
        "shortened": shortened,
        "nll": measure_nll(model, dialogues, config.max_nll_tokens) if dialogues else {},
    }
    write_text(kept, json.dumps(record, ensure_ascii=False))
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    context.check_stop()
    return record


def _fitting(model: TextModel, config: EvaluateConfig, questions: Sequence[Question]) -> tuple[list[Messages], int]:
    """Shorten prompts that leave no room for the reply, oldest exchange first; return them and how many were."""
    room = model.max_positions - config.decoding.max_new_tokens
    prompts: list[Messages] = []
    for question in questions:
        messages = question.messages
        while messages and len(model.encode(messages)) > room:
            messages = without_oldest_exchange(messages)
        if not messages:
            raise DataError(
                f"prompt {question.id} does not fit the {model.max_positions} positions of the model even without its older turns",
                remedy="Lower llm.evaluate.decoding.max_new_tokens, or shorten the character's system text",
            )
        prompts.append(messages)
    return prompts, sum(len(prompt) < len(question.messages) for prompt, question in zip(prompts, questions, strict=True))


def _notes(config: EvaluateConfig, used: int, available: int, shortened: Mapping[str, int], first: RewardContext) -> list[str]:
    notes = [f"{used} held-out prompts of {available}; reply length without loss: {first.min_chars} to {first.max_chars} characters"]
    if used < config.num_prompts:
        notes.append(f"{config.num_prompts} prompts were wanted; the evaluation file has only {available}, so all were used")
    notes += [f"{name}: {count} prompts lost their oldest exchanges to fit" for name, count in shortened.items() if count]
    return notes


def _write(out: Path, found: Findings, answers: Mapping[str, Sequence[Answer]], notes: Sequence[str], config: EvaluateConfig) -> None:
    summary: dict[str, Any] = {
        "passed": not found.failed,
        "failed": list(found.failed),
        "gains": {name: interval.as_json() for name, interval in found.changes.items()},
        "nll_falls": {name: interval.as_json() for name, interval in found.falls.items()},
        "models": {name: model.as_json() for name, model in found.models.items()},
        "prompts": len(next(iter(answers.values()))),
        "notes": list(notes),
    }
    judged: list[str] = []
    if config.judge is not None:
        summary["judge"] = {name: comparison.as_json() for name, comparison in found.comparisons.items()}
        judged = render_comparisons(found.comparisons, config.judge.backend.model)
    write_text(out / "evaluation.json", json.dumps(summary, ensure_ascii=False, indent=1) + "\n")
    write_rows(
        out / "completions.jsonl",
        (
            {
                "id": answer.id, "model": name, "user": answer.context.user, "completion": answer.text, "reference": answer.reference,
                "finished": answer.finished, "reward": round(answer.reward, 6), "scores": dict(answer.scores),
            }
            for name, rows in answers.items()
            for answer in rows
        ),
    )  # fmt: skip
    samples = {name: list(rows[: config.num_samples]) for name, rows in answers.items()}
    write_text(out / "report.md", render_report(found.models, found.changes, found.falls, found.failed, samples, notes, judged))
