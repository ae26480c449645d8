"""Losses on what a large speech model hears (WavLM): opt-in, with a model folder that the user gives.

The family's trainer counts these terms only when a duration discriminator is configured as well, which it is not by default:
the model runs in every step and its terms are thrown away (spec/tts.md, section B). Here they count: L1 between the hidden
states of both sounds, and a small discriminator on all hidden states of one sound (StyleTTS 2, arXiv 2306.07691), whose keys
and shapes are those of `WD_0.safetensors`.
"""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from rplab.errors import ModelError
from rplab.tts.model.layers import LEAKY_SLOPE, NormConv1d

logger = logging.getLogger(__name__)

RATE = 16_000
"""Samples a second that WavLM hears."""
HIDDEN_CHANNELS = 768
NUM_STATES = 13
_WIDTH = 64


class WavlmDiscriminator(nn.Module):
    """Convolutions over all hidden states of a speech model, stacked as channels."""

    def __init__(self, channels: int = HIDDEN_CHANNELS, num_states: int = NUM_STATES, width: int = _WIDTH) -> None:
        """Build; the defaults fit official `WD` files (WavLM base)."""
        super().__init__()
        self.pre = NormConv1d(channels * num_states, width, 1)
        self.convs = nn.ModuleList(
            (
                NormConv1d(width, 2 * width, 5, padding=2),
                NormConv1d(2 * width, 4 * width, 5, padding=2),
                NormConv1d(4 * width, 4 * width, 5, padding=2),
            )
        )
        self.conv_post = NormConv1d(4 * width, 1, 3, padding=1)

    def forward(self, states: Tensor) -> Tensor:
        """Judge (B, states * channels, T); return scores (B, T)."""
        x = self.pre(states)
        for conv in self.convs:
            x = F.leaky_relu(conv(x), LEAKY_SLOPE)
        return self.conv_post(x).flatten(1)


class WavlmLoss(nn.Module):
    """A frozen WavLM and its discriminator."""

    def __init__(self, folder: Path, sample_rate: int) -> None:
        """Load the model.

        Args:
            folder: Hugging Face folder of a WavLM (`microsoft/wavlm-base-plus` for the family's voices).
            sample_rate: Of the sounds that will be compared, Hz.

        Raises:
            ModelError: transformers is not installed, or the folder holds no WavLM.
        """
        super().__init__()
        self.sample_rate = sample_rate
        self.wavlm = _load(folder)
        config = self.wavlm.config
        self.judge = WavlmDiscriminator(config.hidden_size, config.num_hidden_layers + 1)

    def train(self, mode: bool = True) -> WavlmLoss:
        """Switch the discriminator; the speech model stays as it is."""
        super().train(mode)
        self.wavlm.eval()
        return self

    def generator_loss(self, real: Tensor, made: Tensor) -> Tensor:
        """Return what the generator is told: L1 of the hidden states, and how far the verdict is from real.

        Args:
            real: (B, samples) recording.
            made: (B, samples), with gradient.
        """
        with torch.no_grad():
            wanted = self._states(real)
        states = self._states(made)
        distance = (states - wanted).abs().mean()
        return distance + (1 - self.judge(states.flatten(1, 2))).square().mean()

    def judge_loss(self, real: Tensor, made: Tensor) -> Tensor:
        """Return the least-squares loss of the discriminator on both sounds (B, samples)."""
        with torch.no_grad():
            states_real, states_made = (self._states(sound).flatten(1, 2) for sound in (real, made))
        return (1 - self.judge(states_real)).square().mean() + self.judge(states_made).square().mean()

    def _states(self, audio: Tensor) -> Tensor:
        """Return the hidden states (B, states, channels, T) of (B, samples)."""
        heard = to_rate(audio.float(), self.sample_rate, RATE)
        states: tuple[Tensor, ...] = self.wavlm(heard, output_hidden_states=True).hidden_states
        return torch.stack([state.transpose(1, 2) for state in states], dim=1)


def to_rate(audio: Tensor, rate: int, wanted: int) -> Tensor:
    """Change the rate of (B, samples) through the spectrum, so that gradients pass; nothing folds back."""
    if rate == wanted:
        return audio
    ratio = Fraction(wanted, rate)
    samples = audio.shape[1] // ratio.denominator * ratio.denominator
    if not samples:
        raise ValueError(f"{audio.shape[1]} samples are too few to change {rate} Hz to {wanted} Hz")
    count = int(samples * ratio)
    spectrum = torch.fft.rfft(audio[:, :samples])
    kept = count // 2 + 1
    spectrum = spectrum[:, :kept] if kept <= spectrum.shape[1] else F.pad(spectrum, (0, kept - spectrum.shape[1]))
    return torch.fft.irfft(spectrum, n=count) * float(ratio)


def _load(folder: Path) -> Any:
    try:
        from transformers import WavLMModel  # transformers is needed by this loss only
    except ImportError:
        raise ModelError("the WavLM loss needs transformers. Install it (pip install rp-lab[train]), or leave the loss out") from None
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json. Give the folder of a WavLM model, for example microsoft/wavlm-base-plus")
    try:
        model: Any = WavLMModel.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{folder}: WavLM cannot be loaded ({error}). Fetch it again") from error
    logger.info("%s: WavLM with %d layers", folder, model.config.num_hidden_layers)
    return model.eval().requires_grad_(False)
