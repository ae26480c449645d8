"""What finished dialogues are made of, and what they could have been: states, modes, relations, how much had to be mended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rplab.dialogue.inspect import reachable_states
from rplab.dialogue.pack import Pack
from rplab.jsonl import write_text

COVERAGE = "coverage.json"


def describe_dialogues(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count what dialogues are made of."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("genre", "register", "state", "action", "mode", "relation")}
    exchanges = judge_failed = repaired = 0
    replies: set[str] = set()
    for row in rows:
        counts["genre"][row["meta"]["genre"]] += 1
        counts["register"][row["meta"]["register"]] += 1
        replies.update(message["content"] for message in row["messages"] if message["role"] == "assistant")
        for turn in row["turns"]:
            exchanges += 1
            judge_failed += turn["judge_failed"]
            repaired += turn["repaired"]
            for name in ("state", "action", "mode", "relation"):
                counts[name][turn[name]] += 1
    return {
        "exchanges": exchanges,
        "distinct_replies": len(replies),
        "repaired_exchanges": repaired,
        "judge_failed": judge_failed,
        "mix": {name: dict(sorted(counter.items())) for name, counter in counts.items()},
    }


def write_coverage(folder: Path, pack: Pack) -> None:
    """Write `coverage.json`: the states that the pack's machines can come to, for reports to compare with."""
    found = reachable_states(pack)
    names = {"state": sorted(found[pack.relation_machine.name]), "action": sorted(found[pack.action_machine.name])}
    body = {"pack": pack.name, "pack_version": pack.version, "reachable": names}
    write_text(folder / COVERAGE, json.dumps(body, ensure_ascii=False, indent=1) + "\n")
