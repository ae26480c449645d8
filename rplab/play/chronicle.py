"""What a session needs from whatever keeps its conversation: a tree of turns with a head.

`rplab.play.timeline` is the real one, on disk. The session never asks where it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rplab.play.history import Exchange, Messages


@dataclass(frozen=True)
class OutcomeLine:
    """A sentence of speech and what became of it."""

    ko: str
    ja: str
    style: str = ""
    audio_s: float = 0.0
    """Length of its sound; 0 when there was none."""
    heard: float = 0.0
    """Share of its sound that was played, 0..1."""
    starts_s: float = 0.0
    """Where it begins in the turn's sound."""


@dataclass(frozen=True)
class TurnOutcome:
    """What became of a turn after its text was complete."""

    lines: tuple[OutcomeLine, ...] = ()
    heard_text: str | None = None
    """The reply as far as the player took it in before interrupting; None when that is all of it."""
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notices: tuple[str, ...] = ()


class Chronicle(Protocol):
    """The conversation: exchanges from the root to the head; a reply drawn again is another child of the same parent."""

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """From the root to the head, as the model sees them: a reply that was interrupted ends where it was heard."""
        ...

    @property
    def head(self) -> int | None:
        """Node of the last exchange; None at the root."""
        ...

    @property
    def attempt(self) -> int:
        """How many replies were drawn already after the head: another draw for each."""
        ...

    def compose(self, user: str, count: Callable[[Messages], int], room: int) -> Messages | None:
        """Return the prompt for a new message.

        Args:
            user: The message.
            count: Gives the tokens of messages.
            room: Most tokens of the prompt.

        Returns:
            Messages of at most `room` tokens; None when not even the message and the system text fit.
        """
        ...

    def commit(self, user: str, reply: str, *, complete: bool) -> int:
        """Add an exchange after the head, make it the head and return its node.

        Raises:
            StorageError: It is kept in memory only.
        """
        ...

    def finish(self, node: int, outcome: TurnOutcome) -> None:
        """Keep what became of a turn. Raises StorageError when it cannot be written."""
        ...

    def goto(self, node: int | None) -> None:
        """Move the head. Raises StorageError when it cannot be written."""
        ...

    def parent(self, node: int) -> int | None:
        """Return the node before."""
        ...

    def user_text(self, node: int) -> str:
        """Return the message that a node answers."""
        ...

    def close(self) -> None:
        """Let files go."""
        ...
