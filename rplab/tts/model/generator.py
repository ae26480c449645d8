"""The generator: text encoder, posterior encoder, flow, durations and decoder in one module.

Training: `forward`. Speaking: `encode`, `durations`, `expand`, `flow(reverse=True)`, `decode`, or `infer` for all of it;
randomness always comes in as tensors, so that equal seeds give equal sound in torch and in ONNX.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rplab.tts.model.alignment import find_path
from rplab.tts.model.attention import Encoder
from rplab.tts.model.decoder import Decoder
from rplab.tts.model.duration import DurationPredictor, StochasticDuration
from rplab.tts.model.flow import TransformerFlow
from rplab.tts.model.hyper import VoiceSize
from rplab.tts.model.layers import Conv1d, length_mask
from rplab.tts.model.posterior import PosteriorEncoder


class TextEncoder(nn.Module):
    """Phones, tones, languages, BERT features and style -> hidden text and the prior's mean and log deviation."""

    def __init__(self, size: VoiceSize) -> None:
        super().__init__()
        channels = size.hidden_channels
        self.scale = math.sqrt(channels)
        self.emb = nn.Embedding(size.num_symbols, channels)
        self.tone_emb = nn.Embedding(size.num_tones, channels)
        self.language_emb = nn.Embedding(size.num_languages, channels)
        for table in (self.emb, self.tone_emb, self.language_emb):
            nn.init.normal_(table.weight, 0.0, channels**-0.5)
        self.bert_proj = Conv1d(size.bert_channels, channels, 1)
        self.style_proj = nn.Linear(size.style_channels, channels)
        self.encoder = Encoder(
            channels, size.filter_channels, size.num_heads, size.num_layers, size.kernel_size, size.dropout, size.speaker_channels
        )
        self.proj = Conv1d(channels, 2 * size.inter_channels, 1)

    def forward(
        self, phones: Tensor, tones: Tensor, languages: Tensor, bert: Tensor, style: Tensor, mask: Tensor, speaker: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode.

        Args:
            phones: (B, T) symbol ids.
            tones: (B, T).
            languages: (B, T).
            bert: (B, 1024, T).
            style: (B, 256).
            mask: (B, 1, T).
            speaker: (B, C, 1).

        Returns:
            Hidden text (B, hidden, T), mean and log deviation (B, inter, T).
        """
        x = self.emb(phones) + self.tone_emb(tones) + self.language_emb(languages)
        x = x + self.bert_proj(bert).transpose(1, 2) + self.style_proj(style).unsqueeze(1)
        x = self.encoder((x * self.scale).transpose(1, 2), mask, speaker)
        mean, log_deviation = (self.proj(x) * mask).chunk(2, dim=1)
        return x, mean, log_deviation


@dataclass(frozen=True)
class TrainingOutput:
    """What the losses need of one batch."""

    audio: Tensor
    """(B, 1, segment samples)."""
    starts: Tensor
    """(B,) first frame of each segment."""
    duration_loss: Tensor
    stochastic_loss: Tensor
    mask: Tensor
    """(B, 1, S)."""
    z_p: Tensor
    mean_p: Tensor
    logs_p: Tensor
    logs_q: Tensor
    path: Tensor
    """(B, S, T) alignment."""


class Generator(nn.Module):
    """The whole voice network."""

    def __init__(self, size: VoiceSize) -> None:
        super().__init__()
        self.size = size
        self.enc_p = TextEncoder(size)
        self.dec = Decoder(size)
        self.enc_q = PosteriorEncoder(size)
        self.flow = TransformerFlow(size)
        self.sdp = StochasticDuration(size.hidden_channels, size.speaker_channels)
        self.dp = DurationPredictor(size.hidden_channels, size.duration_channels, size.speaker_channels)
        self.emb_g = nn.Embedding(size.num_speakers, size.speaker_channels)

    def speaker(self, ids: Tensor) -> Tensor:
        """Return the speaker vectors (B, C, 1) of ids (B,)."""
        return self.emb_g(ids).unsqueeze(-1)

    def forward(
        self,
        phones: Tensor,
        phone_lengths: Tensor,
        tones: Tensor,
        languages: Tensor,
        bert: Tensor,
        style: Tensor,
        spectrogram: Tensor,
        frame_lengths: Tensor,
        speaker_ids: Tensor,
        *,
        durations: Tensor | None = None,
        noise_mas: float = 0.0,
        prior_share: float = 0.0,
        prior_noise: float = 0.0,
        stochastic: bool = True,
        text: bool = True,
        round_up: float = 0.0,
    ) -> TrainingOutput:
        """Run one training batch; random numbers come from torch's generator.

        Args:
            phones: (B, T); `tones`, `languages` likewise.
            phone_lengths: (B,).
            tones: See `phones`.
            languages: See `phones`.
            bert: (B, 1024, T).
            style: (B, 256).
            spectrogram: (B, bins, S).
            frame_lengths: (B,).
            speaker_ids: (B,).
            durations: (B, T) frames of each phone, which add up to `frame_lengths`; None searches the alignment (VITS).
            noise_mas: Noise added to the alignment scores, in units of their deviation (VITS2).
            prior_share: Share of the batch whose segments are decoded from text instead of from the recording.
            prior_noise: Largest factor on the prior's deviation there; drawn evenly from 0 up to it for each clip.
            text: Train the text side; without, posterior and decoder learn alone, towards a standard normal prior.
            round_up: Frames taken off the plain predictor's aim, because its answer is rounded up.
            stochastic: Count the stochastic duration loss, the most costly one for its size; else it is zero.
        """
        speaker = self.speaker(speaker_ids)
        text_mask = length_mask(phone_lengths, phones.shape[1])
        mask = length_mask(frame_lengths, spectrogram.shape[2])
        mean_q, logs_q = (t.float() for t in self.enc_q(spectrogram, mask, speaker))
        z = (mean_q + torch.randn_like(mean_q) * torch.exp(logs_q)) * mask
        if not text:
            return self._autoencode(z, logs_q, mask, frame_lengths, speaker)
        with torch.autocast(z.device.type, enabled=False):  # short, and its sums are large
            x, mean_t, logs_t = self.enc_p(phones, tones, languages, bert.float(), style, text_mask, speaker)
        z_p = self.flow(z, mask, speaker)
        with torch.autocast(z.device.type, enabled=False):
            if durations is None:
                path = align(z_p.float(), mean_t, logs_t, frame_lengths, phone_lengths, noise_mas)
            else:
                path = path_of(durations, spectrogram.shape[2])
            mean_p, logs_p = ((path @ t.transpose(1, 2)).transpose(1, 2) for t in (mean_t, logs_t))
        frames_per_phone = path.sum(dim=1).unsqueeze(1)  # (B, 1, T)
        duration_loss, stochastic_loss = self._duration_losses(
            x, text_mask, frames_per_phone, speaker, stochastic=stochastic, round_up=round_up
        )
        spoken = self._speak_some(z, mean_p, logs_p, mask, speaker, share=prior_share, noise=prior_noise)
        segments, starts = cut_segments(spoken, frame_lengths, self.size.audio.segment_frames)
        return TrainingOutput(
            audio=self.dec(segments, speaker),
            starts=starts,
            duration_loss=duration_loss,
            stochastic_loss=stochastic_loss,
            mask=mask,
            z_p=z_p,
            mean_p=mean_p,
            logs_p=logs_p,
            logs_q=logs_q,
            path=path,
        )

    def _autoencode(self, z: Tensor, logs_q: Tensor, mask: Tensor, frame_lengths: Tensor, speaker: Tensor) -> TrainingOutput:
        segments, starts = cut_segments(z, frame_lengths, self.size.audio.segment_frames)
        nothing = z.new_zeros(())
        return TrainingOutput(
            audio=self.dec(segments, speaker),
            starts=starts,
            duration_loss=nothing,
            stochastic_loss=nothing,
            mask=mask,
            z_p=z,
            mean_p=torch.zeros_like(z),
            logs_p=torch.zeros_like(z),
            logs_q=logs_q,
            path=nothing,
        )

    def _duration_losses(
        self, x: Tensor, mask: Tensor, frames: Tensor, speaker: Tensor, *, stochastic: bool, round_up: float
    ) -> tuple[Tensor, Tensor]:
        total = mask.sum()
        wanted = torch.log((frames - round_up).clamp_min(0) + 1e-6) * mask
        plain = (self.dp(x, mask, speaker).float() - wanted).square().sum() / total
        if not stochastic:
            return plain, plain.new_zeros(())
        with torch.autocast(x.device.type, enabled=False):  # spline flows need the digits
            return plain, self.sdp(x.float(), mask, frames, speaker).sum() / total

    def _speak_some(self, z: Tensor, mean: Tensor, logs: Tensor, mask: Tensor, speaker: Tensor, *, share: float, noise: float) -> Tensor:
        """Replace latent frames (B, C, S) of some clips by those that the text gives through the inverse flow.

        VITS decodes recordings in training and text in use; what the flow gets wrong is never heard. Decoding some clips
        from their text lets the mel loss reach text encoder and flow (bidirectional prior, NaturalSpeech, arXiv 2205.04421).
        """
        count = round(len(z) * share)
        if not count:
            return z
        chosen = torch.randperm(len(z), device=z.device)[:count]
        scale = torch.rand(count, 1, 1, device=z.device) * noise
        drawn = mean[chosen] + torch.randn_like(mean[chosen]) * torch.exp(logs[chosen].detach()) * scale
        made = self.flow(drawn * mask[chosen], mask[chosen], speaker[chosen], reverse=True)
        return z.index_copy(0, chosen, made.to(z.dtype))

    def log_durations(self, x: Tensor, mask: Tensor, speaker: Tensor, noise: Tensor, sdp_ratio: Tensor | float) -> Tensor:
        """Mix stochastic and plain log durations (B, 1, T); `noise` (B, 2, T) is already scaled."""
        return self.sdp.sample(x, mask, speaker, noise) * sdp_ratio + self.dp(x, mask, speaker) * (1 - sdp_ratio)

    @torch.no_grad()
    def infer(
        self,
        phones: Tensor,
        tones: Tensor,
        languages: Tensor,
        bert: Tensor,
        style: Tensor,
        speaker_ids: Tensor,
        *,
        noise_duration: Tensor,
        noise_latent: Tensor,
        sdp_ratio: float,
        length_scale: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Speak one sentence (batch 1).

        Args:
            phones: (1, T); `tones`, `languages` likewise.
            tones: See `phones`.
            languages: See `phones`.
            bert: (1, 1024, T).
            style: (1, 256).
            speaker_ids: (1,).
            noise_duration: (1, 2, T), scaled.
            noise_latent: (1, inter, at least S), scaled; what is beyond the length is not used.
            sdp_ratio: 0 = plain durations, 1 = stochastic.
            length_scale: Above 1 is slower.

        Returns:
            Audio (1, 1, S * hop) and frames of each phone (1, 1, T).
        """
        speaker = self.speaker(speaker_ids)
        text_mask = torch.ones(1, 1, phones.shape[1], dtype=bert.dtype, device=bert.device)
        x, mean, logs = self.enc_p(phones, tones, languages, bert, style, text_mask, speaker)
        frames = round_durations(self.log_durations(x, text_mask, speaker, noise_duration, sdp_ratio), length_scale)
        repeats = frames[0, 0].long()
        mean, logs = (t.repeat_interleave(repeats, dim=2) for t in (mean, logs))
        z_p = mean + noise_latent[:, :, : mean.shape[2]] * torch.exp(logs)
        mask = torch.ones_like(z_p[:, :1])
        return self.dec(self.flow(z_p, mask, speaker, reverse=True), speaker), frames


def round_durations(log_durations: Tensor, length_scale: Tensor | float) -> Tensor:
    """Return whole frames per phone, rounded up as in VITS."""
    return torch.ceil(torch.exp(log_durations) * length_scale)


@torch.no_grad()
def align(z_p: Tensor, mean: Tensor, logs: Tensor, frame_lengths: Tensor, phone_lengths: Tensor, noise: float) -> Tensor:
    """Return the alignment (B, S, T) of latent frames (B, C, S) to the prior (B, C, T)."""
    precision = torch.exp(-2 * logs)
    scores = (-0.5 * math.log(2 * math.pi) - logs).sum(dim=1, keepdim=True)
    scores = scores + (-0.5 * z_p.square().transpose(1, 2)) @ precision
    scores = scores + z_p.transpose(1, 2) @ (mean * precision)
    scores = scores + (-0.5 * mean.square() * precision).sum(dim=1, keepdim=True)
    if noise > 0:
        scores = scores + torch.randn_like(scores) * scores.std() * noise
    path = find_path(scores.float().cpu().numpy(), frame_lengths.cpu().numpy(), phone_lengths.cpu().numpy())
    return torch.from_numpy(path).to(z_p)


def path_of(durations: Tensor, max_frames: int) -> Tensor:
    """Return the alignment (B, S, T) in which each phone lasts its whole frames (B, T)."""
    ends = durations.cumsum(dim=1).unsqueeze(1)
    frame = torch.arange(max_frames, device=durations.device)[None, :, None]
    return ((frame < ends) & (frame >= ends - durations.unsqueeze(1))).float()


def cut_segments(x: Tensor, lengths: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Cut `frames` random frames out of each (B, C, S); shorter ones are padded with zeros. Returns cuts and starts."""
    starts = (torch.rand(len(x), device=x.device) * (lengths - frames + 1).clamp_min(1)).long()
    return take_segments(x, starts, frames), starts


def take_segments(x: Tensor, starts: Tensor, frames: int) -> Tensor:
    """Cut `frames` frames out of each (B, C, S) at `starts`."""
    if x.shape[2] < frames:
        x = nn.functional.pad(x, (0, frames - x.shape[2]))
    index = starts[:, None] + torch.arange(frames, device=x.device)
    return x.gather(2, index[:, None, :].expand(-1, x.shape[1], -1))
