"""Stage `voice_train`: prepared clips -> a trained generator.

Inputs: `data` (of `voice_preprocess`) and optionally `base`, a folder with `G_0.safetensors` and `D_0.safetensors` of the
family or a `generator.safetensors` of ours. Output: `generator.safetensors` (the best by validation, with posterior),
`discriminator.safetensors`, `config.json`, `style_vectors.npy`, `samples/*.wav`, `evaluation.json`, `report.md`, and
`logs/metrics.jsonl`.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rplab.errors import ConfigError, DataError, ModelError
from rplab.jsonl import dumps, read_rows, write_text
from rplab.stage import StageContext, Stats
from rplab.tts.board import Board
from rplab.tts.cepstra import mel_cepstral_distance
from rplab.tts.checkpoint_io import load_weights, read_weights, save_weights
from rplab.tts.clips import Clip, VoiceData, align_clips, collate, epoch_batches, load_data
from rplab.tts.engine import Samples
from rplab.tts.mel import mel_of, spectrogram
from rplab.tts.model.generator import Generator, align
from rplab.tts.model.hyper import VoiceSize
from rplab.tts.ranks import join_ranks, own_device
from rplab.tts.trainer import Trainer
from rplab.tts.training_config import SIZES, VoiceTrainConfig
from rplab.tts.wav import write_wav

logger = logging.getLogger(__name__)

GENERATOR = "generator.safetensors"
DISCRIMINATOR = "discriminator.safetensors"
SHIPPED = Path(__file__).parent.parent / "voices"
"""Voices that come with the package."""
_CHECKPOINT = "checkpoint.pt"
_BEST = "best.safetensors"
_METRICS = "metrics.jsonl"
_BOARD = "tensorboard"
_MAX_VALIDATION = 5
"""Sentences spoken at a validation; more would cost more than they tell."""


def train_voice(config: VoiceTrainConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Train; see the module.

    Raises:
        DataError: The data were prepared for another size.
        ModelError: A base checkpoint does not fit.
        TrainingError: The training diverged.
        StageInterrupted: A stop was asked for; the checkpoint is saved.
    """
    data = load_data(inputs["data"])
    if config.alignment == "forced":
        data = replace(data, train=align_clips(data.train, data.config.size.audio))
    size = data.config.size
    if size.audio != SIZES[config.size].audio:
        raise DataError(
            f"the data are prepared for {size.audio.sample_rate} Hz, training wants size {config.size!r}",
            remedy="Set the same `size` in voice_preprocess and voice_train",
        )
    device = own_device()
    ranks = join_ranks(device)
    if config.pieces % ranks.world:
        raise ConfigError(f"{config.pieces} pieces cannot be shared by {ranks.world} processes. Set pieces to a multiple of them")
    trainer = Trainer(config, size, device, ranks=ranks, wavlm=inputs.get("wavlm"))
    run = _Run(config, data, trainer, context)
    run.start(inputs.get("base") or find_base(config.base))
    run.train()
    return run.publish(inputs["data"]) if ranks.first else {"rank": ranks.rank}


class _Run:
    """The loop around the steps: order of batches, validation, checkpoints."""

    def __init__(self, config: VoiceTrainConfig, data: VoiceData, trainer: Trainer, context: StageContext) -> None:
        self.config, self.data, self.trainer, self.context = config, data, trainer, context
        self.validations: list[dict[str, float]] = []
        self.base = "none"
        self.checkpoint = context.resume / _CHECKPOINT
        self.first = trainer.ranks.first
        self.board = Board(context.resume / _BOARD) if config.tensorboard and self.first else None

    def start(self, base: Path | None) -> None:
        """Continue from the checkpoint when there is one, else from the base, else from nothing."""
        if self.checkpoint.is_file():
            extra = self.trainer.load(self.checkpoint)
            self.validations, self.base = extra["validations"], extra["base"]
            if self.first:
                self._forget_metrics_after(self.trainer.step)
            logger.info("continuing at step %d", self.trainer.step)
            return
        if base is not None:
            self.base = load_base(self.trainer, base)
        self.trainer.ranks.wait()  # nobody looks for a checkpoint any more
        self._validate()
        self._save()

    def train(self) -> None:
        """Run until `max_steps`."""
        config, trainer = self.config, self.trainer
        per_epoch = len(epoch_batches(self.data.train, config.batch_size, config.seed, 0))
        batches: list[list[Clip]] = []
        current = -1
        while trainer.step < config.max_steps:
            epoch, index = divmod(trainer.step, per_epoch)
            if epoch != current:
                batches, current = epoch_batches(self.data.train, config.batch_size, config.seed, epoch), epoch
            started = time.monotonic()
            losses = trainer.train_step(batches[index], epoch)
            self._log({"step": trainer.step, "epoch": epoch, **asdict(losses), "step_s": round(time.monotonic() - started, 3)})
            self.context.progress(trainer.step, config.max_steps, f"steps; mel loss {losses.mel:.1f}")
            last = trainer.step == config.max_steps
            if trainer.step % config.evaluate_every == 0 or last:
                self._validate()
            stopping = trainer.ranks.agree(self.context.stop.is_set())
            if trainer.step % config.save_every == 0 or last or stopping:
                self._save()
            if stopping:
                self.context.stop.set()
            self.context.check_stop()

    def _validate(self) -> None:
        if not self.first:
            return
        with self.trainer.averaged():
            distance = validation_distance(self.trainer.generator, self.data.validation[:_MAX_VALIDATION])
            self.validations.append({"step": self.trainer.step, "mcd": round(distance, 4)})
            if distance <= min(entry["mcd"] for entry in self.validations) + 1e-4:
                save_weights(self.context.resume / _BEST, self.trainer.generator.state_dict(), {"step": str(self.trainer.step)})
            if self.board:
                show_clip(self.board, self.trainer.generator, self.data.validation[0], self.trainer.step)
        logger.info("step %d: validation MCD %.2f dB", self.trainer.step, distance)
        self._log({"step": self.trainer.step, "mcd": round(distance, 4)})

    def _save(self) -> None:
        if self.first:
            self.trainer.save(self.checkpoint, {"validations": self.validations, "base": self.base})

    def _log(self, row: dict[str, float]) -> None:
        if not self.first:
            return
        if self.board:
            self.board.numbers(row, self.trainer.step)
        with (self.context.resume / _METRICS).open("a", encoding="utf-8") as handle:
            handle.write(dumps(row) + "\n")

    def _forget_metrics_after(self, step: int) -> None:
        """Drop what a killed run measured after its last checkpoint: those steps run again."""
        path = self.context.resume / _METRICS
        kept = [dumps(row) + "\n" for _, row in read_rows(path) if row["step"] <= step] if path.is_file() else []
        write_text(path, kept)

    def publish(self, data_folder: Path) -> Stats:
        """Write the results."""
        out = self.context.out
        best = min(self.validations, key=lambda entry: entry["mcd"])
        state, _ = read_weights(self.context.resume / _BEST)
        self.trainer.generator.load_state_dict(state)
        save_weights(out / GENERATOR, state)
        save_weights(out / DISCRIMINATOR, self.trainer.judge.state_dict())
        for name in ("config.json", "style_vectors.npy"):
            shutil.copy(data_folder / name, out / name)
        for clip in self.data.validation[:_MAX_VALIDATION]:
            made = speak_clip(self.trainer.generator, clip)
            write_wav(out / "samples" / f"{clip.name}.wav", made, self.trainer.size.audio.sample_rate)
        (out / "logs").mkdir(exist_ok=True)
        shutil.copy(self.context.resume / _METRICS, out / "logs" / _METRICS)
        if self.board:
            self.board.close()
            shutil.copytree(self.context.resume / _BOARD, out / "logs" / _BOARD)
        evaluation: Stats = {
            "initial_mcd": self.validations[0]["mcd"],
            "best_mcd": best["mcd"],
            "best_step": best["step"],
            "steps": self.trainer.step,
            "base": self.base,
            "parameters": sum(p.numel() for p in self.trainer.generator.parameters()),
        }
        write_text(out / "evaluation.json", json.dumps({**evaluation, "validations": self.validations}, indent=1) + "\n")
        write_text(out / "report.md", _report(evaluation, self.validations, self.data.validation[:_MAX_VALIDATION]))
        return evaluation


def find_base(name: str | None) -> Path | None:
    """Return the folder of `VoiceTrainConfig.base`: a shipped voice by name, or a folder of the user's.

    Raises:
        ModelError: Neither.
    """
    if name is None:
        return None
    shipped = SHIPPED / name
    folder = shipped if shipped.is_dir() else Path(name).expanduser()
    if not folder.is_dir():
        names = ", ".join(sorted(path.name for path in SHIPPED.glob("*/") if path.is_dir())) or "none"
        raise ModelError(f"voice base {name!r}: no such folder and no shipped voice. Shipped: {names}; or give the folder of a checkpoint")
    return folder


def load_base(trainer: Trainer, folder: Path) -> str:
    """Start from a base; return one line saying what was loaded.

    Raises:
        ModelError: No generator in the folder, or it does not fit beyond the speaker table.
    """
    own = folder / GENERATOR
    report = load_weights(trainer.generator, own if own.is_file() else folder / "G_0.safetensors", allow_speakers=True)
    lines = [str(report)]
    judge = folder / DISCRIMINATOR if own.is_file() else folder / "D_0.safetensors"
    if judge.is_file():
        lines.append(str(load_weights(trainer.judge, judge)))
    else:
        logger.warning("%s: no such file; the discriminators start from nothing", judge)
        lines.append("discriminators from nothing")
    speech_judge = folder / "WD_0.safetensors"
    if trainer.wavlm and speech_judge.is_file():
        lines.append(str(load_weights(trainer.wavlm.judge, speech_judge)))
    return "; ".join(lines)


def speak_clip(generator: Generator, clip: Clip) -> Samples:
    """Speak a clip's text without noise."""
    size: VoiceSize = generator.size
    batch = collate([clip], size.audio.hop_length).to(next(generator.parameters()).device)
    generator.eval()
    audio, _ = generator.infer(
        batch.phones,
        batch.tones,
        batch.languages,
        batch.bert,
        batch.style,
        batch.speakers,
        noise_duration=torch.zeros(1, 2, batch.phones.shape[1], device=batch.phones.device),
        noise_latent=torch.zeros(1, size.inter_channels, 1, device=batch.phones.device),
        sdp_ratio=0.0,
    )
    return audio[0, 0].float().cpu().numpy()


def show_clip(board: Board, generator: Generator, clip: Clip, step: int) -> None:
    """Show how a clip is spoken beside its recording, and which frames the text is given."""
    size = generator.size.audio
    spoken, real = speak_clip(generator, clip), np.load(clip.audio).astype(np.float32) / 32768.0
    for name, sound in (("spoken", spoken), ("recording", real)):
        board.picture(f"mel/{name}", mel_of(torch.from_numpy(sound)[None], size)[0].numpy(), step)
        board.sound(f"sound/{name}", sound, size.sample_rate, step)
    board.picture("alignment", alignment_of(generator, clip), step)


@torch.no_grad()
def alignment_of(generator: Generator, clip: Clip) -> NDArray[np.float32]:
    """Return the alignment (tokens, frames) that the network finds between a clip's text and recording."""
    generator.eval()
    size = generator.size.audio
    batch = collate([clip], size.hop_length).to(next(generator.parameters()).device)
    magnitude = spectrogram(batch.audio, size)[:, :, : clip.frames]
    speaker = generator.speaker(batch.speakers)
    masks = (torch.ones_like(batch.phones[:, None], dtype=torch.float32), torch.ones_like(magnitude[:, :1]))
    _, mean, logs = generator.enc_p(batch.phones, batch.tones, batch.languages, batch.bert, batch.style, masks[0], speaker)
    z_p = generator.flow(generator.enc_q(magnitude, masks[1], speaker)[0], masks[1], speaker)
    return align(z_p, mean, logs, batch.frame_lengths, batch.phone_lengths, 0.0)[0].T.cpu().numpy()


def validation_distance(generator: Generator, clips: list[Clip]) -> float:
    """Return the mean mel-cepstral distance (dB) of spoken clips to their recordings."""
    audio_format = generator.size.audio
    distances: list[float] = []
    for clip in clips:
        real = np.load(clip.audio).astype(np.float32) / 32768.0
        pair = [mel_of(torch.from_numpy(sound)[None], audio_format)[0].numpy() for sound in (speak_clip(generator, clip), real)]
        distances.append(mel_cepstral_distance(pair[0], pair[1]))
    return float(np.mean(distances))


def _report(evaluation: Stats, validations: list[dict[str, float]], clips: list[Clip]) -> str:
    lines = ["# Voice training", "", *(f"- {name}: {value}" for name, value in evaluation.items())]
    lines += ["", "| step | validation MCD (dB) |", "|---|---|", *(f"| {v['step']} | {v['mcd']:.2f} |" for v in validations)]
    lines += ["", "Spoken at the end:", "", *(f"- `samples/{clip.name}.wav`: {clip.text}" for clip in clips)]
    return "\n".join(lines) + "\n"
