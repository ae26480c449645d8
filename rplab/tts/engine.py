"""The protocol of a voice: Japanese text in, mono samples out.

Play, the command line and the servers speak through this and never learn which engine is behind it. The embedded
engine is `rplab.tts.openjtalk`.

To add a voice engine: implement `VoiceEngine`, add its name to `VoiceConfig.engine`, and build it in
`rplab.tts.open`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
"""Mono audio, shape (frames,), within -1..1."""


class VoiceEngine(Protocol):
    """Turns Japanese text into sound. One call at a time; calls may come from any thread."""

    @property
    def name(self) -> str:
        """Engine and voice, for people and for metrics, for example `openjtalk/mei_normal`."""
        ...

    @property
    def sample_rate(self) -> int:
        """Frames per second (Hz), fixed for the life of the engine."""
        ...

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the speaking styles; empty for a voice that has none."""
        ...

    def synthesise(self, text: str, *, speed: float = 1.0, pitch: float = 0.0, style: str = "") -> Samples:
        """Speak a whole text.

        Args:
            text: Japanese, any length; it is normalised and cut into sentences here.
            speed: Rate of speech, 0.5 to 2.0; 1.0 is the voice's own.
            pitch: Shift in semitones, -12 to 12.
            style: Name of a speaking style; empty is the voice's own.

        Returns:
            Samples of shape (frames,), float32, peak below 1.

        Raises:
            AudioError: The text cannot be spoken (Korean, or nothing readable in it), or the engine failed.
        """
        ...

    def stream(self, text: str, *, speed: float = 1.0, pitch: float = 0.0, style: str = "") -> Iterator[Samples]:
        """Speak piece by piece; the pieces put together equal what `synthesise` returns. Raises as `synthesise`."""
        ...

    def close(self) -> None:
        """Free what the engine holds. Calling it twice is fine."""
        ...
