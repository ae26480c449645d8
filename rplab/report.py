"""What a person sees of a run: one line per stage, and the evaluation table at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rplab.artifact import Damage, read_manifest
from rplab.pipeline import Outcome
from rplab.stage import Stats

_HEADLINE = (
    ("accepted", "rows"),
    ("rows", "rows"),
    ("steps", "steps"),
    ("prompts", "prompts"),
    ("pairs", "pairs"),
)
"""Which count of a stage's stats stands for the amount of work done; the first that is there is shown."""

_MODEL_TITLES = {"base": "base", "sft": "after SFT", "grpo": "after GRPO"}


def headline(stats: Stats) -> str:
    """Return the amount of work in a few words, for example `1200 rows`."""
    for name, unit in _HEADLINE:
        value = stats.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"{value:g} {unit}"
    return ""


def stage_line(outcome: Outcome, store: Path) -> str:
    """Return the line of a finished stage: name, time, amount, where."""
    manifest = outcome.run.manifest
    time_text = "cached" if outcome.run.cached else f"{outcome.wall_s:.1f} s"
    path = outcome.run.artifact.path
    where = path.relative_to(store.absolute()) if path.is_relative_to(store.absolute()) else path
    return f"{outcome.name:<16} {time_text:>9}  {headline(manifest.stats):<14} {store}/{where}"


def evaluation_table(store: Path) -> str:
    """Return what the latest evaluations of a store say; empty when there is none.

    Rows: mean reward with its 95 % interval and share of well-formed replies for base, SFT and GRPO; chrF++ of the
    translator; how far GRPO moved its own reward; every gate that failed.
    """
    lines: list[str] = []
    failed: list[Any] = []
    if evaluation := _read(store, "evaluate"):
        lines += [f"{'role-play model':<16} {'reward':>7} {'95 % interval':>18} {'format':>7} {'level':>7} {'stops':>7}"]
        for name, model in evaluation["models"].items():
            reward, rates = model["reward"], model["rates"]
            interval = f"[{reward['low']:.3f}, {reward['high']:.3f}]"
            shares = " ".join(f"{rates[rate]:>7.0%}" for rate in ("format", "register", "eos"))
            lines += [f"{_MODEL_TITLES.get(name, name):<16} {reward['mean']:>7.3f} {interval:>18} {shares}"]
        failed += evaluation["failed"]
    if (trained := _stats(store, "grpo")) and "reward_gain_interval" in trained:
        low, high = trained["reward_gain_interval"]
        change = f"{trained['reward_first']:.3f} -> {trained['reward_last']:.3f}"
        lines += [f"{'GRPO training':<16} {change} (first and last {trained['window_steps']} steps), gain in [{low:+.3f}, {high:+.3f}]"]
    if evaluation := _read(store, "translator_eval"):
        stops, hangul = evaluation["stop_rate"], evaluation["hangul_rate"]
        score = f"chrF++ {evaluation['chrfpp']:.1f} on {evaluation['pairs']} held-out pairs"
        lines += [f"{'translator':<16} {score}, stops {stops:.0%}, Hangul left {hangul:.0%}"]
        failed += evaluation["failed"]
    lines += [f"GATE FAILED      {gate['gate']} is {gate['value']}, wanted {gate['wanted']}: {gate['why']}" for gate in failed]
    return "\n".join(lines)


def _read(store: Path, stage: str) -> dict[str, Any] | None:
    path = store / "latest" / stage / "evaluation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _stats(store: Path, stage: str) -> dict[str, Any] | None:
    """Return what the latest run of a stage counted, when its manifest is in order."""
    try:
        return read_manifest(store / "latest" / stage).stats
    except Damage:
        return None
