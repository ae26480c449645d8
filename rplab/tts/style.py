"""Style vectors: 256 numbers that say how a clip sounds; index 0 of a voice is the mean of all its clips.

The official family uses a WeSpeaker network whose weights are not shipped here. The built-in encoder needs no weights:
mean and deviation over time of 128 log mel bands, centred and scaled, so that louder, brighter or livelier clips lie
apart. It is right for voices trained with it from the start; a fine-tune of an official base learns it anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rplab.tts.engine import Samples
from rplab.tts.mel_filters import mel_filters
from rplab.tts.symbols import STYLE_CHANNELS

_FFT = 1024
_HOP = 256
_BANDS = STYLE_CHANNELS // 2
_CENTRE = -6.0
_SCALE = 0.05
NEUTRAL = "Neutral"


def style_vector(samples: Samples, rate_hz: int) -> NDArray[np.float32]:
    """Return the (256,) style vector of a clip."""
    padded = np.pad(samples.astype(np.float32), (0, max(0, _FFT - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP] * np.hanning(_FFT).astype(np.float32)
    magnitude = np.abs(np.fft.rfft(frames, axis=1)).astype(np.float32)
    bands = np.log(magnitude @ mel_filters(rate_hz, _FFT, _BANDS).T + 1e-4)
    vector = np.concatenate([bands.mean(axis=0) - _CENTRE, bands.std(axis=0) - 1.0]) * _SCALE
    return vector.astype(np.float32)


def voice_styles(vectors: Mapping[str, Sequence[NDArray[np.float32]]]) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Return style names and their vectors for clips grouped by style.

    The mean of all is `Neutral`; with two or more groups each becomes a style of its own.
    """
    everything = np.stack([vector for group in vectors.values() for vector in group])
    names, rows = {NEUTRAL: 0}, [everything.mean(axis=0)]
    if len(vectors) > 1:
        for name in sorted(vectors):
            if name != NEUTRAL:
                names[name] = len(rows)
                rows.append(np.mean(vectors[name], axis=0))
    return names, np.stack(rows).astype(np.float32)
