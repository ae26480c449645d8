"""Mel-cepstral distance: how far a made sentence is from a recording, time differences taken out by DTW."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

NUM_CEPSTRA = 13
_SCALE = 10.0 / math.log(10.0) * math.sqrt(2.0)
"""The usual definition: 10 / ln 10 x sqrt(2 x sum of squared differences), with ln |H| = sum of c_m cos(m w)."""


def cepstra(log_mel: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return cepstra 1 to 13 (frames, 13) of natural-log mel bands (bands, frames); 0, the level, is left out."""
    bands = log_mel.shape[0]
    orders = np.arange(1, NUM_CEPSTRA + 1)[:, None]
    basis = np.cos(np.pi / bands * (np.arange(bands)[None, :] + 0.5) * orders) * 2.0 / bands
    return (basis @ log_mel.astype(np.float64)).T


def mel_cepstral_distance(made: NDArray[np.floating], real: NDArray[np.floating]) -> float:
    """Return the mean distance in dB along the best alignment of two log mel spectrograms (bands, frames).

    Numbers are comparable only between equal mel settings.
    """
    a, b = cepstra(made), cepstra(real)
    distances = np.sqrt(((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)) * _SCALE
    return _align_mean(distances)


def _align_mean(distances: NDArray[np.float64]) -> float:
    """Return the mean cost along the cheapest monotonic path, counted diagonal by diagonal (vectorised DTW)."""
    rows, columns = distances.shape
    cost = np.full((rows + 1, columns + 1), np.inf)
    steps = np.zeros((rows + 1, columns + 1))
    cost[0, 0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        options = np.stack([cost[i - 1, j - 1], cost[i - 1, j], cost[i, j - 1]])
        counts = np.stack([steps[i - 1, j - 1], steps[i - 1, j], steps[i, j - 1]])
        best = options.argmin(axis=0)
        across = np.arange(len(i))
        cost[i, j] = options[best, across] + distances[i - 1, j - 1]
        steps[i, j] = counts[best, across] + 1
    return float(cost[rows, columns] / steps[rows, columns])
