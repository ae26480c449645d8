"""The rows that a data set is made of, read from the stages before it: one typed item for each conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from rplab.dataset.grpo_set import Messages, group_keys, usable_messages
from rplab.dataset.names import person_name
from rplab.dataset.translation_set import Pair, Unusable, pairs_of_row, speech_of
from rplab.errors import DataError
from rplab.jsonl import canonical, read_rows
from rplab.seeding import content_id
from rplab.text.korean import find_broken_hangul

Side = Literal["train", "eval"]
SIDES: tuple[Side, ...] = ("train", "eval")


class ItemKind(StrEnum):
    """Where a conversation comes from."""

    SINGLE = "single"
    MULTI = "multi"


class Reason(StrEnum):
    """Why a row does not become an item."""

    NO_EXCHANGE = "no_exchange"
    NO_SPEECH = "reply_without_speech"
    BROKEN_HANGUL = "broken_hangul"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    SAME_MEANING = "same_meaning"


@dataclass(frozen=True)
class Item:
    """One conversation with what is known about it."""

    id: str
    kind: ItemKind
    messages: Messages
    meta: Mapping[str, Any]
    keys: tuple[str, ...]
    """What ties it to other conversations (see `rplab.dataset.split`)."""
    pairs: tuple[Pair, ...] = ()

    @property
    def protagonist(self) -> str:
        """Name of the assistant's character, or an empty string."""
        return person_name(self.meta.get("protagonist")) or ""

    @property
    def player(self) -> str:
        """Name of the player, or an empty string."""
        return person_name(self.meta.get("player")) or ""

    def field(self, name: str) -> str:
        """Return a text field of the metadata, or an empty string."""
        value = self.meta.get(name)
        return value if isinstance(value, str) else ""

    def turns(self, role: str) -> list[str]:
        """Return the contents of one role's turns."""
        return [message["content"] for message in self.messages if message["role"] == role]


@dataclass
class Yield:
    """What became of the rows: (source, reason) -> number."""

    read: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def drop(self, source: str, reason: str, number: int = 1) -> None:
        """Count rows, attempts or pairs that were left out."""
        self.dropped[source, reason] += number

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON: {"read": {source: n}, "dropped": {source: {reason: n}}}."""
        table: dict[str, dict[str, int]] = {}
        for (source, reason), number in sorted(self.dropped.items()):
            table.setdefault(source, {})[reason] = number
        return {"read": dict(sorted(self.read.items())), "dropped": table}


def read_items(inputs: Mapping[str, Path], *, narration: bool, tally: Yield) -> list[Item]:
    """Read single-turn rows and dialogues; equal conversations are kept once.

    Args:
        inputs: Directories `singleturn` (messages.jsonl), `rows` (rows.jsonl) and `dialogues` (dialogues.jsonl).
        narration: Also pair narration lines for translation.
        tally: Receives what was left out.

    Raises:
        DataError: A file is missing or broken.
    """
    pairs = _singleturn_pairs(inputs["rows"] / "rows.jsonl", narration=narration, tally=tally)
    items: list[Item] = []
    seen: set[str] = set()
    for item in (
        *_singles(inputs["singleturn"] / "messages.jsonl", pairs, tally),
        *_dialogues(inputs["dialogues"] / "dialogues.jsonl", tally),
    ):
        key = canonical(item.messages)
        if key in seen:
            tally.drop(item.kind.value, Reason.DUPLICATE)
            continue
        seen.add(key)
        items.append(item)
    _count_earlier_losses(inputs, tally)
    return items


def _singleturn_pairs(path: Path, *, narration: bool, tally: Yield) -> dict[str, list[Pair]]:
    """Return row id -> translation pairs of the scene."""
    found: dict[str, list[Pair]] = {}
    for line, row in read_rows(path):
        found.setdefault(_row_id(row, path, line), []).extend(_pairs(row, path, line, "single pairs", tally, narration=narration))
    return found


def _pairs(row: Mapping[str, Any], path: Path, line: int, source: str, tally: Yield, *, narration: bool = False) -> list[Pair]:
    try:
        found = pairs_of_row(row, narration=narration)
    except DataError as error:
        raise DataError(str(error), file=path, line=line) from None
    tally.read[source] += len(found)
    for item in found:
        if isinstance(item, Unusable):
            tally.drop(source, item.value)
    return [item for item in found if isinstance(item, Pair)]


def _row_id(row: Mapping[str, Any], path: Path, line: int) -> str:
    meta = row.get("meta")
    row_id = meta.get("id") if isinstance(meta, dict) else None
    if row_id is not None and not isinstance(row_id, str):
        raise DataError("meta.id must be text", file=path, line=line, remedy="Make the rows again")
    return row_id or content_id("row", canonical(row.get("system")), canonical(row.get("user")), canonical(row.get("assistant_raw")))


def _singles(path: Path, pairs: Mapping[str, Sequence[Pair]], tally: Yield) -> Iterator[Item]:
    for line, row in read_rows(path):
        meta = row.get("meta") if isinstance(row.get("meta"), dict) else {}
        assert isinstance(meta, dict), "narrowed just above"
        tally.read[ItemKind.SINGLE] += 1
        known = {name: value for name, value in meta.items() if name != "scene"}
        messages = _checked(row, path, line, ItemKind.SINGLE, tally)
        if messages:
            row_id = meta.get("id")
            own = pairs.get(row_id, ()) if isinstance(row_id, str) else ()
            yield Item(_item_id(ItemKind.SINGLE, messages), ItemKind.SINGLE, messages, known, tuple(group_keys(messages)), tuple(own))


def _dialogues(path: Path, tally: Yield) -> Iterator[Item]:
    for line, row in read_rows(path):
        tally.read[ItemKind.MULTI] += 1
        messages = _checked(row, path, line, ItemKind.MULTI, tally)
        pairs = _pairs(row, path, line, "multi pairs", tally) if "turns" in row else []
        if not messages:
            continue
        meta = row.get("meta") if isinstance(row.get("meta"), dict) else {}
        turns: list[Any] = row["turns"] if isinstance(row.get("turns"), list) else []
        states = [{name: turn.get(name) for name in ("state", "action", "intent")} for turn in turns if isinstance(turn, dict)]
        scenario = row.get("scenario_id")
        keys = [*group_keys(messages), *([f"scenario_id:{scenario}"] if isinstance(scenario, str) else [])]
        known = {**(meta or {}), "dialogue_id": row.get("id"), "scenario_id": scenario, "turns": states}
        yield Item(_item_id(ItemKind.MULTI, messages), ItemKind.MULTI, messages, known, tuple(keys), tuple(pairs))


def _item_id(kind: ItemKind, messages: Messages) -> str:
    return content_id(kind.value, *(part for message in messages for part in (message["role"], message["content"])))


def _checked(row: Mapping[str, Any], path: Path, line: int, kind: ItemKind, tally: Yield) -> Messages | None:
    """Return the messages of a row that can be trained on, else None (counted)."""
    if not isinstance(row.get("messages"), list):
        raise DataError("'messages' is missing or no list", file=path, line=line, remedy="Make the rows again")
    messages = usable_messages(row)
    reason = _reason_against(messages)
    if reason is None:
        return messages
    tally.drop(kind.value, reason)
    return None


def _reason_against(messages: Messages) -> Reason | None:
    roles = [message["role"] for message in messages]
    if "user" not in roles or "assistant" not in roles[roles.index("user") :]:
        return Reason.NO_EXCHANGE
    if any(message["role"] == "assistant" and not speech_of(message["content"]) for message in messages):
        return Reason.NO_SPEECH
    if any(find_broken_hangul(message["content"]) for message in messages if message["role"] != "system"):
        return Reason.BROKEN_HANGUL
    return None


def _count_earlier_losses(inputs: Mapping[str, Path], tally: Yield) -> None:
    """Count what the stages before left out, so that one table shows the whole yield."""
    files = (
        ("single, attempts", inputs["rows"] / "rejects.jsonl"),
        ("single, normalise", inputs["singleturn"] / "dropped.jsonl"),
        ("multi, attempts", inputs["dialogues"] / "rejects.jsonl"),
        ("multi, partial", inputs["dialogues"] / "partial.jsonl"),
        ("multi, judge", inputs["dialogues"] / "judged_out.jsonl"),
    )
    for source, path in files:
        if not path.is_file():
            continue
        for _, row in read_rows(path):
            meta = row.get("meta")
            finish = meta.get("finish") if isinstance(meta, dict) else None
            tally.drop(source, str(row.get("reason") or finish or "unknown"))
