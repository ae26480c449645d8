"""Changing the rate of a signal with a windowed sinc, in plain numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rplab.tts.engine import Samples

_LOBES = 16
_BLOCK = 65_536


def resample(samples: NDArray[np.floating], ratio: float) -> Samples:
    """Return `samples` with `ratio` times as many of them; what lies above the new half rate is filtered out.

    Args:
        samples: Mono, shape (n,).
        ratio: New rate / old rate, 0.05 to 20.

    Returns:
        Shape (round(n * ratio),), float32.
    """
    if not 0.05 <= ratio <= 20:
        raise ValueError(f"ratio must be 0.05..20, not {ratio}")
    count = round(len(samples) * ratio)
    if ratio == 1.0 or not count:
        return samples[:count].astype(np.float32)
    cutoff = min(1.0, ratio) * 0.97
    reach = int(np.ceil(_LOBES / cutoff))
    padded = np.pad(samples.astype(np.float64), reach + 1)
    offsets = np.arange(-reach, reach + 2)
    out = np.empty(count, dtype=np.float32)
    for start in range(0, count, _BLOCK):
        positions = np.arange(start, min(count, start + _BLOCK)) / ratio
        whole = np.floor(positions).astype(np.int64)
        distance = offsets[None, :] - (positions - whole)[:, None]
        window = np.where(np.abs(distance) < reach + 1, np.cos(np.pi / 2 * distance / (reach + 1)) ** 2, 0.0)
        weights = np.sinc(distance * cutoff) * cutoff * window
        values = padded[whole[:, None] + offsets[None, :] + reach + 1]
        out[start : start + len(positions)] = np.einsum("ij,ij->i", weights, values)
    return out
