"""One recording -> clips: reading, sound, BERT features and style vector; or the reason why it cannot be used.

Recordings without a text are cut at pauses and understood by an ASR model. What a recording became is kept in the resume
folder under everything it was made from, so a killed run does no recording twice. `ClipMaker.make` may be called from
several threads; what it returns does not depend on the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rplab.errors import AudioError, DataError
from rplab.jsonl import canonical, write_text
from rplab.tts.bert import BertFeatures
from rplab.tts.engine import Samples
from rplab.tts.frontend import normalise
from rplab.tts.g2p import Reading, UnknownPolicy, read_or_skip
from rplab.tts.judges import Transcribe
from rplab.tts.model.hyper import VoiceSize
from rplab.tts.recordings import Transcript, read_audio
from rplab.tts.resample import resample
from rplab.tts.signal import rms_dbfs, trim_edges
from rplab.tts.style import style_vector
from rplab.tts.training_config import VoicePreprocessConfig
from rplab.tts.voice_activity import LONGEST_S, SHORTEST_S, Detector, find_segments

CLIPS = "clips"
BERT = "bert"
LOWEST_HZ = 8_000
HIGHEST_HZ = 192_000
_DONE = "done"
_LOWEST_DBFS = -60.0
_MARGIN_S = 0.1
_LONGEST_PHONE_S = 0.5
"""Seconds a phone, over a whole slice, that no speech takes; it is near 0.1."""


@dataclass(frozen=True)
class Rejected:
    """Why a recording, or a slice of it, was set aside."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Made:
    """What a recording became."""

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """One a clip; its files lie in the resume folder."""
    rejects: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class ClipMaker:
    """Makes clips of recordings with one set of settings and models."""

    def __init__(
        self,
        config: VoicePreprocessConfig,
        size: VoiceSize,
        root: Path,
        keep: Path,
        *,
        bert: BertFeatures | None = None,
        encode: Callable[[Samples, int], NDArray[np.float32]] = style_vector,
        detector: Detector | None = None,
        transcribe: Transcribe | None = None,
    ) -> None:
        """Set up.

        Args:
            config: Settings.
            size: Of the network: sample rate and frames.
            root: Folder of the recordings; only read.
            keep: Resume folder; gets `clips/`, `bert/` and what is done.
            bert: Features a character; None leaves them out.
            encode: (samples, Hz) -> (256,) style vector.
            detector: Voice activity, for recordings without a text.
            transcribe: ASR, for the same; both or none.
        """
        self._config = config
        self._size = size
        self._root = root
        self._keep = keep
        self._bert = bert
        self._encode = encode
        self._detector = detector
        self._transcribe = transcribe
        self._reading_lock = threading.Lock()
        self._asr_lock = threading.Lock()
        self._settings = canonical([config.key_fields(), config.outside(), asdict(size), bert is not None, detector and detector.name])

    def make(self, transcript: Transcript) -> Made:
        """Return the clips of a recording, made now or in an earlier run with the same settings.

        Raises:
            UnreadableError: Its text has characters without a reading, under `unknown = raise`.
        """
        path = self._root / transcript.file
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        kept = self._keep / _DONE / f"{_name(transcript.file)}.json"
        made_from = hashlib.sha256(canonical([self._settings, asdict(transcript), digest]).encode()).hexdigest()
        if (made := _read_kept(kept, made_from)) is not None:
            return made
        made = self._with_text(transcript, path, digest) if transcript.text else self._without_text(transcript, path, digest)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps({"made_from": made_from, **asdict(made)}, ensure_ascii=False))
        return made

    def _with_text(self, transcript: Transcript, path: Path, digest: str) -> Made:
        reading = self._read(transcript.text, self._config.unknown)
        if isinstance(reading, Rejected):
            return Made(rejects=[_reject(transcript, reading)])
        sound = _load(path)
        if isinstance(sound, Rejected):
            return Made(rejects=[_reject(transcript, sound)])
        outcome = self._clip(_name(transcript.file), reading, *sound)
        if isinstance(outcome, Rejected):
            return Made(rejects=[_reject(transcript, outcome)])
        return Made(rows=[{**outcome, "file": transcript.file, "speaker": transcript.speaker, "style": transcript.style, "sha256": digest}])

    def _without_text(self, transcript: Transcript, path: Path, digest: str) -> Made:
        if self._detector is None or self._transcribe is None:
            raise ValueError(f"{transcript.file} has no text, and there is no ASR")
        sound = _load(path)
        if isinstance(sound, Rejected):
            return Made(rejects=[_reject(transcript, sound)])
        samples, rate = sound
        longest = min(LONGEST_S, self._config.max_s)
        segments = find_segments(samples, rate, self._detector, longest_s=longest, shortest_s=min(SHORTEST_S, longest / 2))
        made = Made(rejects=[] if segments else [_reject(transcript, Rejected("no_speech", f"{self._detector.name} heard nobody speak"))])
        for start, end in segments:
            where = {"from_s": round(start / rate, 3), "to_s": round(end / rate, 3)}
            outcome = self._slice(f"{transcript.file}#{start}", samples[start:end], rate)
            if isinstance(outcome, Rejected):
                made.rejects.append({**_reject(transcript, outcome), **where})
            else:
                names = {"file": transcript.file, "speaker": transcript.speaker, "style": transcript.style, "sha256": digest}
                made.rows.append({**outcome, **names, **where, "transcribed": True})
        return made

    def _slice(self, name: str, samples: Samples, rate: int) -> dict[str, Any] | Rejected:
        assert self._transcribe is not None
        with self._asr_lock:
            text = self._transcribe(samples, rate).strip()
        if not text:
            return Rejected("not_understood", "the ASR model understood nothing")
        reading = self._read(text, "skip" if self._config.unknown == "raise" else self._config.unknown)  # nobody wrote this text
        if isinstance(reading, Rejected):
            return reading
        seconds, num_phones = len(samples) / rate, len(reading.phones)
        if seconds > _LONGEST_PHONE_S * num_phones:
            return Rejected("not_understood", f"{num_phones} phones for {seconds:.1f} s; the ASR model heard only a part: {text}")
        return self._clip(_name(name), reading, samples, rate)

    def _read(self, text: str, unknown: UnknownPolicy) -> Reading | Rejected:
        try:
            with self._reading_lock:
                reading = read_or_skip(normalise(text).text, unknown)
        except AudioError as error:
            if unknown == "raise":
                raise
            return Rejected("text", str(error))
        if reading is None:
            return Rejected("unknown_reading", text)
        return reading if reading.has_speech else Rejected("text", "nothing in it is spoken")

    def _clip(self, name: str, reading: Reading, samples: Samples, rate: int) -> dict[str, Any] | Rejected:
        """Save sound and features of a clip and return its row."""
        prepared = prepare_clip(samples, rate, self._config, self._size)
        if isinstance(prepared, Rejected):
            return prepared
        audio = self._size.audio
        frames, num_phones = len(prepared) // audio.hop_length, 2 * len(reading.phones) + 1
        if frames < num_phones:
            return Rejected("too_fast", f"{frames} frames for {num_phones} phones with blanks; the text does not fit the recording")
        _save(self._keep / CLIPS / f"{name}.npy", np.round(np.clip(prepared, -1, 1) * 32767).astype(np.int16))
        if self._bert is not None:
            _save(self._keep / BERT / f"{name}.npy", self._bert(reading.text).astype(np.float16))
        return {
            "id": name,
            "text": reading.text,
            "phones": list(reading.phones),
            "tones": list(reading.tones),
            "word2ph": list(reading.word2ph),
            "unknown": dict(reading.unknown),
            "source_hz": rate,
            "frames": frames,
            "style_vector": [round(float(v), 6) for v in self._encode(prepared, audio.sample_rate)],
        }


def prepare_clip(samples: Samples, rate_hz: int, config: VoicePreprocessConfig, size: VoiceSize) -> Samples | Rejected:
    """Resample, trim and level one recording; return it, or why it cannot be used."""
    clip = resample(samples - samples.mean(), size.audio.sample_rate / rate_hz) if rate_hz != size.audio.sample_rate else samples
    if rms_dbfs(clip) < _LOWEST_DBFS:
        return Rejected("silent", f"{rms_dbfs(clip):.0f} dBFS")
    if config.trim_db is not None:
        threshold = float(np.abs(clip).max()) * 10 ** (-config.trim_db / 20)
        clip = trim_edges(clip, size.audio.sample_rate, threshold=threshold, margin_s=_MARGIN_S)
    seconds = len(clip) / size.audio.sample_rate
    if not config.min_s <= seconds <= config.max_s:
        remedy = "cut long recordings at pauses, or take them out of the list and let an ASR model write (asr)"
        return Rejected("length", f"{seconds:.2f} s is not within {config.min_s:g}..{config.max_s:g} s; {remedy}")
    if config.loudness_dbfs is not None:
        clip = clip * np.float32(10 ** ((config.loudness_dbfs - rms_dbfs(clip)) / 20))
        peak = float(np.abs(clip).max())
        clip = clip / peak * np.float32(0.99) if peak > 0.99 else clip
    return clip.astype(np.float32)


def _load(path: Path) -> tuple[Samples, int] | Rejected:
    try:
        samples, rate = read_audio(path)
    except DataError as error:
        return Rejected("audio", str(error))
    if not LOWEST_HZ <= rate <= HIGHEST_HZ:
        return Rejected("sample_rate", f"{path.name} says {rate} Hz; {LOWEST_HZ} to {HIGHEST_HZ} is possible. Convert or record it again")
    return samples, rate


def _reject(transcript: Transcript, why: Rejected) -> dict[str, Any]:
    return {"file": transcript.file, "line": transcript.line, "reason": why.reason, "detail": why.detail}


def _name(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _read_kept(path: Path, made_from: str) -> Made | None:
    try:
        kept = json.loads(path.read_text("utf-8"))
        return Made(kept["rows"], kept["rejects"]) if kept["made_from"] == made_from else None
    except (OSError, ValueError, KeyError, TypeError):  # not there, or of another version of the program
        return None


def _save(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as handle:
        np.save(handle, array)
    os.replace(temporary, path)
