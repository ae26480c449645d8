"""What a report says about the canonical rows beyond counting: diversity, over-used phrases, state paths, duplicates."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rplab.dataset.slop import measure_slop
from rplab.text.diversity import compression_ratio, distinct_ngrams, self_repetition, top_shares, words_of
from rplab.text.quotes import Kind, split_blocks

Rows = Sequence[Mapping[str, Any]]

_CLUSTERS = 8
_PATHS = 10
_BINS = 24


def measure_diversity(rows: Rows) -> dict[str, Any]:
    """Return the diversity of narration and speech of the replies apart (they differ in length and purpose)."""
    texts: dict[str, list[str]] = {"narration": [], "speech": []}
    names = sorted({row[role] for row in rows for role in ("protagonist", "player") if row[role]})
    for row in rows:
        for message in row["messages"]:
            if message["role"] == "assistant":
                for kind, own in texts.items():
                    part = " ".join(block.text for block in split_blocks(message["content"]) if block.kind is Kind(kind))
                    if part:
                        own.append(part)
    return {kind: _diversity(own, names) for kind, own in texts.items() if own}


def _diversity(texts: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    words = [words_of(text, names) for text in texts]
    return {
        "texts": len(texts),
        "different": len(set(texts)),
        "mean_chars": round(sum(map(len, texts)) / len(texts), 1),
        "compression_ratio": round(compression_ratio(texts), 2),
        "self_repetition_4": round(self_repetition(words), 4),
        **{f"distinct_{n}": round(distinct_ngrams(words, n), 4) for n in (1, 2, 3)},
        "slop": measure_slop(texts, names),
        "openings": top_shares(" ".join(own[:2]) for own in words if own),
        "endings": top_shares(own[-1] for own in words if own),
    }


def measure_paths(rows: Rows, reachable: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    """Return which states and actions the dialogues went through; None when no row tells.

    Args:
        rows: Canonical rows.
        reachable: `state` and `action` -> what the pack's machines can come to; empty when the stage did not say.
    """
    paths = [turns for row in rows if (turns := _turns(row))]
    if not paths:
        return None
    states = [[str(turn.get("state")) for turn in turns] for turns in paths]
    moves: dict[str, Counter[str]] = defaultdict(Counter)
    for path in states:
        for before, after in itertools.pairwise(path):
            moves[before][after] += 1
    routes = Counter(" → ".join(_without_stays(path)) for path in states)
    total = routes.total()
    visited = {
        "state": _ordered(Counter(state for path in states for state in path)),
        "action": _ordered(Counter(str(turn.get("action")) for turns in paths for turn in turns)),
    }
    return {
        "dialogues": len(paths),
        "states": {**visited["state"], **_never(reachable.get("state", ()), visited["state"])},
        "actions": {**visited["action"], **_never(reachable.get("action", ()), visited["action"])},
        "coverage": {
            kind: {"reachable": len(names), "visited": sum(name in visited[kind] for name in names)} for kind, names in reachable.items()
        },
        "moves": {state: _ordered(after) for state, after in sorted(moves.items())},
        "different_paths": len(routes),
        "path_entropy_bits": round(-sum(count / total * math.log2(count / total) for count in routes.values()), 2) + 0.0,
        "paths": list(_ordered(routes).items())[:_PATHS],
    }


def _never(reachable: Sequence[str], visited: Mapping[str, int]) -> dict[str, int]:
    return {name: 0 for name in sorted(reachable) if name not in visited}


def _turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    turns = json.loads(row["meta"]).get("turns")
    return [turn for turn in turns if isinstance(turn, dict) and turn.get("state")] if isinstance(turns, list) else []


def _without_stays(path: Sequence[str]) -> list[str]:
    return [state for at, state in enumerate(path) if at == 0 or state != path[at - 1]]


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def measure_duplicates(rows: Rows) -> list[dict[str, Any]]:
    """Return the largest families of near duplicates, each with its first two texts."""
    by_id = {row["id"]: row for row in rows}
    families: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["near_duplicate_of"]:
            families[row["near_duplicate_of"]].append(row["id"])
    largest = sorted(families.items(), key=lambda item: (-len(item[1]), item[0]))[:_CLUSTERS]
    return [
        {"size": len(copies) + 1, "original": _last_exchange(by_id[original]), "copy": _last_exchange(by_id[copies[0]])}
        for original, copies in largest
        if original in by_id
    ]


def _last_exchange(row: Mapping[str, Any]) -> str:
    return "\n".join(message["content"] for message in row["messages"][-2:])


def fine_histogram(values: Sequence[int]) -> dict[str, int]:
    """Return a histogram of about 24 bins of equal width, empty bins between others included."""
    if not values:
        return {}
    step = max(1, math.ceil((max(values) + 1) / _BINS))
    counts = Counter(value // step for value in values)
    return {str(at * step) if step == 1 else f"{at * step}-{(at + 1) * step - 1}": counts[at] for at in range(min(counts), max(counts) + 1)}


def count_pairs(rows: Rows, first: str, second: str) -> dict[str, dict[str, int]]:
    """Return how often each value of one column meets each value of another."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        table[row[first] or "(none)"][row[second] or "(none)"] += 1
    return {name: _ordered(table[name]) for name in sorted(table)}
