"""Posterior encoder: what a recording says about the latent frames (training only)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rplab.tts.model.hyper import VoiceSize
from rplab.tts.model.layers import Conv1d, NormConv1d, channels_last

_KERNEL = 5


class GatedStack(nn.Module):
    """WaveNet-like stack of gated convolutions with skip connections, conditioned on the speaker."""

    def __init__(self, channels: int, num_layers: int, speaker_channels: int) -> None:
        super().__init__()
        self.channels, self.num_layers = channels, num_layers
        self.in_layers = nn.ModuleList(NormConv1d(channels, 2 * channels, _KERNEL, padding=_KERNEL // 2) for _ in range(num_layers))
        self.res_skip_layers = nn.ModuleList(
            NormConv1d(channels, 2 * channels if index + 1 < num_layers else channels, 1) for index in range(num_layers)
        )
        self.cond_layer = NormConv1d(speaker_channels, 2 * channels * num_layers, 1)

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """Transform (B, C, S)."""
        conditions = self.cond_layer(speaker).chunk(self.num_layers, dim=1)
        if self.training:
            x, mask = channels_last(x), mask.to(x.dtype)
        skipped = torch.zeros_like(x)
        for index, (gate, out) in enumerate(zip(self.in_layers, self.res_skip_layers, strict=True)):
            left, right = (gate(x) + conditions[index]).chunk(2, dim=1)
            y = out(torch.tanh(left) * torch.sigmoid(right))
            if index + 1 < self.num_layers:
                residual, skip = y.chunk(2, dim=1)
                x = (x + residual) * mask
                skipped = skipped + skip
            else:
                skipped = skipped + y
        return skipped * mask


class PosteriorEncoder(nn.Module):
    """Spectrogram -> mean and log deviation of the latent frames."""

    def __init__(self, size: VoiceSize) -> None:
        super().__init__()
        self.pre = Conv1d(size.audio.num_bins, size.hidden_channels, 1)
        self.enc = GatedStack(size.hidden_channels, size.posterior_layers, size.speaker_channels)
        self.proj = Conv1d(size.hidden_channels, 2 * size.inter_channels, 1)

    def forward(self, spectrogram: Tensor, mask: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, bins, S); return mean and log deviation, each (B, C, S)."""
        x = self.enc(self.pre(spectrogram) * mask, mask, speaker)
        mean, log_deviation = (self.proj(x) * mask).chunk(2, dim=1)
        return mean, log_deviation
