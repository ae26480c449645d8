"""One conversation in the forms of other tools, and back: ShareGPT, messages, ChatML text.

Pure functions over one conversation. Unknown roles and texts that are no text are errors of that conversation, never
guessed at. SillyTavern chats, which are whole files, are in `rplab.dataset.sillytavern`.

To add a format: write `from_<name>` and `to_<name>` here and name it in `rplab.dataset.chat_files`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rplab.errors import DataError
from rplab.text.quotes import is_visible

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("human", "user", "prompter", "player"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bot", "model", "char", "character"), "assistant"),
}
"""Their roles -> ours, lower case."""
_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}
_CHATML = re.compile(r"<\|im_start\|>(?P<role>[^\n<|]{1,32})\n(?P<content>.*?)(?:<\|im_end\|>\n?|\Z)", re.DOTALL)
_MARKS = ("<|im_start|>", "<|im_end|>")


def to_sharegpt(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return messages as `{from, value}` with system, human and gpt."""
    return [{"from": _SHAREGPT[message["role"]], "value": message["content"]} for message in messages]


def from_sharegpt(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the messages of a ShareGPT row (`conversations`; a `system` column becomes the first turn).

    Raises:
        DataError: A turn is no object, its role is not known, or its text is no text.
    """
    turns = row.get("conversations", row.get("conversation"))
    if not isinstance(turns, list):
        raise DataError("'conversations' is no list")
    system = row.get("system")
    head = [{"role": "system", "content": system}] if isinstance(system, str) and is_visible(system) else []
    return [*head, *(_message(turn, ("from", "role"), ("value", "content", "text")) for turn in turns)]


def from_messages(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the messages of a `{messages}` row.

    Raises:
        DataError: As `from_sharegpt`.
    """
    turns = row.get("messages")
    if not isinstance(turns, list):
        raise DataError("'messages' is no list")
    return [_message(turn, ("role",), ("content",)) for turn in turns]


def from_chatml(row: Mapping[str, Any]) -> list[dict[str, str]]:
    r"""Return the messages of a row whose `text` is ChatML.

    >>> from_chatml({"text": "<|im_start|>user\n안녕<|im_end|>\n"})
    [{'role': 'user', 'content': '안녕'}]

    Raises:
        DataError: Something stands outside the marks, or a role is not known.
    """
    text = row.get("text")
    if not isinstance(text, str) or _MARKS[0] not in text:
        raise DataError("'text' is no ChatML (no <|im_start|>)")
    if is_visible(_CHATML.sub("", text)):
        raise DataError("text outside the ChatML marks")
    return [{"role": _role(match["role"]), "content": match["content"].strip("\n")} for match in _CHATML.finditer(text)]


def to_chatml(messages: Sequence[Mapping[str, str]]) -> str:
    """Return messages as ChatML text.

    Raises:
        DataError: A text holds a ChatML mark, which would forge a turn.
    """
    if any(mark in message["content"] for message in messages for mark in _MARKS):
        raise DataError("a turn holds <|im_start|> or <|im_end|>", remedy="Delete the mark, or export as sharegpt or messages")
    return "".join(f"{_MARKS[0]}{message['role']}\n{message['content']}{_MARKS[1]}\n" for message in messages)


def _message(turn: Any, role_keys: Sequence[str], text_keys: Sequence[str]) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise DataError(f"a turn is a {type(turn).__name__}, not an object")
    role = next((turn[key] for key in role_keys if key in turn), None)
    text = next((turn[key] for key in text_keys if key in turn), None)
    if not isinstance(text, str):
        raise DataError(f"the text of a turn is {'missing' if text is None else f'a {type(text).__name__}'}")
    return {"role": _role(role), "content": text}


def _role(role: Any) -> str:
    known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise DataError(f"unknown role {str(role)[:40]!r}")
    return known
