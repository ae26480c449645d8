"""What a session needs from its engines. The wiring in `rplab.cli.play` brings them in; tests bring their own.

To add an engine: implement the protocol; the session catches whatever it raises and goes on in text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from rplab.play.config import ReplySampling


class ReplyModel(Protocol):
    """Writes the character's reply."""

    def fits(self, messages: Sequence[Mapping[str, str]], sampling: ReplySampling) -> bool:
        """Whether prompt and reply together fit into the model's context."""
        ...

    def stream(
        self, messages: Sequence[Mapping[str, str]], sampling: ReplySampling, *, seed: int, cancelled: Callable[[], bool]
    ) -> Iterator[str]:
        """Yield the reply piece by piece; stop soon after `cancelled()` turns true."""
        ...


class TranslatorEngine(Protocol):
    """Korean speech to Japanese."""

    def translate(self, texts: list[str]) -> list[str]:
        """Translate each text, in order."""
        ...
