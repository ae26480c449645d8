"""Speech from ONNX graphs, without torch: one reading in, pieces of sound out.

`SplitVoice` (our export) draws its noise from a seed, rounds durations itself and decodes in pieces: a frame depends on
`overlap_frames` neighbours, so pieces with that overlap put together equal one decoding of the whole. Pieces grow, so
that the first sound comes early and later ones cost little. Each core decodes a piece of its own: onnxruntime's threads
gain a third on this decoder (its time axis is not what they divide), whole pieces side by side gain nearly all of it.
`MonoVoice` runs graphs made elsewhere: one piece a sentence, noise inside the graph.

To add a graph form: a class with `speak`, chosen in `open_model`.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rplab.errors import AudioError, ModelError
from rplab.seeding import derive_seed
from rplab.tts.g2p import Reading, phone_ids
from rplab.tts.model.hyper import VoiceSize
from rplab.tts.session import Device, Graph
from rplab.tts.symbols import BERT_CHANNELS
from rplab.tts.voice_folder import VoiceFiles
from rplab.tts.word2ph import expand_features

logger = logging.getLogger(__name__)

FloatArray: TypeAlias = NDArray[np.float32]
FIRST_PIECES = {1: (16, 28), 2: (12, 28)}
"""Frames of the first pieces on one core and on more; each later one is twice as long as the one before it.
A piece must be ready before the one before it was played: on one core, at RTF 0.4 and with the overlap, 16 then 28."""
LONGEST_PIECE = 64
"""Frames; longer ones are no faster (measured: what is beside a piece is cut early), and two at once take 35 MB."""
_FRAMES_AT_ONCE = 256
"""Frames that all cores decode at the same time when nobody waits for the first; each takes a quarter of a megabyte."""
_CRUMB = 16
"""A shorter last piece joins the one before it: it would cost two overlaps for nothing."""
_MAX_WORKERS = 4
MAX_PHONE_S = 2.0
"""No phone lasts longer; a broken voice would otherwise ask for hours."""
MONO_INPUTS = (
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
_OTHER_NAMES = ("x", "x_lengths", "tone")
"""How some exporters of the family (HayaKoe) name x_tst, x_tst_lengths and tones."""


@dataclass(frozen=True)
class SpeechRequest:
    """How one sentence is to be spoken."""

    style: FloatArray
    """(256,)."""
    speaker: int = 0
    length_scale: float = 1.0
    """Above 1 is slower."""
    sdp_ratio: float = 0.2
    """0 = plain durations, 1 = stochastic ones."""
    noise: float = 0.6
    noise_duration: float = 0.8
    seed: int = 42


@dataclass(frozen=True)
class NetworkInput:
    """One sentence as arrays."""

    phones: NDArray[np.int64]
    tones: NDArray[np.int64]
    languages: NDArray[np.int64]
    bert: FloatArray
    """(1, 1024, T)."""
    key: str
    """Names the sentence for its seed."""


class VoiceModel(Protocol):
    """A loaded voice network."""

    size: VoiceSize

    def speak(self, sentence: NetworkInput, request: SpeechRequest) -> Iterator[FloatArray]:
        """Yield the sound of one sentence in pieces of shape (samples,), as soon as each is there."""
        ...

    def speak_whole(self, sentence: NetworkInput, request: SpeechRequest) -> FloatArray:
        """Return all of it; equal to the pieces of `speak` within 1e-6."""
        ...

    def close(self) -> None:
        """Free threads. Calling it twice is fine."""
        ...


def prepare(reading: Reading, features: FloatArray | None) -> NetworkInput:
    """Return the arrays of a reading.

    Args:
        reading: One sentence.
        features: (len(text) + 2, 1024) from BERT; None speaks without (zeros).
    """
    ids = phone_ids(reading)
    zeros = np.zeros((BERT_CHANNELS, len(ids.phones)), dtype=np.float32)
    bert = zeros if features is None else expand_features(features, ids.word2ph)
    phones, tones, languages = (np.array([row], dtype=np.int64) for row in (ids.phones, ids.tones, ids.languages))
    return NetworkInput(phones, tones, languages, bert[None], reading.text)


class SplitVoice:
    """Encoder, flow and decoder as three graphs."""

    def __init__(
        self, paths: tuple[Path, Path, Path], size: VoiceSize, *, device: Device = "cpu", threads: int = 0, spin: bool = False
    ) -> None:
        """Load the graphs.

        Raises:
            ModelError: One of them is missing, corrupt or of another kind.
        """
        self.size = size
        self._encoder, self._flow = (Graph(path, device=device, threads=threads, spin=spin) for path in paths[:2])
        self._workers = 1 if self._flow.provider.startswith("CUDA") else min(_MAX_WORKERS, threads or _num_cores())
        self._decoder = Graph(paths[2], device=device, threads=1)
        self._pool = ThreadPoolExecutor(self._workers, "decode") if self._workers > 1 else None
        encoder_inputs = ("phones", "tones", "languages", "bert", "style", "speaker_id", "duration_noise", "sdp_ratio")
        self._encoder.require(encoder_inputs, "encoder")
        self._flow.require(("z_prior", "speaker"), "flow")
        self._decoder.require(("z", "speaker"), "decoder")
        self._cuts = "beside" in self._decoder.optional_names  # else exported by an earlier version
        self._max_frames = max(1, round(MAX_PHONE_S * size.audio.sample_rate / size.audio.hop_length))

    def speak(self, sentence: NetworkInput, request: SpeechRequest) -> Iterator[FloatArray]:
        """Yield the sound piece by piece; with several cores the next pieces are decoded meanwhile."""
        z, speaker = self.latent(sentence, request)
        pieces = plan_pieces(z.shape[2], self._workers)
        if self._pool is None:
            for start, end in pieces:
                yield self.decode(z, speaker, start, end)
            return
        waiting: deque[Future[FloatArray]] = deque()
        try:
            for start, end in pieces:
                waiting.append(self._pool.submit(self.decode, z, speaker, start, end))
                if len(waiting) == self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the listener left: what has not begun need not be decoded
                future.cancel()

    def speak_whole(self, sentence: NetworkInput, request: SpeechRequest) -> FloatArray:
        """Return the sound of a sentence that nobody waits for: one equal piece a core, the least work in all."""
        z, speaker = self.latent(sentence, request)
        num_frames = z.shape[2]
        rounds = -(-num_frames // _FRAMES_AT_ONCE)
        shares = rounds * self._workers if num_frames >= _CRUMB * self._workers else 1
        bounds = [num_frames * share // shares for share in range(shares + 1)]

        def decode(start: int, end: int) -> FloatArray:
            return self.decode(z, speaker, start, end)

        walk = map if self._pool is None or shares == 1 else self._pool.map
        return np.concatenate(list(walk(decode, bounds[:-1], bounds[1:])))

    def close(self) -> None:
        """Let the decoding threads go."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def latent(self, sentence: NetworkInput, request: SpeechRequest) -> tuple[FloatArray, FloatArray]:
        """Return the latent frames (1, C, S) and the speaker vector (1, C, 1) of a sentence."""
        generator = np.random.Generator(np.random.PCG64(derive_seed(request.seed, "voice", sentence.key)))
        num_phones = sentence.phones.shape[1]
        duration_noise = generator.standard_normal((1, 2, num_phones), dtype=np.float32) * request.noise_duration
        mean, logs, log_duration, speaker = self._encoder.run(
            {
                "phones": sentence.phones,
                "tones": sentence.tones,
                "languages": sentence.languages,
                "bert": sentence.bert,
                "style": request.style[None],
                "speaker_id": [request.speaker],
                "duration_noise": duration_noise,
                "sdp_ratio": [request.sdp_ratio],
            }
        )
        frames = self._round_durations(log_duration[0, 0], request.length_scale)
        mean, logs = np.repeat(mean, frames, axis=2), np.repeat(logs, frames, axis=2)
        z_prior = mean + generator.standard_normal(mean.shape, dtype=np.float32) * np.exp(logs) * np.float32(request.noise)
        return self._flow.run({"z_prior": z_prior, "speaker": speaker})[0], speaker

    def _round_durations(self, log_duration: FloatArray, length_scale: float) -> NDArray[np.int64]:
        with np.errstate(over="ignore"):
            wanted = np.ceil(np.exp(log_duration) * length_scale)
        frames = np.clip(np.nan_to_num(wanted, nan=1.0, posinf=self._max_frames), 0, self._max_frames).astype(np.int64)
        if (cut := int((wanted > self._max_frames).sum())) > 0:
            logger.warning("%d phones were longer than %g s and were cut: the voice is hardly trained or broken", cut, MAX_PHONE_S)
        if not frames.any():
            frames[:1] = 1
        return frames

    def decode(self, z: FloatArray, speaker: FloatArray, start: int, end: int) -> FloatArray:
        """Return the samples of frames start..end, exactly as in one decoding of all frames."""
        overlap, hop = self.size.overlap_frames, self.size.audio.hop_length
        first, last = max(0, start - overlap), min(z.shape[2], end + overlap)
        feed = {"z": z[:, :, first:last], "speaker": speaker, "beside": [start - first, last - end]}
        audio = self._decoder.run(feed, again=end < z.shape[2])[0][0, 0]
        if self._cuts:
            return audio
        return audio[(start - first) * hop : (end - first) * hop]


class MonoVoice:
    """One graph with the family's signature."""

    def __init__(self, path: Path, size: VoiceSize, *, device: Device = "cpu", threads: int = 0, spin: bool = False) -> None:
        """Load the graph.

        Raises:
            ModelError: Missing, corrupt or with other inputs.
        """
        self.size = size
        self._graph = Graph(path, device=device, threads=threads, spin=spin)
        self._graph.require((*MONO_INPUTS, *_OTHER_NAMES), "JP-Extra voice")

    def speak(self, sentence: NetworkInput, request: SpeechRequest) -> Iterator[FloatArray]:
        """Yield the sound in one piece; the graph draws its own noise, so equal seeds need not give equal sound."""
        audio = self._graph.run(
            {
                "x_tst": sentence.phones,
                "x": sentence.phones,
                "x_tst_lengths": [sentence.phones.shape[1]],
                "x_lengths": [sentence.phones.shape[1]],
                "sid": [request.speaker],
                "tones": sentence.tones,
                "tone": sentence.tones,
                "language": sentence.languages,
                "bert": sentence.bert,
                "style_vec": request.style[None],
                "length_scale": request.length_scale,
                "sdp_ratio": request.sdp_ratio,
                "noise_scale": request.noise,
                "noise_scale_w": request.noise_duration,
            }
        )[0]
        yield audio.reshape(-1)

    def speak_whole(self, sentence: NetworkInput, request: SpeechRequest) -> FloatArray:
        """Return the one piece."""
        return next(self.speak(sentence, request))

    def close(self) -> None:
        """Nothing to free."""


def plan_pieces(num_frames: int, workers: int = 1) -> list[tuple[int, int]]:
    """Return (start, end) of the pieces in which `num_frames` frames are decoded by so many cores at once."""
    pieces: list[tuple[int, int]] = []
    start, (length, later) = 0, FIRST_PIECES[min(2, workers)]
    while start < num_frames:
        end = min(num_frames, start + length)
        if num_frames - end < _CRUMB:
            end = num_frames
        pieces.append((start, end))
        start, length, later = end, later, min(LONGEST_PIECE, 2 * later)
    return pieces


def _num_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_model(files: VoiceFiles, *, device: Device = "cpu", threads: int = 0, spin: bool = False) -> VoiceModel:
    """Load the graphs of a voice: split when it loads, else mono, with one notice.

    Raises:
        ModelError: Neither works.
    """
    if files.split is not None:
        try:
            return SplitVoice(files.split, files.config.size, device=device, threads=threads, spin=spin)
        except ModelError as error:
            if files.mono is None:
                raise
            logger.warning("%s is used instead of the split graphs: %s", files.mono.name, error)
    if files.mono is None:
        raise AudioError(f"{files.path}: no ONNX model in it")
    return MonoVoice(files.mono, files.config.size, device=device, threads=threads, spin=spin)
