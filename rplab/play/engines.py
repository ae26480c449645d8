"""What a session needs from its engines. The wiring in `rplab.cli.play` brings them in; tests bring their own.

To add an engine: implement the protocol; the session catches whatever it raises and goes on in text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rplab.play.audio import AudioSink
from rplab.play.config import ReplySampling
from rplab.tts.engine import VoiceEngine


@dataclass(frozen=True)
class PromptUsage:
    """What the prompt of a reply cost."""

    new: int
    """Tokens that had to be read."""
    cached: int
    """Tokens that were there from before."""


class ReplyModel(Protocol):
    """Writes the character's reply."""

    @property
    def context_tokens(self) -> int:
        """Most tokens of prompt and reply together."""
        ...

    @property
    def usage(self) -> PromptUsage | None:
        """Of the last reply; None when it is not known."""
        ...

    def count(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Return the tokens of a prompt; an engine that cannot know gives a number that is not too small."""
        ...

    def stream(
        self, messages: Sequence[Mapping[str, str]], sampling: ReplySampling, *, seed: int, cancelled: Callable[[], bool]
    ) -> Iterator[str]:
        """Yield the reply piece by piece; stop soon after `cancelled()` turns true."""
        ...

    def prefill(self, messages: Sequence[Mapping[str, str]], *, cancelled: Callable[[], bool]) -> None:
        """Read a prompt whose beginning the next one will share, so that the next reply begins sooner. May do nothing."""
        ...


class TranslatorEngine(Protocol):
    """Korean speech to Japanese."""

    def translate(self, texts: list[str]) -> list[str]:
        """Translate each text, in order."""
        ...


@runtime_checkable
class Cancellable(Protocol):
    """A voice that can be told to drop what it is speaking."""

    def cancel(self) -> None:
        """Return at once, from any thread."""
        ...


@runtime_checkable
class Closeable(Protocol):
    """A model that holds connections."""

    def close(self) -> None:
        """Let them go. Calling it twice is fine."""
        ...


@runtime_checkable
class Supervised(Protocol):
    """A voice that is replaced when it fails."""

    @property
    def restarts(self) -> int:
        """How often that was."""
        ...

    @property
    def last_fault(self) -> str:
        """Why it was."""
        ...


@dataclass(frozen=True)
class Engines:
    """Who does the work. Without translator or voice a session is text only."""

    model: ReplyModel
    translator: TranslatorEngine | None = None
    voice: VoiceEngine | None = None
    sink: AudioSink | None = None
    reopen_sink: Callable[[], tuple[AudioSink, str]] | None = None
    """Opens a sink again when the device was taken away; returns it and a line that says what it is. Raises AudioError."""
