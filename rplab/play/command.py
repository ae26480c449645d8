"""What a slash command is, and what all of them share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rplab.errors import ConfigError
from rplab.l10n import tr
from rplab.play.tree import Node

if TYPE_CHECKING:
    from rplab.play.conversation import Conversation


@dataclass(frozen=True)
class Command:
    """One command."""

    names: tuple[str, ...]
    """With their slash, the English one first."""
    usage: str
    """What may stand behind it."""
    explanation: str
    run: Callable[[Conversation, str], Awaitable[None]]
    choices: tuple[str, ...] = ()
    """Words that may stand behind it, for completion."""


def refuse(korean: str, english: str) -> ConfigError:
    """Return the error that tells the player why a command did nothing."""
    return ConfigError(tr(korean, english))


def number_in(argument: str, what: str) -> int:
    """Read a number. Raises ConfigError that names what is wanted."""
    if not argument.isdecimal():
        raise refuse(f"{what} 번호가 필요합니다: {argument or '(없음)'}", f"a {what} number is needed, not {argument or 'nothing'}")
    return int(argument)


def one_line(text: str, limit: int = 48) -> str:
    """Return the beginning of a text in one line."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def describe_place(path: Sequence[Node], greeting: str) -> str:
    """Return where a conversation stands: the last exchange, or the greeting."""
    if not path:
        return greeting or tr("(처음)", "(the beginning)")
    return f"[{path[-1].id}] {path[-1].user}\n{path[-1].reply}"
