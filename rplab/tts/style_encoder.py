"""Style vectors from a speaker network: an ONNX graph with the signature of WeSpeaker's ResNet34 (the family's encoder).

The graph takes Kaldi filter banks (B, T, 80) and gives (B, 256). Weights are not shipped. What is verified here: the
filter banks follow Kaldi's definition, and any graph of that signature runs; that was tested with random weights only.
Nobody has compared the vectors with those of pyannote's WeSpeaker checkpoint yet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rplab.errors import ModelError
from rplab.tts.engine import Samples
from rplab.tts.resample import resample
from rplab.tts.session import Graph
from rplab.tts.symbols import STYLE_CHANNELS

_HZ = 16_000
_FRAME = 400
_HOP = 160
_FFT = 512
_BANDS = 80
_LOWEST_HZ = 20.0
_PREEMPHASIS = 0.97
_EPSILON = float(np.finfo(np.float32).eps)
_LEAST_FRAMES = 32
"""Shorter clips are repeated: the network halves the time axis three times."""


class OnnxStyleEncoder:
    """A speaker network that gives style vectors."""

    def __init__(self, path: Path) -> None:
        """Load the graph and try it.

        Raises:
            ModelError: Missing, broken, or of another signature.
        """
        self._graph = Graph(path, threads=1)
        self.name = f"onnx/{path.name}"
        names = sorted(self._graph.input_names)
        remedy = "Export WeSpeaker's ResNet34 to ONNX: one input (B, T, 80), one output (B, 256)"
        if len(names) != 1:
            raise ModelError(f"{path}: a style encoder has one input, this has {', '.join(names)}. {remedy}")
        self._input = names[0]
        try:
            shape = self._run(np.zeros((200, _BANDS), dtype=np.float32)).shape
        except Exception as error:  # onnxruntime's exceptions have no common public base
            raise ModelError(f"{path}: does not take (1, T, 80) filter banks ({str(error)[:160]}). {remedy}") from error
        if shape != (STYLE_CHANNELS,):
            raise ModelError(f"{path}: gives {shape} for a clip, not ({STYLE_CHANNELS},). {remedy}")

    def __call__(self, samples: Samples, rate_hz: int) -> NDArray[np.float32]:
        """Return the (256,) style vector of a clip: the network on its filter banks less their mean over time."""
        banks = kaldi_fbank(samples if rate_hz == _HZ else resample(samples, _HZ / rate_hz))
        return self._run(banks - banks.mean(axis=0))

    def _run(self, banks: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._graph.run({self._input: banks[None]})[0].squeeze(0)


def kaldi_fbank(samples: Samples) -> NDArray[np.float32]:
    """Return the log mel filter banks (frames, 80) of mono samples within -1..1 at 16 kHz, as Kaldi computes them.

    25 ms every 10 ms (edges snipped), 16-bit scale, mean removed and pre-emphasis 0.97 in each frame, Hamming window, power
    spectrum of 512 points, triangles on the mel scale 1127 ln(1 + f / 700) from 20 Hz to 8 kHz, natural logarithm; no dither.
    """
    shortest = _FRAME + (_LEAST_FRAMES - 1) * _HOP
    sound = np.asarray(samples, dtype=np.float64) * 32768.0
    if len(sound) < shortest:
        sound = np.resize(sound, shortest) if len(sound) else np.zeros(shortest)
    frames = np.lib.stride_tricks.sliding_window_view(sound, _FRAME)[::_HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.square(np.abs(np.fft.rfft((frames - _PREEMPHASIS * before) * np.hamming(_FRAME), _FFT, axis=1)))
    return np.log(np.maximum(power @ _triangles().T, _EPSILON)).astype(np.float32)


def _mel(hertz: NDArray[np.floating]) -> NDArray[np.float64]:
    return 1127.0 * np.log1p(hertz / 700.0)


def _triangles() -> NDArray[np.float64]:
    """Return (80, 257) filters; Kaldi's triangles are straight in mel, not in Hz, and leave out the bin at half the rate."""
    low, high = _mel(np.array([_LOWEST_HZ, _HZ / 2]))
    edges = np.linspace(low, high, _BANDS + 2)
    bins = _mel(np.arange(_FFT // 2 + 1) * (_HZ / _FFT))
    step = edges[1] - edges[0]
    weights = np.maximum(0.0, np.minimum((bins - edges[:-2, None]) / step, (edges[2:, None] - bins) / step))
    weights[:, -1] = 0.0
    return weights
