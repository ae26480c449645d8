"""The report of a generation stage, for people: what came of the items, why some were lost, and what rows look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rplab.jsonl import write_text

REPORT = "report.md"
SHOWN_ROWS = 3


def write_report(folder: Path, title: str, stats: Mapping[str, Any], examples: Sequence[str]) -> None:
    """Write `report.md`.

    Args:
        folder: Where to.
        title: What was made.
        stats: The stage's counts.
        examples: Rows as Markdown; the first few are shown.
    """
    rejected, failed = sum(stats["rejected"].values()), sum(stats["failed"].values())
    accepted = stats["accepted"]
    lines = [
        f"# {title}",
        "",
        f"planned {stats['planned']} = accepted {accepted} + rejected {rejected} + failed {failed}; "
        f"{stats['attempts']} requests, {stats['attempts'] / max(1, accepted):.2f} per accepted item",
        "",
    ]
    lines += _table("given up because of", {**stats["rejected"], **stats["failed"]})
    lines += _table("attempts refused because of", stats["refused_attempts"])
    for name, counts in stats.get("mix", {}).items():
        lines += _table(name, counts)
    if examples:
        lines += ["## Examples", ""]
        lines += [block for example in examples[:SHOWN_ROWS] for block in (example, "")]
    write_text(folder / REPORT, "\n".join(lines).rstrip() + "\n")


def show_exchange(turns: Sequence[tuple[str, str]]) -> str:
    """Return (name, text) turns as a Markdown quotation."""
    return "\n>\n".join(f"> **{name}**  \n> " + text.replace("\n", "  \n> ") for name, text in turns)


def _table(what: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    total = sum(counts.values())
    rows = [f"| {name} | {count} | {count / total:.1%} |" for name, count in sorted(counts.items(), key=lambda item: -item[1])]
    return [f"| {what} | items | share |", "|---|---:|---:|", *rows, ""]
