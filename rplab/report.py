"""What a person sees of a run: one line per stage, and the evaluation table at the end."""

from __future__ import annotations

from pathlib import Path

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
