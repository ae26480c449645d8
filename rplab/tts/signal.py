"""Small signal processing for speech: level, edges, pauses. Pure numpy, mono float32 within -1..1.

A voice gets one fixed gain, so that a quiet sentence stays quieter than a loud one; the predecessor scaled every
sentence to full scale (a whisper as loud as a shout, and silence divided by zero). Peaks are bent, never clipped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rplab.tts.engine import Samples

CEILING = 0.891
"""Highest sample that leaves the engine: -1 dBFS of headroom for resampling and codecs."""
_KNEE = 0.6
"""Below this level a sample passes unchanged."""


def limit_peaks(samples: NDArray[np.floating]) -> Samples:
    """Return `samples` with everything above the knee bent smoothly below `CEILING`; not-a-number becomes silence."""
    limited = samples.astype(np.float32)
    loud = np.flatnonzero(~(np.abs(limited) <= _KNEE))  # not-a-number compares with nothing
    if loud.size:
        clean = np.nan_to_num(samples[loud].astype(np.float64), nan=0.0, posinf=CEILING, neginf=-CEILING)
        span, excess = CEILING - _KNEE, np.abs(clean) - _KNEE
        limited[loud] = np.where(excess <= 0, clean, np.sign(clean) * (_KNEE + span * np.tanh(excess / span)))
    return limited


def trim_edges(samples: Samples, rate_hz: int, *, threshold: float = 0.004, margin_s: float = 0.012) -> Samples:
    """Cut silence from both ends, keep `margin_s` around the sound and fade the cuts; all silence gives no samples.

    Args:
        samples: Mono.
        rate_hz: Frames per second.
        threshold: Level that counts as sound (0.004 = -48 dBFS).
        margin_s: Seconds kept before the first and after the last sound.
    """
    loud = np.flatnonzero(np.abs(samples) > threshold)
    if not loud.size:
        return samples[:0]
    margin = round(margin_s * rate_hz)
    first, last = max(0, int(loud[0]) - margin), min(len(samples), int(loud[-1]) + margin + 1)
    return fade_edges(samples[first:last], rate_hz)


def fade_edges(samples: Samples, rate_hz: int, *, fade_s: float = 0.005) -> Samples:
    """Return a copy whose first and last `fade_s` seconds rise from and fall to zero, so that no cut clicks."""
    faded = samples.copy()
    count = min(round(fade_s * rate_hz), len(samples) // 2)
    if count:
        ramp = np.linspace(0.0, 1.0, count, dtype=np.float32)
        faded[:count] *= ramp
        faded[-count:] *= ramp[::-1]
    return faded


def silence(seconds: float, rate_hz: int) -> Samples:
    """Return `seconds` of nothing."""
    return np.zeros(max(0, round(seconds * rate_hz)), dtype=np.float32)


def rms_dbfs(samples: NDArray[np.floating]) -> float:
    """Return the level of `samples` in dB relative to full scale; -120 for silence or no samples."""
    if not len(samples):
        return -120.0
    power = float(np.mean(np.square(samples.astype(np.float64, copy=False))))
    return max(-120.0, 10.0 * float(np.log10(power))) if power > 0 else -120.0
