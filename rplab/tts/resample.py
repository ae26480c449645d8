"""Changing the rate of a signal, in plain numpy: through the spectrum, so that nothing above half the rate folds back."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from rplab.tts.engine import Samples

_MAX_DENOMINATOR = 1000
_MARGIN = 256
"""Zeros at both ends: the spectrum wraps around, the signal must not meet its other end."""


def resample(samples: NDArray[np.floating], ratio: float) -> Samples:
    """Return `samples` with `ratio` times as many of them; what lies above the new half rate is left out.

    Args:
        samples: Mono, shape (n,).
        ratio: New rate / old rate, 0.05 to 20; taken as a fraction of integers up to 1000.

    Returns:
        Shape (round(n * ratio),), float32.
    """
    if not 0.05 <= ratio <= 20:
        raise ValueError(f"ratio must be 0.05..20, not {ratio}")
    count = round(len(samples) * ratio)
    exact = Fraction(ratio).limit_denominator(_MAX_DENOMINATOR)
    if exact == 1 or not count:
        return samples[:count].astype(np.float32)
    up, down = exact.numerator, exact.denominator
    lead = -(-_MARGIN // down) * down  # a whole number of output samples
    blocks = -(-(len(samples) + lead + _MARGIN) // down)
    padded = np.zeros(blocks * down)
    padded[lead : lead + len(samples)] = samples
    spectrum = np.fft.rfft(padded)
    wanted = blocks * up // 2 + 1
    kept = spectrum[:wanted] if wanted <= len(spectrum) else np.pad(spectrum, (0, wanted - len(spectrum)))
    out = np.fft.irfft(kept, blocks * up) * (up / down)
    start = lead // down * up
    return out[start : start + count].astype(np.float32)
