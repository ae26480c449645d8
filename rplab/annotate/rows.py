"""Conversations as these stages read them: `{messages}` rows with an id that follows from their content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.errors import DataError
from rplab.jsonl import canonical, read_rows
from rplab.seeding import content_id

_ROLES = frozenset({"system", "user", "assistant"})


@dataclass(frozen=True)
class Conversation:
    """One row."""

    line: int
    """Of the file, 1-based."""
    id: str
    """A pure function of the messages: the same conversation has it in every file."""
    row: dict[str, Any]
    messages: Sequence[dict[str, str]]

    def texts(self, role: str) -> list[str]:
        """Return the turns of a role."""
        return [message["content"] for message in self.messages if message["role"] == role]


def read_conversations(path: Path) -> list[Conversation]:
    """Read a `{messages}` file strictly.

    Raises:
        DataError: A row without messages, or with a turn that has no role or text (file and line); an empty file.
    """
    found: list[Conversation] = []
    for line, row in read_rows(path):
        messages = row.get("messages")
        if not isinstance(messages, list) or not messages or not all(_is_message(item) for item in messages):
            raise DataError(
                "messages with role (system, user, assistant) and content are needed",
                file=path,
                line=line,
                remedy="Convert the file first: rplab data convert, or rplab data import-chats",
            )
        found.append(Conversation(line, content_id("row", canonical(messages)), row, messages))
    if not found:
        raise DataError("holds no rows", file=path, remedy="Name a {messages} file")
    return found


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and item.get("role") in _ROLES and isinstance(item.get("content"), str)
