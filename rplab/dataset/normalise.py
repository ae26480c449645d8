"""Clean message rows: one narration part and one line of speech per reply, nothing lost, and idempotent.

Per row, in this order: roles in lower case; `{{user}}` becomes the player's name with its particles fitted; stars go
(a star between digits becomes a multiplication sign); speaker labels go; every assistant turn becomes
`narration` + line break + `"speech"`. Narration lines are folded together, so are several speeches. Rows in which a
reply has nothing to say are dropped with a reason. Unlike the predecessor's tool no middle line is lost, no narration
is quoted, and clock times, URLs and colons stay.

A reply is normalised again until it no longer changes, so a second run of the tool changes nothing (property test).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from rplab.dataset.config import NormaliseConfig
from rplab.dataset.convert import convert_row
from rplab.dataset.counts import RowCounts
from rplab.dataset.labels import Label, strip_label
from rplab.dataset.names import CAST_PLAYERS, PLAYER_WORDS, Names, find_names
from rplab.dataset.reply import normalise_reply, strip_stars
from rplab.errors import DataError
from rplab.jsonl import dumps, read_rows, write_rows, write_text
from rplab.stage import StageContext, Stats
from rplab.text.korean import compose, fill_placeholder
from rplab.text.quotes import is_visible

MESSAGES = "messages.jsonl"
DROPPED = "dropped.jsonl"
"""Rows that the stage left out: line of rows.jsonl, and reason."""

_PLACEHOLDER = re.compile(r"\{\{[ \t]*user[ \t]*\}\}|\{[ \t]*user[ \t]*\}", re.IGNORECASE)


class Dropped(StrEnum):
    """Why a row does not come out of the normaliser."""

    NO_MESSAGES = "no_messages"
    EMPTY_REPLY = "empty_reply"
    EMPTY_SPEECH = "empty_speech"
    UNSTABLE = "unstable_reply"


def normalise_row(row: Mapping[str, Any], drawn_player: str) -> dict[str, Any] | Dropped:
    """Normalise one `{messages, ...}` row; other fields are carried through unchanged.

    Args:
        row: The row.
        drawn_player: Name for `{{user}}` when the row does not say who the player is.

    Returns:
        The new row, or the reason for which it is dropped.

    Raises:
        DataError: `messages` is missing or of a wrong type (no file or line yet).
    """
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise DataError(
            "'messages' is missing" if messages is None else f"'messages' must be a list, not {type(messages).__name__}",
            remedy='Each row needs {"messages": [{"role": ..., "content": ...}, ...]}',
        )
    result = normalise_messages(messages, row.get("meta"), drawn_player)
    return result if isinstance(result, Dropped) else {**row, "messages": result}


def normalise_messages(messages: list[Any], meta: Any, drawn_player: str) -> list[dict[str, Any]] | Dropped:
    """Normalise the messages of one row (see the module's description).

    Raises:
        DataError: A message is no object, its role no string, its content no text.
    """
    turns = [_read_message(message, number) for number, message in enumerate(messages, start=1)]
    if not turns:
        return Dropped.NO_MESSAGES
    names = find_names(meta, [turn["content"] for turn in turns if turn["role"] == "system"])
    player = names.player or drawn_player
    for turn in turns:
        turn["content"] = strip_stars(fill_placeholder(compose(turn["content"]), _PLACEHOLDER, player))
    names = find_names(meta, [turn["content"] for turn in turns if turn["role"] == "system"])
    _strip_user_labels([turn for turn in turns if turn["role"] == "user"], names)
    for turn in turns:
        if turn["role"] != "assistant":
            continue
        if not is_visible(turn["content"]):
            return Dropped.EMPTY_REPLY
        reply = normalise_reply(turn["content"], names)
        if reply is None:
            return Dropped.UNSTABLE
        if reply == "":
            return Dropped.EMPTY_SPEECH
        turn["content"] = reply
    return turns


def _read_message(message: Any, number: int) -> dict[str, Any]:
    """Check one message; return a copy with a lower-case role and a string as content."""
    if not isinstance(message, dict):
        raise DataError(f"message {number} must be an object, not {type(message).__name__}", remedy='Write {"role": ..., "content": ...}')
    role = message.get("role")
    if not isinstance(role, str):
        what = "has no role" if role is None else f"has a role that is {type(role).__name__}, not text"
        raise DataError(f"message {number} {what}", remedy="Use system, user or assistant")
    content = _flatten_parts(message["content"]) if "content" in message else ""
    if content is None:
        raise DataError(
            f"content of message {number} ({role}) must be text, not {_json_type(message['content'])}", remedy="Repair or delete this row"
        )
    return {**message, "role": role.strip().lower(), "content": content}


def _flatten_parts(content: Any) -> str | None:
    """Return text content as a string, text parts joined; None for anything else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    texts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "\n".join(texts)


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "a list with something else than text parts"
    return {bool: "true/false", dict: "an object"}.get(type(value), "a number")


def _strip_user_labels(turns: list[dict[str, Any]], names: Names) -> None:
    """Take `하야토:` off the user turns when all of them carry it (a transcript); a single labelled turn among others is text."""
    known = {*names.players, *PLAYER_WORDS}
    while turns:
        stripped = [strip_label(turn["content"].lstrip(), known, only_known=True) for turn in turns]
        if any(item.label is not Label.NAME or not is_visible(item.rest) for item in stripped):
            return
        for turn, item in zip(turns, stripped, strict=True):
            turn["content"] = item.rest


def normalise_all(rows: Iterable[tuple[int, Mapping[str, Any]]], seed: int, counts: RowCounts, source: Path) -> Iterator[dict[str, Any]]:
    """Normalise numbered rows in order; one name is drawn for every row, needed or not, as the predecessor did.

    Raises:
        DataError: With file and line.
    """
    rng = random.Random(seed)
    for line, row in rows:
        drawn = rng.choice(CAST_PLAYERS)
        try:
            result = normalise_row(row, drawn)
        except DataError as error:
            raise DataError(str(error), file=source, line=line) from None
        counts.rows += 1
        if isinstance(result, Dropped):
            counts.drop(result.value, source, line)
            continue
        counts.kept += 1
        counts.notes["changed"] += result["messages"] != row["messages"]
        yield result


def normalise_file(source: Path, target: Path, seed: int = 42) -> RowCounts:
    """Normalise a `{messages}` file; `target` is replaced only when every line was good.

    Raises:
        DataError: A broken line (file, line, what, what to do); nothing is written then.
    """
    counts = RowCounts()
    write_text(target, (dumps(row) + "\n" for row in normalise_all(read_rows(source), seed, counts, source)))
    return counts


def normalise_rows(config: NormaliseConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Stage `normalise`: `rows.jsonl` of single-turn generation -> `messages.jsonl`."""
    source = inputs["rows"] / "rows.jsonl"
    counts = RowCounts()

    def converted() -> Iterator[tuple[int, dict[str, Any]]]:
        for line, row in read_rows(source):
            if line % 500 == 0:
                context.progress(line, max(line, 1), f"{line} rows")
                context.check_stop()
            yield line, convert_row(row, source, line)

    lines = (dumps(row) + "\n" for row in normalise_all(converted(), config.seed, counts, source))
    write_text(context.out / MESSAGES, lines)
    context.progress(counts.rows, counts.rows, f"{counts.kept} of {counts.rows} rows kept")
    dropped = [{**item, "file": source.name} for item in counts.dropped_rows]
    counts.dropped_rows = []
    stats: Stats = counts.as_json()
    write_rows(context.out / DROPPED, dropped)
    write_text(context.out / "report.md", _report(counts))
    return stats


def _report(counts: RowCounts) -> str:
    text = f"# Normalised rows\n\n{counts.kept} of {counts.rows} rows kept, {counts.notes['changed']} of them changed.\n"
    if counts.dropped:
        reasons = "".join(f"| {reason} | {number} |\n" for reason, number in counts.dropped.most_common())
        text += f"\n| left out because | rows |\n|---|---:|\n{reasons}"
    return text
