"""Transformer encoder with a window of relative positions and speaker conditioning (text encoder and flow).

Relative attention after Shaw et al. (arXiv 1803.02155), window 4. Only 2*4+1 diagonals carry relative terms, so they
are computed as a band of 9 columns and skewed into place by a pad and a reshape: no (T, 2T-1) table, and nothing that an
exporter cannot follow.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from rplab.tts.model.layers import ChannelNorm, Conv1d, channels_last

WINDOW = 4
_BAND = 2 * WINDOW + 1
CONDITION_LAYER = 2
"""The speaker enters before this layer."""
_MASKED = -1e4


class RelativeAttention(nn.Module):
    """Self-attention of (B, C, T) with relative keys and values shared by all heads."""

    def __init__(self, channels: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.head_channels = num_heads, channels // num_heads
        self.conv_q = Conv1d(channels, channels, 1)
        self.conv_k = Conv1d(channels, channels, 1)
        self.conv_v = Conv1d(channels, channels, 1)
        self.conv_o = Conv1d(channels, channels, 1)
        std = self.head_channels**-0.5
        self.emb_rel_k = nn.Parameter(torch.randn(1, _BAND, self.head_channels) * std)
        self.emb_rel_v = nn.Parameter(torch.randn(1, _BAND, self.head_channels) * std)
        self.drop = nn.Dropout(dropout)
        for projection in (self.conv_q, self.conv_k, self.conv_v):
            nn.init.xavier_uniform_(projection.weight)

    def forward(self, x_BCT: Tensor, hidden_B1TT: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Attend; `hidden_B1TT` is true where a query must not look at a key."""
        query, key, value = (self._heads(layer(x_BCT)) for layer in (self.conv_q, self.conv_k, self.conv_v))
        query = query * self.head_channels**-0.5
        scores = query @ key.transpose(-2, -1) + band_to_square(query @ self.emb_rel_k.transpose(-2, -1))
        weights = self.drop(torch.softmax(scores.masked_fill(hidden_B1TT, _MASKED), dim=-1))
        mixed = weights @ value + square_to_band(weights) @ self.emb_rel_v
        return self.conv_o(mixed.transpose(1, 2).flatten(2).transpose(1, 2))

    def _heads(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, H, T, C/H)."""
        return x.reshape(x.shape[0], self.num_heads, self.head_channels, x.shape[2]).transpose(2, 3)


def band_to_square(band: Tensor) -> Tensor:
    """Move (B, H, T, 9) onto the diagonals of (B, H, T, T): column o of row t lands at t + o - 4."""
    batch, heads, time, _ = band.shape
    flat = F.pad(band, (0, time)).reshape(batch, heads, time * (time + _BAND))
    rows = flat[:, :, : time * (time + _BAND - 1)].reshape(batch, heads, time, time + _BAND - 1)
    return rows[:, :, :, WINDOW : WINDOW + time]


def square_to_band(square: Tensor) -> Tensor:
    """Undo `band_to_square`: (B, H, T, T) -> the 9 diagonals as (B, H, T, 9), zero outside."""
    batch, heads, time, _ = square.shape
    flat = F.pad(square, (WINDOW, WINDOW)).reshape(batch, heads, time * (time + _BAND - 1))
    return F.pad(flat, (0, time)).reshape(batch, heads, time, time + _BAND)[:, :, :, :_BAND]


class FeedForward(nn.Module):
    """Two convolutions with a ReLU between."""

    def __init__(self, channels: int, filter_channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel must be odd, not {kernel}")
        self.conv_1 = Conv1d(channels, filter_channels, kernel, padding=kernel // 2)
        self.conv_2 = Conv1d(filter_channels, channels, kernel, padding=kernel // 2)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Transform (B, C, T)."""
        x = self.drop(torch.relu(self.conv_1(x * mask)))
        return self.conv_2(x * mask) * mask


class Encoder(nn.Module):
    """Post-norm transformer; a linear map of the speaker is added before layer `CONDITION_LAYER`."""

    def __init__(
        self,
        channels: int,
        filter_channels: int,
        num_heads: int,
        num_layers: int,
        kernel: int,
        dropout: float,
        speaker_channels: int,
    ) -> None:
        super().__init__()
        if num_layers <= CONDITION_LAYER:
            raise ValueError(f"at least {CONDITION_LAYER + 1} layers: the speaker enters before layer {CONDITION_LAYER}")
        self.drop = nn.Dropout(dropout)
        self.spk_emb_linear = nn.Linear(speaker_channels, channels)
        self.attn_layers = nn.ModuleList(RelativeAttention(channels, num_heads, dropout) for _ in range(num_layers))
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(channels) for _ in range(num_layers))
        self.ffn_layers = nn.ModuleList(FeedForward(channels, filter_channels, kernel, dropout) for _ in range(num_layers))
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(channels) for _ in range(num_layers))

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """Encode.

        Args:
            x: (B, C, T).
            mask: (B, 1, T).
            speaker: (B, speaker channels, 1).
        """
        hidden = mask.unsqueeze(2) * mask.unsqueeze(-1) == 0
        if self.training:
            x, mask = channels_last(x), mask.to(x.dtype)
        x = x * mask
        layers = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        for index, (attend, norm_1, feed, norm_2) in enumerate(layers):
            if index == CONDITION_LAYER:
                x = (x + self.spk_emb_linear(speaker.transpose(1, 2)).transpose(1, 2)) * mask
            x = norm_1(x + self.drop(attend(x, hidden)))
            x = norm_2(x + self.drop(feed(x, mask)))
        return x * mask
