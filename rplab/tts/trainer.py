"""One training step of the voice, and the state that survives a kill.

A step's clips are split into `pieces`, each with random numbers from a seed of its own. So a run that continues from a
checkpoint gives byte for byte what an uninterrupted one gives (same machine, same number of threads), and N processes give
what one gives, up to the order of sums.
"""

from __future__ import annotations

import collections.abc
import contextlib
import math
import os
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rplab.errors import ModelError, TrainingError
from rplab.jsonl import storage_error
from rplab.seeding import derive_seed
from rplab.tts.clips import Batch, Clip, collate
from rplab.tts.losses import MEL_WEIGHT, adversarial_loss, discriminator_loss, feature_loss, kl_loss
from rplab.tts.mel import log_mel, mel_difference, mel_of, spectrogram
from rplab.tts.model.discriminator import Discriminator
from rplab.tts.model.generator import Generator, TrainingOutput, take_segments
from rplab.tts.model.hyper import VoiceSize
from rplab.tts.ranks import Ranks
from rplab.tts.training_config import VoiceTrainConfig
from rplab.tts.wavlm import WavlmLoss

_BETAS = (0.8, 0.99)
_EPS = 1e-9
_PARTS = {"bert": "enc_p.bert_proj", "style": "enc_p.style_proj", "decoder": "dec", "flow": "flow", "posterior": "enc_q"}


@dataclass(frozen=True)
class StepLosses:
    """What one step measured, means over its pieces."""

    mel: float
    kl: float
    duration: float
    stochastic: float
    adversarial: float
    feature: float
    discriminator: float
    wavlm: float
    gradient: float


@dataclass(frozen=True)
class _Spoken:
    """One piece after the generator: what it made, and the recording's sound at the same place."""

    out: TrainingOutput
    real: Tensor
    """(B, 1, segment samples)."""
    real_mel: Tensor


class Trainer:
    """Generator, discriminators and their optimisers."""

    def __init__(
        self, config: VoiceTrainConfig, size: VoiceSize, device: torch.device, *, ranks: Ranks | None = None, wavlm: Path | None = None
    ) -> None:
        """Build with weights drawn from the seed.

        Args:
            config: Settings.
            size: The network.
            device: Where it trains.
            ranks: This process among its peers; alone by default.
            wavlm: Folder of a WavLM model: adds its loss and discriminator.
        """
        torch.manual_seed(derive_seed(config.seed, "voice_init"))
        self.config, self.size, self.device, self.ranks = config, size, device, ranks or Ranks()
        self.generator = Generator(size).to(device)
        self.judge = Discriminator(config.discriminator_width).to(device)
        self.wavlm = None if wavlm is None else WavlmLoss(wavlm, size.audio.sample_rate).to(device)
        judges = [*self.judge.parameters(), *(self.wavlm.judge.parameters() if self.wavlm else ())]
        self.optimiser_g = torch.optim.AdamW(self.generator.parameters(), config.learning_rate, _BETAS, _EPS, fused=True)
        self.optimiser_d = torch.optim.AdamW(judges, config.learning_rate, _BETAS, _EPS, fused=True)
        self._average = [p.detach().clone() for p in self.generator.parameters()] if config.average else []
        self.step = 0

    def learning_rate(self, epoch: int) -> float:
        """Return the rate of the current step: warm-up, decay per epoch, and a half cosine down to `final_rate`."""
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.step / config.max_steps))
        return config.learning_rate * warm * config.decay**epoch * (config.final_rate + (1 - config.final_rate) * cosine)

    def train_step(self, clips: list[Clip], epoch: int) -> StepLosses:
        """Run one step on clips; with peers, every process is given all of them and takes its own pieces.

        Raises:
            TrainingError: A loss is no number.
        """
        for group in (*self.optimiser_g.param_groups, *self.optimiser_d.param_groups):
            group["lr"] = self.learning_rate(epoch)
        self.generator.train()
        for part in self.config.freeze:
            self.generator.get_submodule(_PARTS[part]).requires_grad_(self.step < self.config.freeze_from)
        pieces = [(index, piece) for index in range(self.config.pieces) if (piece := clips[index :: self.config.pieces])]
        own = pieces[self.ranks.rank :: self.ranks.world]
        judging = self.step >= self.config.adversarial_from
        kept = self._speak(*own[0]) if len(pieces) == 1 and own else None
        judged = self._teach_judges(own, len(pieces), kept) if judging else 0.0
        measured = torch.zeros(7, dtype=torch.float64)
        self.optimiser_g.zero_grad(set_to_none=True)
        for index, piece in own:
            total, parts = self._losses(kept or self._speak(index, piece), judging=judging)
            self._check(total)
            (total / len(pieces)).backward()
            measured += torch.tensor([float(part.detach()) for part in parts], dtype=torch.float64) / len(pieces)
        gradient = self._descend(self.optimiser_g, self.config.clip_generator)
        self.step += 1
        self._follow()
        mel, kl, duration, stochastic, adversarial, feature, wavlm = self.ranks.sum(measured).tolist()
        losses = StepLosses(mel, kl, duration, stochastic, adversarial, feature, judged, wavlm, gradient)
        return StepLosses(*(round(value, 5) for value in astuple(losses)))

    def _speak(self, index: int, clips: list[Clip]) -> _Spoken:
        """Run the generator on a piece, with the piece's own random numbers."""
        config, audio_format = self.config, self.size.audio
        torch.manual_seed(derive_seed(config.seed, "voice_step", self.step, index))
        batch: Batch = collate(clips, audio_format.hop_length).to(self.device)
        magnitude = spectrogram(batch.audio, audio_format)[:, :, : int(batch.frame_lengths.max())]
        with self._autocast():
            out = self.generator(
                batch.phones,
                batch.phone_lengths,
                batch.tones,
                batch.languages,
                batch.bert,
                batch.style,
                magnitude,
                batch.frame_lengths,
                batch.speakers,
                durations=batch.durations if config.alignment == "forced" else None,
                noise_mas=max(0.0, config.noise_mas - config.noise_mas_decay * self.step),
                prior_share=config.prior_share if self.step >= config.prior_from else 0.0,
                prior_noise=config.prior_noise,
                text=self.step >= config.text_from,
                round_up=config.round_up,
                stochastic=self.step % config.stochastic_every == 0,
            )
        real = take_segments(batch.audio.unsqueeze(1), out.starts * audio_format.hop_length, audio_format.segment_samples)
        return _Spoken(out, real, take_segments(log_mel(magnitude, audio_format), out.starts, audio_format.segment_frames))

    def _losses(self, spoken: _Spoken, *, judging: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the generator's loss on a piece and its parts."""
        out, audio_format = spoken.out, self.size.audio
        made, real = out.audio.float().squeeze(1), spoken.real.squeeze(1)
        mel = (mel_of(made, audio_format) - spoken.real_mel).abs().mean()
        for fft_size in self.config.mel_resolutions:
            mel = mel + mel_difference(made, real, audio_format, fft_size)
        mel = MEL_WEIGHT * mel / (1 + len(self.config.mel_resolutions))
        kl = kl_loss(out.z_p, out.logs_q, out.mean_p, out.logs_p, out.mask)
        total = (
            mel
            + (self.config.kl_weight if self.step >= self.config.text_from else self.config.latent_weight) * kl
            + out.duration_loss.float()
            + out.stochastic_loss.float()
        )
        adversarial, feature, slm = mel.new_zeros(()), mel.new_zeros(()), mel.new_zeros(())
        if judging:
            with self._autocast():
                verdict_real, verdict_made = self.judge.compare(spoken.real, out.audio)
            adversarial, feature = adversarial_loss(verdict_made), feature_loss(verdict_real, verdict_made)
            if self.wavlm:
                slm = self.wavlm.generator_loss(real, made)
            total = total + adversarial + feature + slm
        return total, (mel, kl, out.duration_loss, out.stochastic_loss, adversarial, feature, slm)

    def _teach_judges(self, own: list[tuple[int, list[Clip]]], count: int, kept: _Spoken | None) -> float:
        """Let the discriminators learn from what the generator makes of the pieces; return their loss."""
        self.optimiser_d.zero_grad(set_to_none=True)
        measured = torch.zeros(1, dtype=torch.float64)
        for index, piece in own:
            with torch.no_grad():
                spoken = kept or self._speak(index, piece)
            made = spoken.out.audio.detach()
            with self._autocast():
                loss = discriminator_loss(*self.judge.compare(spoken.real, made))
            if self.wavlm:
                loss = loss + self.wavlm.judge_loss(spoken.real.squeeze(1), made.float().squeeze(1))
            self._check(loss)
            (loss / count).backward()
            measured += float(loss.detach()) / count
        self._descend(self.optimiser_d, self.config.clip_discriminator)
        return float(self.ranks.sum(measured))

    def _check(self, loss: Tensor) -> None:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at step {self.step}. Lower learning_rate, or turn bf16 off")

    def _descend(self, optimiser: torch.optim.Optimizer, limit: float) -> float:
        """Step along the gradients of all processes; return their norm before clipping."""
        parameters: list[nn.Parameter] = [p for group in optimiser.param_groups for p in group["params"]]
        self.ranks.sum_gradients(parameters)
        norm = float(nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], limit))
        optimiser.step()
        return norm

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights; young averages move faster."""
        if self._average:
            keep = min(self.config.average, (1 + self.step) / (10 + self.step))
            for average, parameter in zip(self._average, self.generator.parameters(), strict=True):
                average.lerp_(parameter, 1 - keep)

    @contextlib.contextmanager
    def averaged(self) -> collections.abc.Generator[None]:
        """Let the generator have its averaged weights for a while; nothing changes without an average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for average, parameter in zip(self._average, self.generator.parameters(), strict=False):
            held = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(held)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16)

    def save(self, path: Path, extra: dict[str, Any]) -> None:
        """Write everything that continuing needs, atomically.

        Raises:
            StorageError: The disk is full; the checkpoint before is kept.
        """
        state = {
            "step": self.step,
            "generator": self.generator.state_dict(),
            "judge": self.judge.state_dict(),
            "optimiser_g": self.optimiser_g.state_dict(),
            "optimiser_d": self.optimiser_d.state_dict(),
            "average": self._average,
            "wavlm": self.wavlm.judge.state_dict() if self.wavlm else {},
            "extra": extra,
        }
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as handle:
                torch.save(state, handle)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise storage_error(error, path) from error

    def load(self, path: Path) -> dict[str, Any]:
        """Take over a checkpoint of `save` and return its `extra`.

        Raises:
            ModelError: It is damaged or of another size.
        """
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
            self.generator.load_state_dict(state["generator"])
            self.judge.load_state_dict(state["judge"])
            if self.wavlm:
                self.wavlm.judge.load_state_dict(state["wavlm"])
            self.optimiser_g.load_state_dict(state["optimiser_g"])
            self.optimiser_d.load_state_dict(state["optimiser_d"])
        except (RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
            raise ModelError(f"{path}: the training checkpoint is damaged ({error}). Delete it to start over") from error
        self._average = [tensor.to(self.device) for tensor in state["average"]]
        self.step = int(state["step"])
        return state["extra"]
