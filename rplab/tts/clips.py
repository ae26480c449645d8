"""Prepared clips as training batches; the order of batches is a function of seed and step alone."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rplab.errors import DataError
from rplab.jsonl import read_rows
from rplab.seeding import derive
from rplab.tts.forced_alignment import align_corpus, spectral_features
from rplab.tts.g2p import Reading, phone_ids
from rplab.tts.mel import mel_of
from rplab.tts.model.hyper import AudioFormat, VoiceConfigFile, from_family
from rplab.tts.symbols import BERT_CHANNELS
from rplab.tts.word2ph import expand_features

logger = logging.getLogger(__name__)

_BUCKET_BATCHES = 8
"""Clips are sorted by length within groups of this many batches, so that little is padded."""


@dataclass(frozen=True)
class Clip:
    """One clip; arrays are loaded when a batch needs them."""

    name: str
    text: str
    phones: list[int]
    tones: list[int]
    languages: list[int]
    word2ph: list[int]
    speaker: int
    frames: int
    audio: Path
    bert: Path | None
    style: Tensor
    """(256,)."""
    durations: tuple[int, ...] = ()
    """Frames of each token where an alignment was made beforehand."""


@dataclass(frozen=True)
class VoiceData:
    """Everything that preprocessing made."""

    config: VoiceConfigFile
    styles: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    train: list[Clip]
    validation: list[Clip]


@dataclass(frozen=True)
class Batch:
    """Tensors of several clips, padded with zeros."""

    phones: Tensor
    phone_lengths: Tensor
    tones: Tensor
    languages: Tensor
    bert: Tensor
    style: Tensor
    audio: Tensor
    """(B, samples)."""
    frame_lengths: Tensor
    speakers: Tensor
    durations: Tensor
    """(B, T) frames of each token; zeros where no alignment was made."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


def load_data(folder: Path) -> VoiceData:
    """Read what `voice_preprocess` wrote.

    Raises:
        DataError: A file is missing or a row is damaged.
    """
    config = from_family(folder / "config.json")
    clips: dict[str, list[Clip]] = {"train": [], "validation": []}
    for number, row in read_rows(folder / "clips.jsonl"):
        try:
            clips[row["split"]].append(_clip(row, folder, config))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"damaged row ({error})", file=folder / "clips.jsonl", line=number, remedy="Run voice_preprocess again"
            ) from None
    if not clips["train"]:
        raise DataError("no clip to train on", file=folder / "clips.jsonl", remedy="Run voice_preprocess again")
    return VoiceData(config, np.load(folder / "style_vectors.npy"), clips["train"], clips["validation"])


def _clip(row: dict[str, object], folder: Path, config: VoiceConfigFile) -> Clip:
    raw = json.loads(json.dumps(row))
    reading = Reading(raw["text"], tuple(raw["phones"]), tuple(raw["tones"]), tuple(raw["word2ph"]), {}, {})
    ids = phone_ids(reading)
    bert = folder / "bert" / f"{raw['id']}.npy"
    return Clip(
        name=raw["id"],
        text=raw["text"],
        phones=ids.phones,
        tones=ids.tones,
        languages=ids.languages,
        word2ph=ids.word2ph,
        speaker=config.speakers[raw["speaker"]],
        frames=int(raw["frames"]),
        audio=folder / "clips" / f"{raw['id']}.npy",
        bert=bert if bert.is_file() else None,
        style=torch.tensor(raw["style_vector"], dtype=torch.float32),
    )


def epoch_batches(clips: list[Clip], batch_size: int, seed: int, epoch: int) -> list[list[Clip]]:
    """Return the batches of one epoch: shuffled, similar lengths together, shuffled again; every clip once."""
    draw = derive(seed, "epoch", epoch)
    order = clips[:]
    draw.shuffle(order)
    batches: list[list[Clip]] = []
    group = batch_size * _BUCKET_BATCHES
    for start in range(0, len(order), group):
        bucket = sorted(order[start : start + group], key=lambda clip: (clip.frames, clip.name))
        batches += [bucket[index : index + batch_size] for index in range(0, len(bucket), batch_size)]
    draw.shuffle(batches)
    return batches


def collate(clips: list[Clip], hop: int) -> Batch:
    """Load and pad clips."""
    audio = [torch.from_numpy(np.load(clip.audio).astype(np.float32) / 32768.0)[: clip.frames * hop] for clip in clips]
    longest = max(len(clip.phones) for clip in clips)
    bert = torch.zeros(len(clips), BERT_CHANNELS, longest)
    for index, clip in enumerate(clips):
        if clip.bert is not None:
            features = expand_features(np.load(clip.bert).astype(np.float32), clip.word2ph)
            bert[index, :, : features.shape[1]] = torch.from_numpy(features)
    phones, tones, languages = (
        torch.tensor([[*row, *([0] * (longest - len(row)))] for row in rows])
        for rows in ([c.phones for c in clips], [c.tones for c in clips], [c.languages for c in clips])
    )
    return Batch(
        phones=phones,
        phone_lengths=torch.tensor([len(clip.phones) for clip in clips]),
        tones=tones,
        languages=languages,
        bert=bert,
        style=torch.stack([clip.style for clip in clips]),
        audio=torch.nn.utils.rnn.pad_sequence(audio, batch_first=True),
        frame_lengths=torch.tensor([clip.frames for clip in clips]),
        speakers=torch.tensor([clip.speaker for clip in clips]),
        durations=torch.tensor([[*clip.durations, *([0] * (longest - len(clip.durations)))] for clip in clips]),
    )


def align_clips(clips: list[Clip], audio_format: AudioFormat) -> list[Clip]:
    """Return the clips with the durations that `forced_alignment` finds; about five seconds for an hour of speech."""

    def features(clip: Clip) -> NDArray[np.float32]:
        audio = torch.from_numpy(np.load(clip.audio).astype(np.float32) / 32768.0)[: clip.frames * audio_format.hop_length]
        return spectral_features(mel_of(audio[None], audio_format)[0].numpy())

    report = align_corpus([features(clip) for clip in clips], [clip.phones for clip in clips])
    logger.info("aligned %d clips; log-likelihood of a frame %.2f -> %.2f", len(clips), report.log_likelihood[0], report.log_likelihood[-1])
    return [replace(clip, durations=tuple(row)) for clip, row in zip(clips, report.durations, strict=True)]
