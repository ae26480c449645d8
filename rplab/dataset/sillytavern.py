"""SillyTavern chats: one `.jsonl` file is one chat, its first line names the two who talk.

Header `{user_name, character_name, create_date, chat_metadata}`, then `{name, is_user, is_system, send_date, mes}` a
line. Hidden lines (`is_system`) are no part of the talk; they are counted. The names go to `meta`, where every later
stage looks for them; in the texts the macros {{user}} and {{char}} become names. Lines that we exported carry a mark, so
that an export comes back exactly: system turns, macros and all; lines that were added since are read like any others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rplab.dataset.counts import RowCounts
from rplab.dataset.names import person_name
from rplab.errors import DataError
from rplab.text.korean import fill_placeholder

_USER, _CHAR = re.compile(r"\{\{user\}\}", re.IGNORECASE), re.compile(r"\{\{char\}\}", re.IGNORECASE)
OURS = "rplab"
"""Name of our marks in `chat_metadata` and `extra`, which SillyTavern keeps."""
_DATE = "2026-01-01T00:00:00.000Z"
"""Written into exports: SillyTavern wants a date, and equal rows must give equal bytes."""


def is_header(row: Mapping[str, Any]) -> bool:
    """Return whether a row is the first line of a SillyTavern chat."""
    return isinstance(row.get("user_name"), str) and isinstance(row.get("character_name"), str) and "mes" not in row


def is_line(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a line of a SillyTavern chat."""
    return "mes" in row and "is_user" in row


def from_chat(rows: Sequence[tuple[int, Mapping[str, Any]]], source: Path, counts: RowCounts) -> dict[str, Any]:
    """Return the `{messages, meta}` row of a chat.

    Args:
        rows: Numbered lines of the file, the header first (chats without one are read, too).
        source: The file, for messages.
        counts: Receives the hidden lines.

    Raises:
        DataError: A line without text.
    """
    header = rows[0][1] if rows and is_header(rows[0][1]) else {}
    lines = rows[1:] if header else rows
    player = person_name(header.get("user_name")) or _speaker(lines, is_user=True)
    character = person_name(header.get("character_name")) or _speaker(lines, is_user=False)
    messages: list[dict[str, str]] = []
    for number, row in lines:
        text = row.get("mes")
        if not isinstance(text, str):
            raise DataError("'mes' is missing or no text", file=source, line=number, remedy="Repair or delete this line")
        if (role := _marked_role(row)) is not None:
            messages.append({"role": role, "content": text})
            continue
        if row.get("is_system") is True:
            counts.notes["hidden_lines"] += 1
            continue
        text = fill_placeholder(text, _USER, player) if player else text
        text = fill_placeholder(text, _CHAR, character) if character else text
        messages.append({"role": "user" if row.get("is_user") is True else "assistant", "content": text})
    meta: Any = {name: value for name, value in (("protagonist", character), ("player", player)) if value}
    metadata = header.get("chat_metadata")
    ours = metadata.get(OURS) if isinstance(metadata, dict) else None
    if isinstance(ours, dict) and (ours.get("meta") is None or isinstance(ours["meta"], dict)):
        meta = ours.get("meta")
    return {"messages": messages, **({"meta": meta} if meta else {})}


def _marked_role(row: Mapping[str, Any]) -> str | None:
    """Return the role that an exported line had, or None for any other line."""
    extra = row.get("extra")
    role = extra.get(OURS) if isinstance(extra, dict) else None
    return role if role in ("system", "user", "assistant") else None


def _speaker(lines: Sequence[tuple[int, Mapping[str, Any]]], *, is_user: bool) -> str | None:
    return next((person_name(row.get("name")) for _, row in lines if (row.get("is_user") is True) is is_user), None)


def to_chat(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of a SillyTavern chat; system turns become hidden lines."""
    meta: Any = row.get("meta") if isinstance(row.get("meta"), dict) else None
    fields: Mapping[str, Any] = meta if isinstance(meta, dict) else {}
    player, character = person_name(fields.get("player")) or "User", person_name(fields.get("protagonist")) or "Character"
    lines: list[dict[str, Any]] = [
        {"user_name": player, "character_name": character, "create_date": _DATE, "chat_metadata": {OURS: {"meta": meta}}}
    ]
    for message in row["messages"]:
        is_user = message["role"] == "user"
        lines.append(
            {
                "name": "System" if message["role"] == "system" else player if is_user else character,
                "is_user": is_user,
                "is_system": message["role"] == "system",
                "send_date": _DATE,
                "mes": message["content"],
                "extra": {OURS: message["role"]},
            }
        )
    return lines
