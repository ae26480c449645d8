"""One training step of the voice, and the state that survives a kill.

Every step draws its random numbers from a seed of its own, so a run that continues from a checkpoint gives byte for byte
what an uninterrupted one gives (same machine, same number of threads).
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rplab.errors import ModelError, TrainingError
from rplab.jsonl import storage_error
from rplab.seeding import derive_seed
from rplab.tts.clips import Batch
from rplab.tts.losses import MEL_WEIGHT, adversarial_loss, discriminator_loss, feature_loss, kl_loss
from rplab.tts.mel import log_mel, mel_difference, mel_of, spectrogram
from rplab.tts.model.discriminator import Discriminator
from rplab.tts.model.generator import Generator, take_segments
from rplab.tts.model.hyper import VoiceSize
from rplab.tts.training_config import VoiceTrainConfig

_BETAS = (0.8, 0.99)
_EPS = 1e-9
_PARTS = {"bert": "enc_p.bert_proj", "style": "enc_p.style_proj", "decoder": "dec", "flow": "flow", "posterior": "enc_q"}


@dataclass(frozen=True)
class StepLosses:
    """What one step measured."""

    mel: float
    kl: float
    duration: float
    stochastic: float
    adversarial: float
    feature: float
    discriminator: float
    gradient: float


class Trainer:
    """Generator, discriminators and their optimisers."""

    def __init__(self, config: VoiceTrainConfig, size: VoiceSize, device: torch.device) -> None:
        """Build with weights drawn from the seed."""
        torch.manual_seed(derive_seed(config.seed, "voice_init"))
        self.config, self.size, self.device = config, size, device
        self.generator = Generator(size).to(device)
        self.judge = Discriminator(config.discriminator_width).to(device)
        for part in config.freeze:
            self.generator.get_submodule(_PARTS[part]).requires_grad_(False)
        trained = [p for p in self.generator.parameters() if p.requires_grad]
        self.optimiser_g = torch.optim.AdamW(trained, config.learning_rate, _BETAS, _EPS, fused=True)
        self.optimiser_d = torch.optim.AdamW(self.judge.parameters(), config.learning_rate, _BETAS, _EPS, fused=True)
        self._average = [p.detach().clone() for p in self.generator.parameters()] if config.average else []
        self.step = 0

    def learning_rate(self, epoch: int) -> float:
        """Return the rate of the current step: warm-up, decay per epoch, and a half cosine down to `final_rate`."""
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.step / config.max_steps))
        return config.learning_rate * warm * config.decay**epoch * (config.final_rate + (1 - config.final_rate) * cosine)

    def train_step(self, batch: Batch, epoch: int) -> StepLosses:
        """Run one step.

        Raises:
            TrainingError: A loss is no number.
        """
        torch.manual_seed(derive_seed(self.config.seed, "voice_step", self.step))
        for group in (*self.optimiser_g.param_groups, *self.optimiser_d.param_groups):
            group["lr"] = self.learning_rate(epoch)
        self.generator.train()
        audio_format, hop = self.size.audio, self.size.audio.hop_length
        batch = batch.to(self.device)
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
                durations=batch.durations if self.config.alignment == "forced" else None,
                noise_mas=max(0.0, self.config.noise_mas - self.config.noise_mas_decay * self.step),
                prior_share=self.config.prior_share if self.step >= self.config.prior_from else 0.0,
                prior_noise=self.config.prior_noise,
                text=self.step >= self.config.text_from,
                stochastic=self.step % self.config.stochastic_every == 0,
            )
        real_mel = take_segments(log_mel(magnitude, audio_format), out.starts, audio_format.segment_frames)
        made, real = out.audio.float(), take_segments(batch.audio.unsqueeze(1), out.starts * hop, audio_format.segment_samples)
        mel = (mel_of(made.squeeze(1), audio_format) - real_mel).abs().mean()
        for fft_size in self.config.mel_resolutions:
            mel = mel + mel_difference(made.squeeze(1), real.squeeze(1), audio_format, fft_size)
        mel = MEL_WEIGHT * mel / (1 + len(self.config.mel_resolutions))
        kl = kl_loss(out.z_p, out.logs_q, out.mean_p, out.logs_p, out.mask)
        total = mel + self.config.kl_weight * kl + out.duration_loss.float() + out.stochastic_loss.float()
        zero = torch.zeros(())
        adversarial, feature, judged = zero, zero, zero
        if self.step >= self.config.adversarial_from:
            judged = self._train_judge(real, out.audio)
            with self._autocast():
                verdict_real, verdict_made = self.judge.compare(real, out.audio)
            adversarial, feature = adversarial_loss(verdict_made), feature_loss(verdict_real, verdict_made)
            total = total + adversarial + feature
        gradient = self._descend(total, self.optimiser_g, self.generator, self.config.clip_generator)
        self.step += 1
        self._follow()
        values = (mel, kl, out.duration_loss, out.stochastic_loss, adversarial, feature, judged, torch.tensor(gradient))
        return StepLosses(*(round(float(value.detach()), 5) for value in values))

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights; young averages move faster."""
        if self._average:
            keep = min(self.config.average, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self._average, [p.detach() for p in self.generator.parameters()], 1 - keep)

    @torch.no_grad()
    def _exchange(self) -> None:
        for average, parameter in zip(self._average, self.generator.parameters(), strict=False):
            held = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(held)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the generator have its averaged weights for a while; nothing changes without an average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _train_judge(self, real: Tensor, made: Tensor) -> Tensor:
        with self._autocast():
            loss = discriminator_loss(*self.judge.compare(real, made.detach()))
        self._descend(loss, self.optimiser_d, self.judge, self.config.clip_discriminator)
        return loss.detach()

    def _descend(self, loss: Tensor, optimiser: torch.optim.Optimizer, module: nn.Module, limit: float) -> float:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at step {self.step}. Lower learning_rate, or turn bf16 off")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_([p for p in module.parameters() if p.grad is not None], limit))
        optimiser.step()
        return norm

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
            self.optimiser_g.load_state_dict(state["optimiser_g"])
            self.optimiser_d.load_state_dict(state["optimiser_d"])
        except (RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
            raise ModelError(f"{path}: the training checkpoint is damaged ({error}). Delete it to start over") from error
        self._average = [tensor.to(self.device) for tensor in state["average"]]
        self.step = int(state["step"])
        return state["extra"]
