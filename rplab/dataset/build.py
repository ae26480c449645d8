"""Stage `dataset`: unite single-turn rows and dialogues, split them by scenario, cut the training views, write the card.

Which side a conversation is on is decided once, before any view is cut, so that no view can leak. Output:

    views/{sft1,sft2,grpo,translation}/{train,eval}.jsonl   what the trainers read (.parquet beside each)
    views/{preference,sharegpt}/...                         replies against refused attempts; every conversation for other tools
    rows.parquet                                            every conversation, fixed Arrow schema
    stats.json, drops.json                                  counts; samples of what was refused
    report.md, report.html                                  the data card, and the same with pictures

To add a view: write `cut_<name>` in `rplab.dataset.views`, name it in `VIEWS`, give it a schema in `view_files`, call it here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rplab.backend.embeddings import embed_texts
from rplab.dataset.canonical_rows import FILE, write_canonical
from rplab.dataset.card import DROPS, describe, render_card
from rplab.dataset.config import DatasetConfig, SemanticConfig
from rplab.dataset.html import render_report
from rplab.dataset.items import SIDES, Item, ItemKind, Reason, Side, Yield, read_items
from rplab.dataset.near_duplicates import find_near_duplicates
from rplab.dataset.preferences import attempts_of, cut_preferences, sample_attempts
from rplab.dataset.semantic_duplicates import find_similar
from rplab.dataset.translation_set import Pair, count_conflicts, speech_of
from rplab.dataset.view_files import write_views
from rplab.dataset.views import VIEWS, View, cut_grpo, cut_sft1, cut_sft2, cut_sharegpt, cut_translation, split_items
from rplab.errors import DataError
from rplab.jsonl import canonical, write_text
from rplab.stage import StageContext, Stats
from rplab.text.speech_level import Level, speech_level

_STEPS = 5


def build_dataset(config: DatasetConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Build the data set.

    Args:
        config: Settings.
        inputs: Directories of the stages `singleturn` (normalised messages), `rows` (single-turn rows), `dialogues`, and
            `judged` (what a judge left of the dialogues) when there is one.
        context: Where to write.

    Returns:
        Counts: rows of each view and side, what was left out and why, duplicates, leakage (always 0, checked).

    Raises:
        DataError: A broken input row (file and line), or nothing to build from.
    """
    tally = Yield()
    inputs = {**inputs, "dialogues": inputs.get("judged", inputs["dialogues"])}
    context.progress(0, _STEPS, "reading rows")
    attempts = dict(attempts_of(inputs))
    items = read_items(inputs, narration=config.translation_narration, tally=tally)
    if not items:
        reasons = (
            ", ".join(f"{source}: {reason} {number}" for (source, reason), number in sorted(tally.dropped.items())) or "no rows at all"
        )
        raise DataError(f"nothing to build a data set from ({reasons})", file=inputs["singleturn"], remedy="Generate rows first")
    copies = _near_copies(items, config)
    if config.near_duplicates == "drop":
        for item in items:
            if item.id in copies:
                tally.drop(item.kind.value, Reason.NEAR_DUPLICATE)
        items, copies = [item for item in items if item.id not in copies], {}
    if config.semantic is not None:
        items = _drop_same_meaning(items, config.semantic, tally, context)
    context.check_stop()
    context.progress(1, _STEPS, f"splitting {len(items)} conversations")
    sides = split_items(items, config)
    by_side: dict[Side, list[Item]] = {side: [item for item in items if sides[item.id][0] == side] for side in SIDES}
    group_of = {key: group for key, (_, group) in sides.items()}
    views: dict[str, View] = {
        "sft1": cut_sft1(by_side, config),
        "sft2": cut_sft2(by_side, config),
        "grpo": cut_grpo(by_side, group_of, config, tally),
        "translation": cut_translation(by_side, config, tally),
        "preference": cut_preferences(by_side, [attempt for own in attempts.values() for attempt in own], config.seed, tally),
        "sharegpt": cut_sharegpt(by_side, config),
    }
    context.progress(2, _STEPS, "measuring speech levels")
    levels = {item.id: _level(item).value for item in items}
    context.check_stop()
    context.progress(3, _STEPS, "writing views")
    write_views(context.out / "views", views)
    write_canonical(context.out / FILE, items, sides, levels, copies)
    stats = {**_stats(items, sides, views, tally, copies), **_upstream(inputs)}
    write_text(context.out / "stats.json", json.dumps(stats, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    samples = {source: sample_attempts(own) for source, own in attempts.items()}
    write_text(context.out / DROPS, json.dumps(samples, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    context.progress(4, _STEPS, "writing the data card")
    facts = describe(context.out)
    write_text(context.out / "report.md", render_card(facts))
    write_text(context.out / "report.html", render_report(facts))
    context.progress(_STEPS, _STEPS, f"{len(items)} conversations")
    return stats


def _drop_same_meaning(items: list[Item], config: SemanticConfig, tally: Yield, context: StageContext) -> list[Item]:
    """Leave out conversations that say the same as an earlier one; what the endpoint answered survives a stop."""

    def report(done: int, total: int) -> None:
        context.check_stop()
        context.progress(0, _STEPS, f"{done:,} of {total:,} texts embedded")

    vectors = embed_texts([_turns_of(item) for item in items], config.embeddings, context.resume / "embeddings", report=report)
    copies = find_similar(vectors, config.similarity)
    for at in copies:
        tally.drop(items[at].kind.value, Reason.SAME_MEANING)
    return [item for at, item in enumerate(items) if at not in copies]


def _turns_of(item: Item) -> str:
    return "\n".join(message["content"] for message in item.messages if message["role"] != "system")


def _near_copies(items: list[Item], config: DatasetConfig) -> dict[str, str]:
    """Return item id -> id of the earlier conversation whose turns are nearly the same."""
    found = find_near_duplicates([_turns_of(item) for item in items], config.near_duplicate_similarity)
    return {items[copy].id: items[original].id for copy, original in found.items()}


def _level(item: Item) -> Level:
    """Return the speech level of what the protagonist says."""
    return speech_level(" ".join(speech_of(turn) for turn in item.turns("assistant")))


def _stats(
    items: list[Item], sides: Mapping[str, tuple[Side, str]], views: Mapping[str, View], tally: Yield, copies: Mapping[str, str]
) -> dict[str, Any]:
    groups: dict[Side, set[str]] = {side: {group for own, group in sides.values() if own == side} for side in SIDES}
    pairs = [Pair(row["input"], row["output"]) for side in SIDES for row in views["translation"][side]]
    leakage = {**measure_leakage(views), "scenarios": len(groups["train"] & groups["eval"])}
    if any(leakage.values()):
        raise AssertionError(f"train and eval overlap: {leakage}")
    return {
        "rows": len(items),
        "kinds": {kind.value: sum(item.kind is kind for item in items) for kind in ItemKind},
        "scenarios": {side: len(groups[side]) for side in SIDES},
        "views": {name: {side: len(views[name][side]) for side in SIDES} for name in VIEWS},
        "yield": tally.as_json(),
        "near_duplicates": len(copies),
        "conflicting_translations": count_conflicts(pairs),
        "leakage": leakage,
    }


def _upstream(inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return what the stages before say of themselves: tokens and money used, and the states that dialogues could come to."""
    usage = {**_read(inputs["rows"] / "usage.json"), **_read(inputs["dialogues"] / "usage.json")}
    return {"usage": usage, "reachable": _read(inputs["dialogues"] / "coverage.json").get("reachable", {})}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", file=path, remedy="Run the stage that made it again") from None


def measure_leakage(views: Mapping[str, View]) -> dict[str, int]:
    """Count what stands on both sides of each view: conversations, prompt-reference pairs, Korean lines."""

    def on_both_sides(name: str, key: str) -> int:
        train, evaluation = ({canonical(row[key]) for row in views[name][side]} for side in SIDES)
        return len(train & evaluation)

    keys = {
        "sft1": "messages",
        "sft2": "messages",
        "grpo": "id",
        "translation": "input",
        "preference": "prompt",
        "sharegpt": "conversations",
    }
    return {name: on_both_sides(name, key) for name, key in keys.items()}
