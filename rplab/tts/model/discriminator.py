"""Discriminators on waveforms: one over time and five over periods (HiFi-GAN); training only."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from rplab.tts.model.layers import LEAKY_SLOPE, NormConv1d, NormConv2d

PERIODS = (2, 3, 5, 7, 11)


class ScaleDiscriminator(nn.Module):
    """Grouped, strided convolutions over the plain waveform."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c16, c64, c256, c1024 = (max(16, round(channels * width)) for channels in (16, 64, 256, 1024))
        self.convs = nn.ModuleList(
            (
                NormConv1d(1, c16, 15, padding=7),
                NormConv1d(c16, c64, 41, stride=4, groups=c16 // 4, padding=20),
                NormConv1d(c64, c256, 41, stride=4, groups=c64 // 4, padding=20),
                NormConv1d(c256, c1024, 41, stride=4, groups=c256 // 4, padding=20),
                NormConv1d(c1024, c1024, 41, stride=4, groups=c1024 // 4, padding=20),
                NormConv1d(c1024, c1024, 5, padding=2),
            )
        )
        self.conv_post = NormConv1d(c1024, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judge (B, 1, samples); return scores and the features of every layer."""
        return _judge(x, self.convs, self.conv_post)


class PeriodDiscriminator(nn.Module):
    """Two-dimensional convolutions over the waveform folded at a period."""

    def __init__(self, period: int, width: float = 1.0) -> None:
        super().__init__()
        self.period = period
        channels = [1, *(max(4, round(count * width)) for count in (32, 128, 512, 1024))]
        self.convs = nn.ModuleList(
            NormConv2d(before, after, (5, 1), stride=(3, 1), padding=(2, 0)) for before, after in itertools.pairwise(channels)
        )
        self.convs.append(NormConv2d(channels[-1], channels[-1], (5, 1), stride=(1, 1), padding=(2, 0)))
        self.conv_post = NormConv2d(channels[-1], 1, (3, 1), stride=(1, 1), padding=(1, 0))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judge (B, 1, samples); return scores and the features of every layer."""
        missing = -x.shape[2] % self.period
        if missing:
            x = F.pad(x, (0, missing), "reflect")
        return _judge(x.reshape(x.shape[0], 1, -1, self.period), self.convs, self.conv_post)


def _judge(x: Tensor, convs: nn.ModuleList, last: nn.Module) -> tuple[Tensor, list[Tensor]]:
    features: list[Tensor] = []
    for conv in convs:
        x = F.leaky_relu(conv(x), LEAKY_SLOPE)
        features.append(x)
    x = last(x)
    features.append(x)
    return x.flatten(1), features


class Discriminator(nn.Module):
    """One scale and five period discriminators."""

    def __init__(self, width: float = 1.0, periods: tuple[int, ...] = PERIODS) -> None:
        """Build.

        Args:
            width: Factor on the channels; 1.0 fits official checkpoints.
            periods: Periods in samples.
        """
        super().__init__()
        self.discriminators = nn.ModuleList([ScaleDiscriminator(width), *(PeriodDiscriminator(period, width) for period in periods)])

    def forward(self, audio: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Judge (B, 1, samples) by each."""
        return [judge(audio) for judge in self.discriminators]

    def compare(self, real: Tensor, made: Tensor) -> tuple[list[tuple[Tensor, list[Tensor]]], list[tuple[Tensor, list[Tensor]]]]:
        """Judge two equal batches in one pass; return the verdicts on each."""
        both = self(torch.cat([real, made]))
        count = len(real)
        first = [(score[:count], [f[:count] for f in features]) for score, features in both]
        second = [(score[count:], [f[count:] for f in features]) for score, features in both]
        return first, second
