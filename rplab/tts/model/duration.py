"""How long each phone lasts: a plain predictor, and a stochastic one built from spline flows (VITS, section 2.2.2)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from rplab.tts.model.layers import ChannelNorm, Conv1d, channels_last
from rplab.tts.model.spline import rational_quadratic

_BINS = 10
_TAIL = 5.0
_KERNEL = 3
_DEPTH = 3
_FLOWS = 4
_DROPOUT = 0.5


class SeparableStack(nn.Module):
    """Residual stack of depthwise (dilated 1, 3, 9) and pointwise convolutions."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.convs_sep = nn.ModuleList(
            Conv1d(channels, channels, _KERNEL, groups=channels, dilation=_KERNEL**i, padding=_KERNEL**i * (_KERNEL - 1) // 2)
            for i in range(_DEPTH)
        )
        self.convs_1x1 = nn.ModuleList(Conv1d(channels, channels, 1) for _ in range(_DEPTH))
        self.norms_1 = nn.ModuleList(ChannelNorm(channels) for _ in range(_DEPTH))
        self.norms_2 = nn.ModuleList(ChannelNorm(channels) for _ in range(_DEPTH))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor | None = None) -> Tensor:
        """Transform (B, C, T)."""
        if self.training:
            x = channels_last(x)
        if condition is not None:
            x = x + condition
        for wide, norm_1, point, norm_2 in zip(self.convs_sep, self.norms_1, self.convs_1x1, self.norms_2, strict=True):
            y = F.gelu(norm_1(wide(x * mask)))
            x = x + self.drop(F.gelu(norm_2(point(y))))
        return x * mask


class Affine(nn.Module):
    """Scale and shift each of the two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros(2, 1))
        self.logs = nn.Parameter(torch.zeros(2, 1))

    def forward(self, z: Tensor, mask: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - a flow's signature
        """Return the result and log |determinant| (B,)."""
        return (self.m + torch.exp(self.logs) * z) * mask, (self.logs * mask).sum(dim=(1, 2))

    def invert(self, z: Tensor, mask: Tensor, condition: Tensor) -> Tensor:  # noqa: ARG002 - a flow's signature
        """Undo `forward`."""
        return (z - self.m) * torch.exp(-self.logs) * mask


class SplineFlow(nn.Module):
    """Bend the second channel by a spline that depends on the first and on the text."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.pre = Conv1d(1, channels, 1)
        self.convs = SeparableStack(channels)
        self.proj = Conv1d(channels, 3 * _BINS - 1, 1)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias) if self.proj.bias is not None else None

    def forward(self, z: Tensor, mask: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the result and log |determinant| (B,)."""
        bent, log_slope = self._bend(z, mask, condition, reverse=False)
        return bent, (log_slope * mask).sum(dim=(1, 2))

    def invert(self, z: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """Undo `forward`."""
        return self._bend(z, mask, condition, reverse=True)[0]

    def _bend(self, z: Tensor, mask: Tensor, condition: Tensor, *, reverse: bool) -> tuple[Tensor, Tensor]:
        kept, bent = z[:, :1], z[:, 1:]
        h = self.proj(self.convs(self.pre(kept), mask, condition)) * mask
        h = h.transpose(1, 2).unsqueeze(1)  # (B, 1, T, 29)
        scale = self.channels**-0.5
        widths, heights, slopes = h[..., :_BINS] * scale, h[..., _BINS : 2 * _BINS] * scale, h[..., 2 * _BINS :]
        bent, log_slope = rational_quadratic(bent, widths, heights, slopes, reverse=reverse, tail=_TAIL)
        return torch.cat([kept, bent], dim=1) * mask, log_slope


class _Swap(nn.Module):
    """Exchange the two channels."""

    def forward(self, z: Tensor, mask: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - a flow's signature
        """Exchange; the determinant is one."""
        return torch.flip(z, [1]), torch.zeros(z.shape[0], device=z.device, dtype=z.dtype)

    def invert(self, z: Tensor, mask: Tensor, condition: Tensor) -> Tensor:  # noqa: ARG002 - a flow's signature
        """Exchange."""
        return torch.flip(z, [1])


def _flows(channels: int) -> nn.ModuleList:
    return nn.ModuleList([Affine(), *(layer for _ in range(_FLOWS) for layer in (SplineFlow(channels), _Swap()))])


class StochasticDuration(nn.Module):
    """Density of log durations given the text: trained by its variational bound, sampled from noise."""

    def __init__(self, channels: int, speaker_channels: int) -> None:
        super().__init__()
        self.flows = _flows(channels)
        self.post_pre = Conv1d(1, channels, 1)
        self.post_proj = Conv1d(channels, channels, 1)
        self.post_convs = SeparableStack(channels, _DROPOUT)
        self.post_flows = _flows(channels)
        self.pre = Conv1d(channels, channels, 1)
        self.proj = Conv1d(channels, channels, 1)
        self.convs = SeparableStack(channels, _DROPOUT)
        self.cond = Conv1d(speaker_channels, channels, 1)

    def _condition(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """Text and speaker; gradients stop here so that durations do not bend the encoder."""
        x = self.pre(x.detach()) + self.cond(speaker.detach())
        return self.proj(self.convs(x, mask)) * mask

    def forward(self, x: Tensor, mask: Tensor, durations: Tensor, speaker: Tensor) -> Tensor:
        """Return the negative log-likelihood bound (B,) of `durations` (B, 1, T) in frames."""
        condition = self._condition(x, mask, speaker)
        posterior = condition + self.post_proj(self.post_convs(self.post_pre(durations), mask)) * mask
        noise = torch.randn(x.shape[0], 2, x.shape[2], device=x.device, dtype=x.dtype) * mask
        z, log_q = noise, _log_normal(noise, mask)
        for flow in self.post_flows:
            z, log_det = flow(z, mask, posterior)
            log_q = log_q - log_det
        raw, extra = z[:, :1], z[:, 1:]
        fraction = torch.sigmoid(raw) * mask
        log_q = log_q - ((F.logsigmoid(raw) + F.logsigmoid(-raw)) * mask).sum(dim=(1, 2))
        log_duration = torch.log((durations - fraction).clamp_min(1e-5)) * mask
        log_p = -log_duration.sum(dim=(1, 2))
        z = torch.cat([log_duration, extra], dim=1)
        for flow in self.flows:
            z, log_det = flow(z, mask, condition)
            log_p = log_p + log_det
        return log_q - log_p - _log_normal(z, mask)

    def sample(self, x: Tensor, mask: Tensor, speaker: Tensor, noise: Tensor) -> Tensor:
        """Return log durations (B, 1, T) for scaled noise (B, 2, T)."""
        condition = self._condition(x, mask, speaker)
        z = noise
        # The lowest spline flow is left out when sampling, as in VITS: it hardly matters and can be unstable.
        for flow in [*list(self.flows)[:1:-1], self.flows[0]]:
            z = cast("Affine | SplineFlow | _Swap", flow).invert(z, mask, condition)
        return z[:, :1]


def _log_normal(z: Tensor, mask: Tensor) -> Tensor:
    return (-0.5 * (math.log(2 * math.pi) + z.square()) * mask).sum(dim=(1, 2))


class DurationPredictor(nn.Module):
    """Plain regression of log durations."""

    def __init__(self, channels: int, filter_channels: int, speaker_channels: int) -> None:
        super().__init__()
        self.conv_1 = Conv1d(channels, filter_channels, _KERNEL, padding=_KERNEL // 2)
        self.norm_1 = ChannelNorm(filter_channels)
        self.conv_2 = Conv1d(filter_channels, filter_channels, _KERNEL, padding=_KERNEL // 2)
        self.norm_2 = ChannelNorm(filter_channels)
        self.proj = Conv1d(filter_channels, 1, 1)
        self.cond = Conv1d(speaker_channels, channels, 1)
        self.drop = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """Return log durations (B, 1, T); gradients do not reach the encoder."""
        x = x.detach() + self.cond(speaker.detach())
        x = self.drop(self.norm_1(torch.relu(self.conv_1(x * mask))))
        x = self.drop(self.norm_2(torch.relu(self.conv_2(x * mask))))
        return self.proj(x * mask) * mask
