"""HiFi-GAN decoder: latent frames -> waveform (arXiv 2010.05646, resblock type 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from rplab.tts.model.hyper import VoiceSize
from rplab.tts.model.layers import LEAKY_SLOPE, Conv1d, NormConv1d, NormConvTranspose1d, channels_last

_INIT_STD = 0.01


class ResBlock(nn.Module):
    """Residual pairs of a dilated and a plain convolution."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        half = (kernel - 1) // 2
        self.convs1 = nn.ModuleList(NormConv1d(channels, channels, kernel, dilation=d, padding=half * d) for d in dilations)
        self.convs2 = nn.ModuleList(NormConv1d(channels, channels, kernel, padding=half) for _ in dilations)
        for layer in (*self.convs1, *self.convs2):
            if isinstance(layer, NormConv1d):
                layer.init_normal(_INIT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, samples)."""
        for wide, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(wide(F.leaky_relu(x, LEAKY_SLOPE)), LEAKY_SLOPE, inplace=self.training))
        return x


class Decoder(nn.Module):
    """Raises the rate step by step; each step averages residual blocks of several widths."""

    def __init__(self, size: VoiceSize) -> None:
        super().__init__()
        self.num_kernels = len(size.resblock_kernels)
        channels = size.upsample_channels
        self.conv_pre = Conv1d(size.inter_channels, channels, 7, padding=3)
        self.cond = Conv1d(size.speaker_channels, channels, 1)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(size.upsample_rates, size.upsample_kernels, strict=True):
            raise_rate = NormConvTranspose1d(channels, channels // 2, kernel, stride=rate, padding=(kernel - rate) // 2)
            raise_rate.init_normal(_INIT_STD)
            self.ups.append(raise_rate)
            channels //= 2
            for width, dilations in zip(size.resblock_kernels, size.resblock_dilations, strict=True):
                self.resblocks.append(ResBlock(channels, width, dilations))
        self.conv_post = Conv1d(channels, 1, 7, padding=3, bias=False)

    def forward(self, z: Tensor, speaker: Tensor) -> Tensor:
        """Decode (B, C, S) for a speaker (B, C, 1) into (B, 1, S * hop) within -1..1."""
        x = self.enter(z, speaker)
        for index in range(len(self.ups)):
            x = self.rise(x, index)
        return self.leave(x)

    def enter(self, z: Tensor, speaker: Tensor) -> Tensor:
        """Return (B, channels, S): the first convolution and the speaker."""
        return self.conv_pre(channels_last(z) if self.training else z) + self.cond(speaker)

    def rise(self, x: Tensor, index: int) -> Tensor:
        """Raise the rate by step `index`: (B, C, T) -> (B, C / 2, T * rate)."""
        x = self.ups[index](F.leaky_relu(x, LEAKY_SLOPE))
        return _mean([self.resblocks[index * self.num_kernels + k](x) for k in range(self.num_kernels)])

    def leave(self, x: Tensor) -> Tensor:
        """Return the waveform (B, 1, samples) of the last step's channels."""
        x = F.leaky_relu(x)
        if not self.training:
            return torch.tanh(self.conv_post(x))
        with torch.autocast(x.device.type, enabled=False):  # eight bits of sound are too few
            return torch.tanh(self.conv_post(x.float()))


def _mean(blocks: list[Tensor]) -> Tensor:
    total = blocks[0]
    for block in blocks[1:]:
        total = total + block
    return total / len(blocks)
