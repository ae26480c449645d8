"""What was said, as a prompt is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Messages = list[Mapping[str, str]]


@dataclass(frozen=True)
class Exchange:
    """One user message and the reply to it."""

    user: str
    reply: str
    """As the model sees it: as it was shown, or as far as it was heard."""


def build_messages(system: str, exchanges: Sequence[Exchange], user: str) -> Messages:
    """Return the chat messages of a plain prompt: system text first, the new user message last."""
    messages: Messages = [{"role": "system", "content": system}] if system else []
    for exchange in exchanges:
        messages += [{"role": "user", "content": exchange.user}, {"role": "assistant", "content": exchange.reply}]
    return [*messages, {"role": "user", "content": user}]
