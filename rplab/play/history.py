"""What was said, as a prompt is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Messages = list[Mapping[str, str]]


@dataclass(frozen=True)
class Exchange:
    """One user message and the reply to it."""

    user: str
    reply: str
    """As the model sees it: as it was shown, or as far as it was heard."""
