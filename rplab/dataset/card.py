"""The data card: what is in a data-set folder, made from its files, as Markdown with Hugging Face front matter.

Copied to `README.md` beside the files, the front matter tells `datasets.load_dataset` which file is which view.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rplab.dataset.canonical_rows import FILE
from rplab.dataset.measures import count_pairs, fine_histogram, measure_diversity, measure_duplicates, measure_paths
from rplab.errors import DataError
from rplab.jsonl import read_rows
from rplab.text.repetition import distinct_n

DROPS = "drops.json"
"""Samples of refused texts: source -> reason -> texts."""

_BAR_WIDTH = 30
_EXAMPLES = 3
_LENGTH_STEP = 40
"""Characters of one step of the length histograms."""
_SYSTEM_CHARS = 160
"""Characters of a system text shown in an example."""

Facts = dict[str, Any]


def describe(directory: Path) -> Facts:
    """Collect the facts of a data-set folder from its files.

    Args:
        directory: Holds `views/<view>/{train,eval}.jsonl`; `rows.parquet` and `stats.json` when the stage made it.

    Raises:
        DataError: No views there, or a broken file.
    """
    files = sorted((directory / "views").glob("*/*.jsonl"))
    if not files:
        raise DataError(
            "no views/<name>/{train,eval}.jsonl here",
            file=directory,
            remedy="Name the folder of a dataset, for example store/latest/dataset",
        )
    views: dict[str, dict[str, dict[str, int]]] = {}
    examples: dict[str, list[dict[str, Any]]] = {}
    for path in files:
        rows = [row for _, row in read_rows(path)]
        views.setdefault(path.parent.name, {})[path.stem] = {"rows": len(rows), "bytes": path.stat().st_size}
        if path.stem == "train":
            examples[path.parent.name] = rows[:_EXAMPLES]
    stats = _read_json(directory / "stats.json")
    return {
        "views": views,
        "examples": examples,
        "rows": _describe_rows(directory / FILE, (stats or {}).get("reachable", {})),
        "stats": stats,
        "drops": _read_json(directory / DROPS) or {},
    }


def _read_json(path: Path) -> Facts | None:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", file=path, remedy="Make the data set again") from None


def _describe_rows(path: Path, reachable: Mapping[str, Sequence[str]]) -> Facts | None:
    if not path.is_file():
        return None
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"not a parquet file ({error})", file=path, remedy="Make the data set again") from None
    replies = [message["content"] for row in rows for message in row["messages"] if message["role"] == "assistant"]
    prompts = [message["content"] for row in rows for message in row["messages"] if message["role"] == "user"]
    agree = Counter(_agreement(row["register"], row["speech_level"]) for row in rows)
    return {
        "num": len(rows),
        "by": {name: dict(Counter(row[name] or "(none)" for row in rows).most_common()) for name in _COLUMNS},
        "speech_level_agrees": dict(agree),
        "reply_chars": _histogram([len(reply) for reply in replies]),
        "user_chars": _histogram([len(prompt) for prompt in prompts]),
        "exchanges": dict(sorted(Counter(str(row["num_exchanges"]) for row in rows).items(), key=lambda item: int(item[0]))),
        "distinct_replies": len(set(replies)),
        "replies": len(replies),
        "distinct_2": round(distinct_n(replies, 2), 4),
        "near_duplicates": sum(row["near_duplicate_of"] is not None for row in rows),
        "reply_lengths": fine_histogram([len(reply) for reply in replies]),
        "user_lengths": fine_histogram([len(prompt) for prompt in prompts]),
        "genre_by_register": count_pairs(rows, "genre", "register"),
        "diversity": measure_diversity(rows),
        "paths": measure_paths(rows, reachable),
        "duplicates": measure_duplicates(rows),
    }


_COLUMNS = ("kind", "split", "genre", "register", "speech_level", "protagonist", "player", "pack", "backend")


_TITLES = {
    "genre": "Genre",
    "register": "Register asked for",
    "speech_level": "Speech level measured",
    "protagonist": "Protagonist",
    "player": "Player",
    "backend": "Text model",
    "pack": "Pack",
}


def _agreement(register: str, level: str) -> str:
    expected = {"존댓말": "polite", "반말": "casual"}.get(register)
    if expected is None or level == "unknown":
        return "not measurable"
    return "agrees" if level == expected else "differs"


def _histogram(values: Sequence[int]) -> dict[str, int]:
    counts = Counter(value // _LENGTH_STEP for value in values)
    return {f"{step * _LENGTH_STEP}-{(step + 1) * _LENGTH_STEP - 1}": counts[step] for step in range(max(counts, default=-1) + 1)}


def render_card(facts: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    parts = [
        _front_matter(facts),
        "# Role-play data set\n\nSynthetic Korean role-play conversations with Japanese speech lines, for general audiences.\n",
    ]
    parts.append(_views_table(facts["views"]))
    if facts["stats"]:
        parts += [_split_section(facts["stats"]), _yield_section(facts["stats"]["yield"]), _cost_section(facts["stats"].get("usage", {}))]
    if facts["rows"]:
        parts.append(_content_section(facts["rows"]))
    parts.append(_examples_section(facts["examples"]))
    return "\n".join(parts)


def _front_matter(facts: Mapping[str, Any]) -> str:
    total = max((sum(side["rows"] for side in sides.values()) for sides in facts["views"].values()), default=0)
    size = "n<1K" if total < 1_000 else "1K<n<10K" if total < 10_000 else "10K<n<100K" if total < 100_000 else "100K<n<1M"
    lines = ["---", "language: [ko, ja]", "license: other", "task_categories: [text-generation, translation]", f"size_categories: [{size}]"]
    lines += ["tags: [synthetic, role-play, korean, japanese]", "configs:"]
    for view, sides in facts["views"].items():
        if not any(side["rows"] for side in sides.values()):
            continue  # a config without files could not be loaded
        lines += [f"- config_name: {view}", "  data_files:"]
        for side, split in (("train", "train"), ("eval", "validation")):
            if sides.get(side, {}).get("rows"):
                lines += [f"  - split: {split}", f"    path: views/{view}/{side}.jsonl"]
    return "\n".join([*lines, "---", ""])


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if number == 0 else "---:" for number in range(len(head))) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]) + "\n"


def _views_table(views: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    rows = [
        [view, sides.get("train", {}).get("rows", 0), sides.get("eval", {}).get("rows", 0), sum(side["bytes"] for side in sides.values())]
        for view, sides in views.items()
    ]
    return "## Views\n\n" + _table(["view", "train", "eval", "bytes"], rows)


def _split_section(stats: Mapping[str, Any]) -> str:
    scenarios, leakage = stats["scenarios"], stats["leakage"]
    text = f"Split by scenario before the views were cut: {scenarios['train']} scenarios in training, {scenarios['eval']} held out.\n\n"
    rows = [[name, number] for name, number in leakage.items()]
    text += _table(["on both sides", "number"], rows)
    text += f"\nNear duplicates (kept, counted): {stats['near_duplicates']}. "
    return f"## Split\n\n{text}Korean lines with more than one translation: {stats['conflicting_translations']}.\n"


def _yield_section(table: Mapping[str, Any]) -> str:
    rows = [[f"{source}: read", number] for source, number in table["read"].items()]
    rows += [
        [f"{source}: left out, {reason}", number] for source, reasons in table["dropped"].items() for reason, number in reasons.items()
    ]
    return "## Yield\n\n" + _table(["what", "number"], rows)


def _cost_section(usage: Mapping[str, Mapping[str, Any]]) -> str:
    if not usage:
        return ""
    rows = [
        [stage, used["model"], used["answers"], used["prompt_tokens"], used["completion_tokens"], show_money(used["usd"])]
        for stage, used in usage.items()
    ]
    return "## Cost\n\n" + _table(["used by", "text model", "answers", "prompt tokens", "completion tokens", "cost"], rows)


def show_money(usd: float | None) -> str:
    """Return an amount for reading; None: nobody knows the price."""
    return "price not known" if usd is None else f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}" if usd else "free"


def _content_section(rows: Mapping[str, Any]) -> str:
    parts = [f"## Content\n\n{rows['num']} conversations, {rows['replies']} replies, {rows['distinct_replies']} of them different "]
    parts[0] += f"(distinct word pairs: {rows['distinct_2']:.1%}).\n"
    parts += [_bars(title, rows["by"][name]) for name, title in _TITLES.items()]
    parts.append(_bars("Measured level against the register asked for", rows["speech_level_agrees"]))
    parts += [_bars("Exchanges of a conversation", rows["exchanges"]), _bars("Characters of a reply", rows["reply_chars"])]
    return "\n".join([*parts, _bars("Characters of a player turn", rows["user_chars"])])


def _bars(title: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    if not total:
        return ""
    width = max(_columns(name) for name in counts)
    top = max(counts.values())
    lines = [
        f"{name}{' ' * (width - _columns(name))}  {number:>7}  {number / total:>6.1%}  {'█' * round(_BAR_WIDTH * number / top)}".rstrip()
        for name, number in counts.items()
    ]
    return f"### {title}\n\n```\n" + "\n".join(lines) + "\n```\n"


def _columns(text: str) -> int:
    """Return how many terminal columns a text takes (Hangul takes two each)."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _examples_section(examples: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    parts = ["## Examples\n"]
    parts += [f"### {view}\n\n```\n{_example(row)}\n```\n" for view, rows in examples.items() for row in rows]
    return "\n".join(parts)


def _example(row: Mapping[str, Any]) -> str:
    """Return a row for reading: its turns (system texts shortened), its reference, or its plain fields."""
    turns = row.get("messages") or row.get("prompt_messages")
    if not isinstance(turns, list):
        return "\n".join(f"{name}: {value}" for name, value in row.items())
    lines = [f"{turn['role']}: {_short(turn['content']) if turn['role'] == 'system' else turn['content']}" for turn in turns]
    return "\n".join([*lines, *([f"-> {row['reference']}"] if "reference" in row else [])])


def _short(text: str) -> str:
    return text if len(text) <= _SYSTEM_CHARS else f"{text[:_SYSTEM_CHARS]}… ({len(text)} characters)"
