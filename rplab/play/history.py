"""What was said so far, and how much of it the model sees again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Messages = list[Mapping[str, str]]


@dataclass(frozen=True)
class Exchange:
    """One user message and the reply to it."""

    user: str
    reply: str
    """As it was shown, without tags and labels."""


def window(exchanges: Sequence[Exchange], max_turns: int) -> Sequence[Exchange]:
    """Return the latest exchanges, at most `max_turns` of them.

    The oldest third goes at once: a window that slides by one exchange changes the start of every prompt, and nothing of
    the model's cache could be used again.

    Example:
        >>> len(window([Exchange("a", "b")] * 7, 6)), len(window([Exchange("a", "b")] * 8, 6))
        (5, 6)
    """
    over = len(exchanges) - max_turns
    if over <= 0:
        return exchanges
    block = max(1, max_turns // 3)
    return exchanges[-(-over // block) * block :]


def build_messages(system: str, exchanges: Sequence[Exchange], user: str) -> Messages:
    """Return the chat messages of a prompt: system text first, the new user message last."""
    messages: Messages = [{"role": "system", "content": system}] if system else []
    for exchange in exchanges:
        messages += [{"role": "user", "content": exchange.user}, {"role": "assistant", "content": exchange.reply}]
    return [*messages, {"role": "user", "content": user}]


def fit_messages(
    system: str, exchanges: Sequence[Exchange], user: str, *, max_turns: int, fits: Callable[[Messages], bool]
) -> tuple[Messages, int] | None:
    """Return the longest prompt that fits and the number of exchanges left out; None when not even the message alone fits.

    The system text and the new message are never cut.
    """
    kept = list(window(exchanges, max_turns))
    while True:
        messages = build_messages(system, kept, user)
        if fits(messages):
            return messages, len(exchanges) - len(kept)
        if not kept:
            return None
        kept = kept[max(1, len(kept) // 3) :]
