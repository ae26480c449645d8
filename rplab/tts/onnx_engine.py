"""The `VoiceEngine` of ONNX voices: text -> sentences -> readings -> BERT -> network -> samples.

Loads what this project exports and what others of the Style-Bert-VITS2 JP-Extra family export. A test phrase is spoken
at start: it warms the graphs up, proves that the voice makes sound, and sets the one gain that brings it to the wanted
loudness (a gain for each sentence would make a whisper as loud as a shout).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rplab.errors import AudioError, ConfigError
from rplab.tts.bert import BertFeatures
from rplab.tts.engine import Samples
from rplab.tts.frontend import normalise, split_sentences
from rplab.tts.g2p import UnknownPolicy, read_or_skip, read_text
from rplab.tts.intonation import LEAST, MOST, require_world, scale_intonation
from rplab.tts.resample import resample
from rplab.tts.runtime import FloatArray, SpeechRequest, open_model, prepare
from rplab.tts.session import Device, return_memory
from rplab.tts.signal import limit_peaks, rms_dbfs, silence
from rplab.tts.text import SpeechTextError
from rplab.tts.voice_folder import find_voice

logger = logging.getLogger(__name__)

NEUTRAL = "Neutral"
_TEST_PHRASE = "これは,声を確かめる文です."
_HOMOGRAPHS = "何人か前に."
"""Words of several readings: the dictionary that tells them apart is loaded at the first of them, not in the first answer."""
_SILENT_DBFS = -70.0
_MAX_GAIN_DB = 18.0
"""A voice that would need more is mostly noise."""
_PAUSE_S = 0.2


@dataclass(frozen=True)
class OnnxVoiceOptions:
    """How a voice speaks unless a call says otherwise."""

    speaker: str = ""
    """Name in the voice's config; empty is its first."""
    style: str = ""
    """Name of a style; empty is Neutral."""
    style_weight: float = 1.0
    """0 = the mean of all styles, 1 = the style as recorded, above 1 exaggerates."""
    sdp_ratio: float = 0.2
    noise: float = 0.6
    noise_duration: float = 0.8
    intonation: float = 1.0
    """0 = monotone, 1 = as it is, up to 2 = twice the melody; other than 1 a piece of a stream is a sentence."""
    seed: int = 42
    loudness_dbfs: float | None = -20.0
    """RMS of the test phrase after gain; None leaves the voice as it is."""
    unknown: UnknownPolicy = "use"
    """What to do with a sentence that has characters without a reading."""
    device: Device = "cpu"
    threads: int = 0
    spin: bool = True
    """Threads wait for each other without sleeping while a graph runs: 4 % faster on free cores, slower beside another program."""


class OnnxVoice:
    """A trained voice behind the `VoiceEngine` protocol."""

    def __init__(self, path: Path, *, bert: Path | BertFeatures | None = None, options: OnnxVoiceOptions | None = None) -> None:
        """Load a voice and speak a test phrase.

        Args:
            path: Voice folder, `.onnx` in such a folder, or `.aivmx`.
            bert: BERT folder, or one that other voices use too; None speaks without (right for voices trained without).
            options: Defaults of this voice.

        Raises:
            ModelError: Files are missing, corrupt or do not belong together.
            ConfigError: No speaker or style of that name, or an intonation that cannot be.
            AudioError: The voice makes no sound.
        """
        self._options = options or OnnxVoiceOptions()
        if not LEAST <= self._options.intonation <= MOST:
            raise ConfigError(f"intonation must be {LEAST:g} to {MOST:g}, not {self._options.intonation:g}")
        if self._options.intonation != 1.0:
            require_world()
        self._files = find_voice(path, device=self._options.device)
        config = self._files.config
        self._speaker = _pick(self._options.speaker, config.speakers, "speaker", config.name)
        read_text(_HOMOGRAPHS)
        if isinstance(bert, Path):  # before the rest: loading it needs twice its size for a moment
            bert = BertFeatures(bert, device=self._options.device, threads=self._options.threads, spin=self._options.spin)
        self._model = open_model(self._files, device=self._options.device, threads=self._options.threads, spin=self._options.spin)
        self._bert = bert
        self._lock = threading.Lock()
        self._gain = 1.0
        self._style(self._options.style)
        self._calibrate()
        return_memory()

    @property
    def name(self) -> str:
        """Engine and voice."""
        return f"onnx/{self._files.config.name}"

    @property
    def sample_rate(self) -> int:
        """Frames per second (Hz)."""
        return self._files.config.size.audio.sample_rate

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the styles."""
        return tuple(self._files.config.styles)

    def synthesise(self, text: str, *, speed: float = 1.0, pitch: float = 0.0, style: str = "") -> Samples:
        """Speak a whole text with the least work; see `VoiceEngine.synthesise`."""
        return np.concatenate(list(self._read_aloud(text, speed, pitch, style, whole=True)))

    def stream(self, text: str, *, speed: float = 1.0, pitch: float = 0.0, style: str = "") -> Iterator[Samples]:
        """Speak piece by piece; see `VoiceEngine.stream`. With a pitch shift or an intonation other than 1 a piece is a sentence.

        Pieces are float32, 12 frames (0.14 s) at first, then growing to 0.75 s; while one is played the next are decoded. A
        reader that stops (closes the iterator) stops the decoding.
        """
        return self._read_aloud(text, speed, pitch, style, whole=False)

    def _read_aloud(self, text: str, speed: float, pitch: float, style: str, *, whole: bool) -> Iterator[Samples]:
        if not 0.5 <= speed <= 2.0 or not -12.0 <= pitch <= 12.0:
            raise ValueError(f"speed must be 0.5..2 and pitch -12..12 semitones, not {speed} and {pitch}")
        rise = 2.0 ** (pitch / 12.0)
        request = replace(self._request(style or self._options.style), length_scale=rise / speed)
        normalised = normalise(text)
        if normalised.dropped:
            logger.info("left out of %d characters: %s", len(text), dict(normalised.dropped))
        sentences = split_sentences(normalised.text)
        loudest = 0.0
        for index, sentence in enumerate(sentences):
            for piece in self._speak(sentence, request, rise, whole=whole):
                loudest = max(loudest, float(np.abs(piece).max(initial=0.0)))
                yield piece
            if index + 1 < len(sentences):
                yield silence(_PAUSE_S / speed, self.sample_rate)
        return_memory()  # after the last piece: nobody waits
        if not sentences:
            raise SpeechTextError("unreadable", f"nothing in {text[:40]!r} can be spoken in Japanese")
        if loudest < 1e-3:
            raise AudioError(f"the voice made no sound for {text[:40]!r}; the model may be broken, or nothing in the text has a reading")

    def close(self) -> None:
        """Let the decoding threads go; the graphs go with the object."""
        self._model.close()

    def _speak(self, sentence: str, request: SpeechRequest, rise: float, *, whole: bool) -> Iterator[Samples]:
        reading = read_or_skip(sentence, self._options.unknown)
        if reading is None:
            logger.warning("left out, no reading for a part of it: %r", sentence)
            return
        if reading.unknown:
            logger.warning("no reading for %s in %r; the rest is spoken", ", ".join(reading.unknown), sentence)
        if not reading.has_speech:
            return
        with self._lock:
            features = None if self._bert is None else self._bert(reading.text)
        sentence_input = prepare(reading, features)
        if rise != 1.0 or self._options.intonation != 1.0:
            sound = scale_intonation(self._model.speak_whole(sentence_input, request), self.sample_rate, self._options.intonation)
            if rise != 1.0:  # spoken slower by as much, then played faster: higher at the same speed
                sound = resample(sound, 1.0 / rise)
            yield limit_peaks(sound * self._gain)
            return
        pieces = [self._model.speak_whole(sentence_input, request)] if whole else self._model.speak(sentence_input, request)
        for piece in pieces:
            yield limit_peaks(piece * self._gain)

    def _request(self, style: str) -> SpeechRequest:
        options = self._options
        return SpeechRequest(
            style=self._style(style),
            speaker=self._speaker,
            sdp_ratio=options.sdp_ratio,
            noise=options.noise,
            noise_duration=options.noise_duration,
            seed=options.seed,
        )

    def _style(self, name: str) -> FloatArray:
        config = self._files.config
        default = NEUTRAL if NEUTRAL in config.styles else ""
        index = _pick(name or default, config.styles, "style", config.name)
        mean = self._files.styles[0]
        return (mean + (self._files.styles[index] - mean) * self._options.style_weight).astype(np.float32)

    def _calibrate(self) -> None:
        request = self._request(self._options.style)
        features = None if self._bert is None else self._bert(_TEST_PHRASE)
        sound = self._model.speak_whole(prepare(read_text(_TEST_PHRASE), features), request)
        level = rms_dbfs(sound)
        if not np.isfinite(sound).all() or level < _SILENT_DBFS:
            raise AudioError(f"{self._files.path}: the voice makes no sound ({level:.0f} dBFS). Train or export it again")
        if self._options.loudness_dbfs is not None:
            self._gain = 10.0 ** (min(self._options.loudness_dbfs - level, _MAX_GAIN_DB) / 20.0)


def _pick(name: str, names: Mapping[str, int], what: str, voice: str) -> int:
    if not name and names:
        return min(names.values())
    if name not in names:
        raise ConfigError(f"the voice {voice} has no {what} {name!r}. Use one of: {', '.join(names)}")
    return names[name]
