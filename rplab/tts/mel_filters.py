"""Slaney mel filters, in numpy: shared by training (torch) and everything that must not load torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LINEAR_HZ = 200.0 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


def mel_filters(sample_rate: int, fft_size: int, num_mels: int) -> NDArray[np.float32]:
    """Return triangular mel filters (num_mels, fft_size // 2 + 1) of equal area, Slaney's scale, 0 to half the rate."""
    top = _KNEE_MEL + np.log(sample_rate / 2 / _KNEE_HZ) / _LOG_STEP if sample_rate / 2 > _KNEE_HZ else sample_rate / 2 / _LINEAR_HZ
    mels = np.linspace(0.0, top, num_mels + 2)
    edges = np.where(mels < _KNEE_MEL, mels * _LINEAR_HZ, _KNEE_HZ * np.exp(_LOG_STEP * (mels - _KNEE_MEL)))
    bins = np.linspace(0.0, sample_rate / 2, fft_size // 2 + 1)
    rising = (bins[None, :] - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins[None, :]) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
