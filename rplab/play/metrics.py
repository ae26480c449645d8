"""What a turn cost, measured where the reader and the listener are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

GAP_S = 0.05
"""A longer silence between two sentences, beyond the wanted pause, is a gap."""


@dataclass
class TurnMetrics:
    """Times in seconds from the moment the text was sent; None where it never came so far."""

    ttft_s: float | None = None
    """First visible text."""
    ttfq_s: float | None = None
    """Opening quotation mark."""
    ttfa_s: float | None = None
    """First sound, the sink's latency included."""
    text_s: float | None = None
    """Reply complete."""
    total_s: float | None = None
    """Speech complete (played, where the sink plays)."""
    pieces: int = 0
    """Pieces of text that the model gave (about tokens)."""
    prefill_new: int | None = None
    """Tokens of the prompt that had to be read."""
    prefill_cached: int | None = None
    """Tokens of the prompt that were there from before."""
    translate_s: list[float] = field(default_factory=list[float])
    """Each call of the translator."""
    synth_s: float = 0.0
    """Spent in the voice."""
    first_chunk_s: list[float] = field(default_factory=list[float])
    """Of each sentence: from the request until its first piece of sound."""
    rtfs: list[float] = field(default_factory=list[float])
    """Of each sentence: seconds in the voice for a second of sound."""
    audio_s: float = 0.0
    """Length of the speech, pauses included."""
    gaps: int = 0
    gap_s: float = 0.0
    underruns: int = 0
    heard_ratio: float | None = None
    """Share of the speech that was played."""
    max_waiting: int = 0
    """Most sentences that waited for the translator."""
    cancelled: bool = False
    cancel_s: float | None = None
    """From the interruption to silence: the call, the fade, and what the device still holds."""
    worker_restarts: int = 0
    """How often the voice process was replaced."""

    @property
    def q2a_s(self) -> float | None:
        """From the opening quotation mark to the first sound."""
        return None if self.ttfa_s is None or self.ttfq_s is None else self.ttfa_s - self.ttfq_s

    @property
    def pieces_per_s(self) -> float | None:
        """Speed of the reply after its first piece."""
        if self.text_s is None or self.ttft_s is None or self.pieces < 2 or self.text_s <= self.ttft_s:
            return None
        return (self.pieces - 1) / (self.text_s - self.ttft_s)

    def as_json(self) -> dict[str, Any]:
        """Return everything, rounded to a tenth of a millisecond, with the derived numbers."""
        values = {**asdict(self), "q2a_s": self.q2a_s, "pieces_per_s": self.pieces_per_s}
        if self.audio_s:
            values["rtf"] = self.synth_s / self.audio_s
        return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def percentile(values: list[float], share: float) -> float | None:
    """Return the value below which `share` (0..1) of the values lie; None without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] if ordered else None
