"""The report of a generation stage, for people: what came of the items, why some were lost, and what rows look like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rplab.backend.base import Usage
from rplab.backend.config import BackendConfig
from rplab.backend.prices import find_backend_price
from rplab.dialogue.journal import Journal
from rplab.errors import DataError
from rplab.jsonl import write_text

REPORT = "report.md"
USAGE = "usage.json"
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
    lines += _usage_table(stats["usage"])
    for name, counts in stats.get("mix", {}).items():
        lines += _table(name, counts)
    if examples:
        lines += ["## Examples", ""]
        lines += [block for example in examples[:SHOWN_ROWS] for block in (example, "")]
    write_text(folder / REPORT, "\n".join(lines).rstrip() + "\n")


def count_usage(journal: Journal, backend: BackendConfig) -> dict[str, Any]:
    """Count what all answers of a stage used, those of earlier runs and of shards included.

    Returns:
        model, answers, prompt_tokens, completion_tokens, usd (None: nobody knows the price; a local model costs nothing).
    """
    total, number = Usage(), 0
    for usage in journal.usages():
        total = Usage(total.prompt_tokens + usage.prompt_tokens, total.completion_tokens + usage.completion_tokens)
        number += 1
    price = find_backend_price(backend)
    usd = None if price is None else round(price.cost_usd(total), 6)
    model = f"{backend.kind}/{getattr(backend, 'model', '')}".rstrip("/")
    return {
        "model": model,
        "answers": number,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
        "usd": usd,
    }


def write_usage(folder: Path, usage: dict[str, Any]) -> dict[str, Any]:
    """Write `usage.json` (stage -> counts) and return it."""
    write_text(folder / USAGE, json.dumps(usage, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    return usage


def read_usage(folder: Path) -> dict[str, Any]:
    """Return the `usage.json` of a stage's folder; nothing when there is none.

    Raises:
        DataError: It is damaged.
    """
    path = folder / USAGE
    if not folder.is_dir() or not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", file=path, remedy="Run the stage that made it again") from None


def _usage_table(usage: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {stage} | {used['model']} | {used['answers']:,} | {used['prompt_tokens']:,} | {used['completion_tokens']:,} "
        f"| {_money(used['usd'])} |"
        for stage, used in usage.items()
    ]
    return ["| used by | model | answers | prompt tokens | completion tokens | cost |", "|---|---|---:|---:|---:|---:|", *rows, ""]


def _money(usd: float | None) -> str:
    return "price not known" if usd is None else f"${usd:,.4f}" if usd else "free"


def show_exchange(turns: Sequence[tuple[str, str]]) -> str:
    """Return (name, text) turns as a Markdown quotation."""
    return "\n>\n".join(f"> **{name}**  \n> " + text.replace("\n", "  \n> ") for name, text in turns)


def _table(what: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    total = sum(counts.values())
    rows = [f"| {name} | {count} | {count / total:.1%} |" for name, count in sorted(counts.items(), key=lambda item: -item[1])]
    return [f"| {what} | items | share |", "|---|---:|---:|", *rows, ""]
