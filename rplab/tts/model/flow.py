"""The flow between prior and posterior: mean-only couplings with transformers inside, channels reversed between."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rplab.tts.model.attention import Encoder
from rplab.tts.model.hyper import VoiceSize
from rplab.tts.model.layers import Conv1d

_KERNEL = 5


class Coupling(nn.Module):
    """Shift one half of the channels by what a transformer makes of the other half (volume-preserving)."""

    def __init__(self, size: VoiceSize) -> None:
        super().__init__()
        half = size.inter_channels // 2
        self.pre = Conv1d(half, size.hidden_channels, 1)
        self.enc = Encoder(
            size.hidden_channels,
            size.filter_channels,
            size.num_heads,
            size.flow_layers,
            _KERNEL,
            size.dropout,
            size.speaker_channels,
        )
        self.post = Conv1d(size.hidden_channels, half, 1)
        nn.init.zeros_(self.post.weight)  # the flow starts as the identity
        nn.init.zeros_(self.post.bias) if self.post.bias is not None else None

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor, *, reverse: bool) -> Tensor:
        """Shift, or shift back."""
        kept, moved = x.chunk(2, dim=1)
        shift = self.post(self.enc(self.pre(kept) * mask, mask, speaker)) * mask
        moved = (moved - shift) * mask if reverse else shift + moved * mask
        return torch.cat([kept, moved], dim=1)


class Flip(nn.Module):
    """Reverse the order of the channels."""

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor, *, reverse: bool) -> Tensor:  # noqa: ARG002 - a flow's signature
        """Reverse the order of the channels; its own inverse."""
        return torch.flip(x, [1])


class TransformerFlow(nn.Module):
    """Couplings and flips in turn."""

    def __init__(self, size: VoiceSize) -> None:
        super().__init__()
        self.flows = nn.ModuleList(layer for _ in range(size.num_flows) for layer in (Coupling(size), Flip()))

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor, *, reverse: bool = False) -> Tensor:
        """Map posterior to prior, (B, C, S); `reverse` maps back."""
        for flow in reversed(self.flows) if reverse else self.flows:
            x = flow(x, mask, speaker, reverse=reverse)
        return x
