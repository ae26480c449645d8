"""The training views of a split data set: SFT stage 1, SFT stage 2, GRPO, KO->JA, ShareGPT (preference: `preferences`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from rplab.character import Register
from rplab.dataset.chat_formats import to_sharegpt
from rplab.dataset.config import DatasetConfig
from rplab.dataset.grpo_set import GrpoLimits, Sample, samples_of
from rplab.dataset.items import SIDES, Item, ItemKind, Side, Yield
from rplab.dataset.split import Groups, choose_eval, shuffled, squash
from rplab.dataset.translation_set import Pair
from rplab.seeding import derive_seed

View: TypeAlias = dict[Side, list[dict[str, Any]]]

VIEWS = ("sft1", "sft2", "grpo", "translation", "preference", "sharegpt")
_MOVABLE = 0.2
"""Largest share of all lines that may leave training so that translation has enough lines to be measured on."""


def split_items(items: Sequence[Item], config: DatasetConfig) -> dict[str, tuple[Side, str]]:
    """Return item id -> (side, scenario group). Single-turn and multi-turn groups are drawn apart, so both are measured."""
    groups = Groups()
    for item in items:
        groups.tie(item.keys)
    group_of = {item.id: groups.name_of(item.keys[0]) for item in items}
    multi = {group_of[item.id] for item in items if item.kind is ItemKind.MULTI}
    sizes: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for item in items:
        sizes[group_of[item.id] in multi][group_of[item.id]] += 1
    held_out = choose_eval(sizes[True], config.eval_ratio, config.seed) | choose_eval(sizes[False], config.eval_ratio, config.seed)
    return {item.id: ("eval" if group_of[item.id] in held_out else "train", group_of[item.id]) for item in items}


def cut_sft1(items: Mapping[Side, Sequence[Item]], config: DatasetConfig) -> View:
    """Cut stage 1: the single-turn rows."""
    return {side: _messages([item for item in items[side] if item.kind is ItemKind.SINGLE], config.seed) for side in SIDES}


def cut_sft2(items: Mapping[Side, Sequence[Item]], config: DatasetConfig) -> View:
    """Cut stage 2: the dialogues, and a share of the single-turn rows so that stage 1 is not forgotten."""
    return {
        side: _messages([item for item in items[side] if item.kind is ItemKind.MULTI or _seen_again(item, config)], config.seed)
        for side in SIDES
    }


def _seen_again(item: Item, config: DatasetConfig) -> bool:
    return derive_seed(config.seed, "sft2", item.id) < config.sft2_single_turn_share * 2**63


def _messages(items: Sequence[Item], seed: int) -> list[dict[str, Any]]:
    by_id = {item.id: item for item in items}
    return [{"messages": by_id[key].messages} for key in shuffled(by_id, seed)]


def cut_sharegpt(items: Mapping[Side, Sequence[Item]], config: DatasetConfig) -> View:
    """Cut every conversation in the form that ShareGPT readers expect."""
    return {side: [{"conversations": to_sharegpt(row["messages"])} for row in _messages(items[side], config.seed)] for side in SIDES}


def cut_grpo(items: Mapping[Side, Sequence[Item]], group_of: Mapping[str, str], config: DatasetConfig, tally: Yield) -> View:
    """Cut prompts with references; the columns that rewards need come from the metadata, never from prose."""
    limits = GrpoLimits(config.max_context_messages, config.min_prompt_chars, config.min_reference_chars)
    view: View = {}
    for side in SIDES:
        rows: dict[str, dict[str, Any]] = {}
        for item in items[side]:
            for sample in _samples(item, limits, tally):
                if sample.id in rows:
                    tally.drop("grpo", "duplicate")
                    continue
                rows[sample.id] = _grpo_row(item, sample, group_of[item.id])
        view[side] = [rows[key] for key in shuffled(rows, config.seed)]
    return view


def _samples(item: Item, limits: GrpoLimits, tally: Yield) -> Iterator[Sample]:
    named = bool(item.protagonist and item.player and item.field("register") in {register.value for register in Register})
    for sample in samples_of(item.messages, limits):
        tally.read["grpo"] += 1
        if not isinstance(sample, Sample):
            tally.drop("grpo", sample.value)
        elif not named:
            tally.drop("grpo", "protagonist_player_or_register_unknown")
        else:
            yield sample


def _grpo_row(item: Item, sample: Sample, group: str) -> dict[str, Any]:
    return {
        "id": sample.id,
        "prompt": sample.prompt,
        "prompt_messages": sample.prompt_messages,
        "reference": sample.reference,
        "protagonist": item.protagonist,
        "player": item.player,
        "register": item.field("register"),
        "meta": {
            "item": item.id,
            "kind": item.kind.value,
            "scenario": group,
            "genre": item.field("genre"),
            "turn": sum(message["role"] == "user" for message in item.messages[: sample.turn]),
        },
    }


def cut_translation(items: Mapping[Side, Sequence[Item]], config: DatasetConfig, tally: Yield) -> View:
    """Cut KO->JA pairs so that no Korean line stands on both sides.

    A line that scenarios of both sides say is trained on, not measured on; only when fewer than
    `min_translation_eval` lines would be left to measure, such lines are held out instead (and leave training).
    """
    lines: dict[Side, dict[str, set[Pair]]] = {}
    for side in SIDES:
        by_line: dict[str, set[Pair]] = defaultdict(set)
        for item in items[side]:
            for pair in item.pairs:
                own = by_line[squash(pair.korean)]
                if pair in own:
                    tally.drop("translation", "duplicate")
                own.add(pair)
        lines[side] = dict(by_line)
    shared = set(lines["train"]) & set(lines["eval"])
    held_out = _lines_to_hold_out(lines, shared, config)
    for key in shared:
        loser: Side = "train" if key in held_out else "eval"
        tally.drop("translation", "line_held_out" if loser == "train" else "line_also_in_training", len(lines[loser].pop(key)))
    view: View = {}
    for side in SIDES:
        pairs = {f"{pair.korean}\x1f{pair.japanese}": pair for own in lines[side].values() for pair in own}
        view[side] = [pairs[key].as_row() for key in shuffled(pairs, config.seed)]
    return view


def _lines_to_hold_out(lines: Mapping[Side, Mapping[str, Any]], shared: set[str], config: DatasetConfig) -> set[str]:
    if config.eval_ratio <= 0:
        return set()
    total = len(set(lines["train"]) | set(lines["eval"]))
    missing = min(config.min_translation_eval, int(total * _MOVABLE)) - (len(lines["eval"]) - len(shared))
    return set(shuffled(shared, config.seed)[: max(0, missing)])
