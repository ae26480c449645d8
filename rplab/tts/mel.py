"""Spectrograms as this model family takes them: linear magnitude for the posterior, log mel for the loss.

STFT with a Hann window of the FFT's length, reflection by (fft - hop) / 2 at both ends instead of centring, magnitude
`sqrt(re^2 + im^2 + 1e-6)`; 128 Slaney mel bands up to half the rate, `log(max(x, 1e-5))` (spec/tts.md, section B).
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from rplab.tts.model.hyper import AudioFormat

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


@functools.lru_cache(maxsize=4)
def _filters(sample_rate: int, fft_size: int, num_mels: int, device: torch.device) -> Tensor:
    return torch.from_numpy(mel_filters(sample_rate, fft_size, num_mels)).to(device)


@functools.lru_cache(maxsize=4)
def _window(size: int, device: torch.device) -> Tensor:
    return torch.hann_window(size, device=device)


def spectrogram(audio: Tensor, audio_format: AudioFormat) -> Tensor:
    """Return the linear magnitude (B, bins, samples // hop) of audio (B, samples) within -1..1."""
    size, hop = audio_format.fft_size, audio_format.hop_length
    pad = (size - hop) // 2
    padded = F.pad(audio.float().unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
    spectrum = torch.stft(padded, size, hop, size, _window(size, audio.device), center=False, return_complex=True)
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-6)


def log_mel(magnitude: Tensor, audio_format: AudioFormat) -> Tensor:
    """Return the log mel bands (B, mels, S) of a linear magnitude (B, bins, S)."""
    filters = _filters(audio_format.sample_rate, audio_format.fft_size, audio_format.num_mels, magnitude.device)
    return torch.log((filters @ magnitude).clamp_min(1e-5))


def mel_of(audio: Tensor, audio_format: AudioFormat) -> Tensor:
    """Return the log mel bands (B, mels, S) of audio (B, samples)."""
    return log_mel(spectrogram(audio, audio_format), audio_format)
