"""Spectrograms as this model family takes them: linear magnitude for the posterior, log mel for the loss.

STFT with a Hann window of the FFT's length, reflection by (fft - hop) / 2 at both ends instead of centring, magnitude
`sqrt(re^2 + im^2 + 1e-6)`; 128 Slaney mel bands up to half the rate, `log(max(x, 1e-5))` (spec/tts.md, section B).
"""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from rplab.tts.mel_filters import mel_filters
from rplab.tts.model.hyper import AudioFormat


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


def mel_difference(made: Tensor, real: Tensor, audio_format: AudioFormat, fft_size: int) -> Tensor:
    """Return the mean absolute difference of log mel bands at another FFT size (hop a quarter of it); both (B, samples)."""
    other = replace(audio_format, fft_size=fft_size, hop_length=fft_size // 4, num_mels=max(8, min(audio_format.num_mels, fft_size // 8)))
    return (mel_of(made, other) - mel_of(real, other)).abs().mean()
