"""The embedded Japanese voice: OpenJTalk reading, HTS synthesis, no model to download.

Voice: HTS voice "mei_normal", (c) 2009-2018 Nagoya Institute of Technology, Department of Computer Science, from
MMDAgent (http://www.mmdagent.jp/), licensed CC BY 3.0. It lies inside the MIT-licensed wheel pyopenjtalk-plus.
48 kHz; 141 s of speech in 5.7 s on two quiet cores.

The engine speaks sentence by sentence: silence at the edges (0.2 to 0.4 s in HTS output) is cut and pauses are put in
here, so that sound starts at once and rhythm is ours. One fixed gain brings the voice to about -20 dBFS.

HTS filters can run away on long held vowels (a run of 50 `あ` reaches 1e17 of 32768): such a sentence is detected and
spoken in shorter parts.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from rplab.errors import AudioError, ConfigError
from rplab.tts.engine import Samples
from rplab.tts.frontend import prepare_speech
from rplab.tts.signal import limit_peaks, silence, trim_edges

logger = logging.getLogger(__name__)

SAMPLE_RATE_HZ = 48_000
STYLES: Mapping[str, tuple[float, float]] = {
    "": (1.0, 0.0),
    "happy": (1.06, 1.5),
    "sad": (0.90, -1.0),
    "angry": (1.10, -0.5),
    "calm": (0.95, -0.3),
}
"""Style -> (factor on speed, semitones): one HTS voice has no styles of its own, prosody hints at them."""

_GAIN = 0.62 / 32768.0
"""Measured over 12 sentences: brings mei_normal's speech to -20 dBFS RMS."""
_RUNAWAY = 1.5e5
"""Peak (16-bit scale) that ordinary sentences of this voice never reach; measured maximum 1.0e5."""
_SHORTEST_CUT = 6
_PAUSE_S = {"。": 0.30, "！": 0.30, "？": 0.35, "、": 0.15}


class OpenJTalkVoice:
    """The `VoiceEngine` of pyopenjtalk-plus."""

    def __init__(self, *, default_style: str = "") -> None:
        """Load dictionary and voice, and speak a word so that the first sentence is fast.

        Raises:
            AudioError: pyopenjtalk-plus is not installed or broken.
            ConfigError: No style of that name.
        """
        self._default_style = _known_style(default_style)
        self._talk = _load()
        self._lock = threading.Lock()
        self._speak("あ", 1.0, 0.0)

    @property
    def name(self) -> str:
        """Engine and voice."""
        return "openjtalk/mei_normal"

    @property
    def sample_rate(self) -> int:
        """Frames per second."""
        return SAMPLE_RATE_HZ

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the styles."""
        return tuple(name for name in STYLES if name)

    def synthesise(self, text: str, *, speed: float = 1.0, pitch: float = 0.0, style: str = "") -> Samples:
        """Speak a whole text; see `VoiceEngine.synthesise`."""
        return np.concatenate(list(self.stream(text, speed=speed, pitch=pitch, style=style)))

    def stream(self, text: str, *, speed: float = 1.0, pitch: float = 0.0, style: str = "") -> Iterator[Samples]:
        """Yield one array per sentence, each but the last with its pause; see `VoiceEngine.stream`.

        The text is checked at the first `next`, before any sound.
        """
        if not 0.5 <= speed <= 2.0 or not -12.0 <= pitch <= 12.0:
            raise ValueError(f"speed must be 0.5..2 and pitch -12..12 semitones, not {speed} and {pitch}")
        factor, shift = STYLES[_known_style(style or self._default_style)]
        speech = prepare_speech(text)
        if speech.dropped:
            logger.info("not spoken: %s", ", ".join(f"{reason} {count}" for reason, count in speech.dropped.items()))
        sentences = speech.sentences
        spoken = 0
        for index, sentence in enumerate(sentences):
            samples = self._speak(sentence, speed * factor, pitch + shift)
            if not len(samples):
                continue
            spoken += 1
            pause_s = _PAUSE_S.get(sentence[-1], 0.25) / speed if index + 1 < len(sentences) else 0.0
            yield np.concatenate([samples, silence(pause_s, SAMPLE_RATE_HZ)])
        if not spoken:
            raise AudioError(f"OpenJTalk found no sound in {sentences[0]!r}")

    def close(self) -> None:
        """Nothing to free: dictionary and voice belong to the process."""

    def _speak(self, sentence: str, speed: float, pitch: float) -> Samples:
        wave = self._synthesise_raw(sentence, speed, pitch)
        peak = float(np.abs(wave).max()) if wave.size else 0.0
        if not np.isfinite(peak) or peak > _RUNAWAY:
            if len(sentence) > _SHORTEST_CUT:
                half = len(sentence) // 2
                parts = [self._speak(part, speed, pitch) for part in (sentence[:half], sentence[half:])]
                return np.concatenate(parts)
            wave = np.nan_to_num(wave / max(peak, 1.0), nan=0.0, posinf=0.0, neginf=0.0) * 32768.0 if np.isfinite(peak) else wave[:0]
        return trim_edges(limit_peaks(wave * _GAIN), SAMPLE_RATE_HZ)

    def _synthesise_raw(self, sentence: str, speed: float, pitch: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the voice's own output (16-bit scale), empty when the sentence has no phoneme."""
        talk: Any = self._talk
        try:
            with self._lock:
                features = talk.run_frontend(sentence)
                # Asked without a phoneme, the C library prints a warning on the user's terminal: look first.
                if not any(feature["mora_size"] > 0 for feature in features):
                    return np.zeros(0)
                wave, _ = talk.synthesize(talk.make_label(features), speed, pitch)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise AudioError(f"OpenJTalk failed on {sentence!r}: {error}") from error
        return wave


def _known_style(style: str) -> str:
    if style not in STYLES:
        raise ConfigError(f"the openjtalk voice has no style {style!r}. Use one of: {', '.join(name for name in STYLES if name)}")
    return style


def _load() -> ModuleType:
    try:
        return importlib.import_module("pyopenjtalk")
    except ImportError as error:
        raise AudioError(f"the embedded voice needs pyopenjtalk-plus ({error}). Install it: pip install 'rplab[voice]'") from error
