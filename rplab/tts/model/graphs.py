"""The generator cut into the pieces that are exported: encoder, flow, decoder, and all of it in one.

Split form: every random number is an input, durations are rounded and spread outside, so speech is seeded, its speed and
rhythm are the runtime's business, and the decoder can run on pieces. Mono form: the de-facto signature of the family
(`x_tst, x_tst_lengths, sid, tones, language, bert, style_vec, length_scale, sdp_ratio, noise_scale, noise_scale_w`).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from rplab.tts.model.attention import Encoder, FeedForward
from rplab.tts.model.decoder import Decoder, ResBlock
from rplab.tts.model.generator import Generator, round_durations
from rplab.tts.model.layers import LEAKY_SLOPE, length_mask


class EncoderGraph(nn.Module):
    """Phones -> prior and log durations."""

    INPUTS = ("phones", "tones", "languages", "bert", "style", "speaker_id", "duration_noise", "sdp_ratio")
    OUTPUTS = ("mean", "log_deviation", "log_duration", "speaker")

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.enc_p, self.sdp, self.dp, self.emb_g = generator.enc_p, generator.sdp, generator.dp, generator.emb_g

    def forward(
        self,
        phones: Tensor,
        tones: Tensor,
        languages: Tensor,
        bert: Tensor,
        style: Tensor,
        speaker_id: Tensor,
        duration_noise: Tensor,
        sdp_ratio: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode one sentence.

        Args:
            phones: (1, T); `tones`, `languages` likewise.
            tones: See `phones`.
            languages: See `phones`.
            bert: (1, 1024, T).
            style: (1, 256).
            speaker_id: (1,).
            duration_noise: (1, 2, T), scaled.
            sdp_ratio: (1,).
        """
        speaker = self.emb_g(speaker_id).unsqueeze(-1)
        mask = torch.ones_like(bert[:, :1])
        x, mean, logs = self.enc_p(phones, tones, languages, bert, style, mask, speaker)
        stochastic = self.sdp.sample(x, mask, speaker, duration_noise)
        log_duration = stochastic * sdp_ratio + self.dp(x, mask, speaker) * (1 - sdp_ratio)
        return mean, logs, log_duration, speaker


class FlowGraph(nn.Module):
    """Prior sample -> latent frames."""

    INPUTS = ("z_prior", "speaker")
    OUTPUTS = ("z",)

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.flow = copy.deepcopy(generator.flow)
        for module in list(self.flow.modules()):
            if isinstance(module, Encoder):
                module.ffn_layers = nn.ModuleList(_WideFeedForward(layer) for layer in module.ffn_layers)

    def forward(self, z_prior: Tensor, speaker: Tensor) -> Tensor:
        """Map (1, C, S) for a speaker (1, C, 1)."""
        return self.flow(z_prior, torch.ones_like(z_prior[:, :1]), speaker, reverse=True)


class _WideFeedForward(nn.Module):
    """`FeedForward` of one whole sentence on two-dimensional convolutions, like the decoder's (see `widen_decoder`)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        assert isinstance(layer, FeedForward)
        self.conv_1, self.conv_2 = _two_dimensional(layer.conv_1), _two_dimensional(layer.conv_2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002 - nothing is masked: a sentence is alone
        """Transform (1, C, T)."""
        return self.conv_2(torch.relu(self.conv_1(x.unsqueeze(2)))).squeeze(2)


class DecoderGraph(nn.Module):
    """Latent frames -> waveform."""

    INPUTS = ("z", "speaker")
    OUTPUTS = ("audio",)

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.dec = generator.dec

    def forward(self, z: Tensor, speaker: Tensor) -> Tensor:
        """Decode (1, C, S) into (1, 1, S * hop)."""
        return self.dec(z, speaker)


class MonoGraph(nn.Module):
    """The whole generator with the signature that other programs of the family call."""

    INPUTS = (
        "x_tst",
        "x_tst_lengths",
        "sid",
        "tones",
        "language",
        "bert",
        "style_vec",
        "length_scale",
        "sdp_ratio",
        "noise_scale",
        "noise_scale_w",
    )
    OUTPUTS = ("output",)

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self,
        x_tst: Tensor,
        x_tst_lengths: Tensor,
        sid: Tensor,
        tones: Tensor,
        language: Tensor,
        bert: Tensor,
        style_vec: Tensor,
        length_scale: Tensor,
        sdp_ratio: Tensor,
        noise_scale: Tensor,
        noise_scale_w: Tensor,
    ) -> Tensor:
        """Speak a batch (B, T) into (B, 1, samples); noise is drawn inside."""
        net = self.generator
        speaker = net.speaker(sid)
        mask = length_mask(x_tst_lengths, x_tst.shape[1])
        x, mean, logs = net.enc_p(x_tst, tones, language, bert, style_vec, mask, speaker)
        noise = torch.randn_like(x[:, :2]) * noise_scale_w
        log_duration = net.log_durations(x, mask, speaker, noise, sdp_ratio)
        ends = torch.cumsum((round_durations(log_duration, length_scale) * mask)[:, 0], dim=1)
        lengths = ends[:, -1].clamp_min(1).long()
        num_frames = _count(lengths.max(), at_least=1)
        index = (torch.arange(num_frames, device=x.device)[None, :, None] >= ends[:, None, :]).sum(dim=2)
        index = index.clamp_max(x_tst.shape[1] - 1).unsqueeze(1).expand(-1, mean.shape[1], -1)
        mean, logs = mean.gather(2, index), logs.gather(2, index)
        frame_mask = length_mask(lengths, num_frames)
        z_p = (mean + torch.randn_like(mean) * torch.exp(logs) * noise_scale) * frame_mask
        z = net.flow(z_p, frame_mask, speaker, reverse=True)
        return net.dec(z * frame_mask, speaker)


def _count(value: Tensor, *, at_least: int) -> Any:
    """Return a whole number that both exporters keep dynamic: a traced tensor, or a checked symbol."""
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return value
    number: Any = value.item()  # int() would fix it
    torch._check(number >= at_least)  # pyright: ignore[reportPrivateUsage] - tells the exporter what is known
    return number


def widen_decoder(decoder: Decoder) -> Decoder:
    """Return a copy of a folded decoder with every convolution as a two-dimensional one of height 1, for `WideDecoderGraph`.

    onnxruntime has blocked (NCHWc) kernels for two dimensions only: a quarter less time on one thread (spec/tts.md, F).
    """
    wide = copy.deepcopy(decoder)
    _widen(wide)
    for index, step in enumerate(wide.ups):
        assert isinstance(step, nn.ConvTranspose2d)
        wide.ups[index] = nn.Sequential(step, _same(step.out_channels))
    wide.resblocks = nn.ModuleList(_BlockedResBlock(block) for block in wide.resblocks)
    return wide


class _BlockedResBlock(nn.Module):
    """`ResBlock` whose sums stay in onnxruntime's blocked format.

    A leaky ReLU of its own has no blocked kernel: onnxruntime would lay out every sum plainly before it, and again in blocks
    after it, and could not add inside of a convolution. A convolution by 1 takes the function in (3 to 5 % off the decoder).
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        assert isinstance(block, ResBlock)
        self.convs1, self.convs2 = block.convs1, block.convs2
        first = self.convs1[0]
        assert isinstance(first, nn.Conv2d)
        self.same = _same(first.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (1, C, 1, samples)."""
        for wide, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(wide(F.leaky_relu(self.same(x), LEAKY_SLOPE)), LEAKY_SLOPE))
        return x


@torch.no_grad()
def _same(channels: int) -> nn.Conv2d:
    """Return a convolution that changes nothing."""
    layer = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
    layer.weight.fill_(1.0)
    return layer


@torch.no_grad()
def _widen(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv1d | nn.ConvTranspose1d):
            setattr(module, name, _two_dimensional(child))
        else:
            _widen(child)


@torch.no_grad()
def _two_dimensional(layer: nn.Conv1d | nn.ConvTranspose1d) -> nn.Module:
    kind = nn.Conv2d if isinstance(layer, nn.Conv1d) else nn.ConvTranspose2d
    wide = kind(
        layer.in_channels,
        layer.out_channels,
        (1, layer.kernel_size[0]),
        stride=(1, layer.stride[0]),
        padding=(0, int(layer.padding[0])),
        dilation=(1, layer.dilation[0]),
        bias=layer.bias is not None,
    )
    wide.weight.copy_(layer.weight.unsqueeze(2))
    if layer.bias is not None and wide.bias is not None:
        wide.bias.copy_(layer.bias)
    return wide


class WideDecoderGraph(nn.Module):
    """`DecoderGraph` on two-dimensional convolutions, for pieces: the frames beside a piece are cut off as early as possible.

    A piece depends on 13 frames on each side (full size), but all except 2 of them only through the first, cheapest step: cutting
    there saves most of what the overlap costs. Without a third input nothing is cut, and the result is that of `DecoderGraph`.
    """

    INPUTS = (*DecoderGraph.INPUTS, "beside")
    OUTPUTS = DecoderGraph.OUTPUTS

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.dec = widen_decoder(generator.dec)
        self.rates = generator.size.upsample_rates
        self.contexts = (*generator.size.decoder_contexts[:-1], 0)

    def forward(self, z: Tensor, speaker: Tensor, beside: Tensor) -> Tensor:
        """Decode (1, C, S) into (1, 1, (S - left - right) * hop).

        Args:
            z: Frames of the piece and those beside it.
            speaker: (1, C, 1).
            beside: (2,) int64, frames on the left and on the right that are no part of the piece: at least
                `VoiceSize.overlap_frames`, fewer only where the sentence begins or ends.
        """
        left, right = _count(beside[0], at_least=0), _count(beside[1], at_least=0)
        x, per_frame = self.dec.enter(z.unsqueeze(2), speaker.unsqueeze(2)), 1
        for index, rate in enumerate(self.rates):
            x, per_frame = self.dec.rise(x, index), per_frame * rate
            if index + 1 == len(self.rates):
                x = self.dec.leave(x)
            context = self.contexts[index + 1]
            if context < self.contexts[index]:
                kept_left, kept_right = _at_most(left, context), _at_most(right, context)
                x = _cut(x, (left - kept_left) * per_frame, (right - kept_right) * per_frame)
                left, right = kept_left, kept_right
        return x.squeeze(2)


def _at_most(value: Any, limit: int) -> Any:
    return torch.clamp(value, max=limit) if isinstance(value, Tensor) else torch.sym_min(value, limit)


def _cut(x: Tensor, left: Any, right: Any) -> Tensor:
    """Drop samples at both ends of the last axis."""
    return x[..., left : x.shape[-1] - right]
