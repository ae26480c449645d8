"""Preference pairs out of what generation refused: the same prompt, the reply that was kept, and one that was not.

A by-product of the reject ledgers. A pair is made only where the prompt is really the same: the turns of a dialogue before
a refused reply are those before the accepted one; of a single-turn row the player's line must be the same. Refused player
turns, unreadable judgements, and texts that policy forbade to keep give no pair. Everything is counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rplab.dataset.grpo_set import Messages
from rplab.dataset.items import SIDES, Item, ItemKind, Side, Yield
from rplab.dataset.split import shuffled
from rplab.errors import DataError
from rplab.jsonl import canonical, read_rows
from rplab.text.quotes import is_visible

_SINGLE_KEY = re.compile(r"singleturn/(?P<index>\d+)/a\d+")
_TURN_KEY = re.compile(r"(?P<scenario>.+)/t(?P<turn>\d+)/(?P<speaker>player|protagonist|signals)/a\d+")


class NoPair(StrEnum):
    """Why a refused attempt gives no preference pair."""

    NOT_A_REPLY = "not_a_reply"
    NO_TEXT = "no_text_kept"
    NOT_ACCEPTED = "no_accepted_row_of_this_item"
    OTHER_PROMPT = "other_prompt"
    SAME = "equals_the_accepted_reply"
    DUPLICATE = "duplicate"


@dataclass(frozen=True)
class Attempt:
    """A refused attempt."""

    key: str
    reason: str
    text: str


def read_attempts(path: Path) -> list[Attempt]:
    """Read a `rejects.jsonl`; none when there is no such file.

    Raises:
        DataError: A broken line, or one without key and text.
    """
    if not path.is_file():
        return []
    return [_attempt(row, path, line) for line, row in read_rows(path)]


def _attempt(row: Mapping[str, Any], path: Path, line: int) -> Attempt:
    key, reason, text = (row.get(name, "") for name in ("key", "reason", "text"))
    if not (isinstance(key, str) and isinstance(reason, str) and isinstance(text, str)):
        raise DataError("key, reason and text must be text", file=path, line=line, remedy="Make the rows again")
    return Attempt(key, reason, text)


def cut_preferences(
    items: Mapping[Side, Sequence[Item]], attempts: Sequence[Attempt], seed: int, tally: Yield
) -> dict[Side, list[dict[str, Any]]]:
    """Cut `{prompt, chosen, rejected}` rows, each a list of messages, as TRL's preference trainers read them.

    Args:
        items: The conversations of each side.
        attempts: What generation refused.
        seed: Decides the order.
        tally: Receives what gave no pair.
    """
    by_index = {(side, str(item.meta.get("index"))): item for side in SIDES for item in items[side] if item.kind is ItemKind.SINGLE}
    by_scenario = {(side, str(item.meta.get("scenario_id"))): item for side in SIDES for item in items[side] if item.kind is ItemKind.MULTI}
    view: dict[Side, dict[str, dict[str, Any]]] = {side: {} for side in SIDES}
    for attempt in attempts:
        tally.read["preference"] += 1
        side, pair = _pair(attempt, by_index, by_scenario)
        if isinstance(pair, NoPair):
            tally.drop("preference", pair.value)
            continue
        key = canonical(pair)
        if key in view[side]:
            tally.drop("preference", NoPair.DUPLICATE.value)
        view[side][key] = pair
    return {side: [view[side][key] for key in shuffled(view[side], seed)] for side in SIDES}


def _pair(
    attempt: Attempt, by_index: Mapping[tuple[str, str], Item], by_scenario: Mapping[tuple[str, str], Item]
) -> tuple[Side, dict[str, Any] | NoPair]:
    if single := _SINGLE_KEY.fullmatch(attempt.key):
        side, item = _find(by_index, single["index"])
        return side, _single_pair(attempt, item)
    if turn := _TURN_KEY.fullmatch(attempt.key):
        side, item = _find(by_scenario, turn["scenario"])
        return side, _turn_pair(attempt, item, int(turn["turn"])) if turn["speaker"] == "protagonist" else NoPair.NOT_A_REPLY
    return "train", NoPair.NOT_A_REPLY


def _find(items: Mapping[tuple[str, str], Item], name: str) -> tuple[Side, Item | None]:
    side: Side = "eval" if ("eval", name) in items else "train"
    return side, items.get((side, name))


def _single_pair(attempt: Attempt, item: Item | None) -> dict[str, Any] | NoPair:
    if item is None:
        return NoPair.NOT_ACCEPTED
    try:
        payload: Any = json.loads(attempt.text[attempt.text.find("{") : attempt.text.rfind("}") + 1])
    except (ValueError, RecursionError):
        return NoPair.NO_TEXT
    if not isinstance(payload, dict) or not isinstance(payload.get("assistant_raw"), str):
        return NoPair.NO_TEXT
    prompt, chosen = item.messages[:-1], item.messages[-1]["content"]
    if payload.get("user") != prompt[-1]["content"]:
        return NoPair.OTHER_PROMPT
    return _row(prompt, chosen, payload["assistant_raw"])


def _turn_pair(attempt: Attempt, item: Item | None, turn: int) -> dict[str, Any] | NoPair:
    if item is None:
        return NoPair.NOT_ACCEPTED
    replies = [at for at, message in enumerate(item.messages) if message["role"] == "assistant"]
    if turn >= len(replies):
        return NoPair.NOT_ACCEPTED
    return _row(item.messages[: replies[turn]], item.messages[replies[turn]]["content"], attempt.text)


def _row(prompt: Messages, chosen: str, rejected: str) -> dict[str, Any] | NoPair:
    if not is_visible(rejected):
        return NoPair.NO_TEXT
    if rejected.strip() == chosen.strip():
        return NoPair.SAME
    return {"prompt": prompt, "chosen": [_reply(chosen)], "rejected": [_reply(rejected.strip())]}


def _reply(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def sample_attempts(attempts: Sequence[Attempt], limit: int = 3, chars: int = 240) -> dict[str, list[str]]:
    """Return the first few texts of each reason, shortened, for reports."""
    samples: dict[str, list[str]] = {}
    for attempt in attempts:
        own = samples.setdefault(attempt.reason, [])
        if attempt.text.strip() and len(own) < limit:
            text = attempt.text.strip()
            own.append(text if len(text) <= chars else f"{text[:chars]}…")
    return samples


def attempts_of(inputs: Mapping[str, Path]) -> Iterator[tuple[str, list[Attempt]]]:
    """Yield (source as the yield table calls it, refused attempts) of both generation stages."""
    yield "single, attempts", read_attempts(inputs["rows"] / "rejects.jsonl")
    yield "multi, attempts", read_attempts(inputs["dialogues"] / "rejects.jsonl")
