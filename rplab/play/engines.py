"""What a session needs from its engines. The wiring in `rplab.cli.play` brings them in; tests bring their own.

To add an engine: implement the protocol; the session catches whatever it raises and goes on in text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rplab.play.audio import AudioSink
from rplab.play.config import ReplySampling
from rplab.tts.engine import VoiceEngine


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


@dataclass(frozen=True)
class Engines:
    """Who does the work. Without translator or voice a session is text only."""

    model: ReplyModel
    translator: TranslatorEngine | None = None
    voice: VoiceEngine | None = None
    sink: AudioSink | None = None
