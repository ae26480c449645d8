"""What judges a voice: an ASR model for understandability, DNSMOS for naturalness, mel-cepstral distance to a recording.

ASR and DNSMOS are other people's packages (`pip install 'rplab[voice-eval]'`); a judge that is not there is named in the
result, never guessed. No torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rplab.errors import AudioError, ModelError
from rplab.tts.cepstra import mel_cepstral_distance
from rplab.tts.engine import Samples
from rplab.tts.mel_filters import mel_filters
from rplab.tts.resample import resample

Transcribe: TypeAlias = Callable[[Samples, int], str]
"""(samples, Hz) -> text."""
Opinion: TypeAlias = Callable[[Samples, int], float]
"""(samples, Hz) -> mean opinion score, 1 to 5."""
_JUDGE_HZ = 16_000
_DNSMOS_SAMPLES = round(9.01 * _JUDGE_HZ)
_DNSMOS_OVERALL = (-0.06766283, 1.11546468, 0.04602535)
"""From the network's output to the scale of listeners; published with the model."""
_FFT = 1024
_HOP = 256
_BANDS = 80
_MEL_HZ = 22_050
INSTALL = "pip install 'rplab[voice-eval]'"


def open_asr(model: str, *, beam_size: int = 5, threads: int = 0, sampling: bool = True) -> Transcribe:
    """Return a transcriber of Japanese.

    Args:
        model: Folder of a CTranslate2 Whisper model, or a name that faster-whisper fetches.
        beam_size: Hypotheses kept.
        threads: 0 = the package's choice.
        sampling: Let the package draw another text when the best one looks wrong; False gives the same text every time.

    Raises:
        AudioError: faster-whisper is not installed.
        ModelError: The model cannot be loaded.
    """
    try:
        module: Any = importlib.import_module("faster_whisper")
    except ImportError:
        raise AudioError(f"understanding speech needs faster-whisper. {INSTALL}, or leave --asr out") from None
    try:
        whisper = module.WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=Path(model).exists())
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"{model}: not a Whisper model for faster-whisper ({error}). Give its folder, or a name such as base") from error

    def transcribe(samples: Samples, rate_hz: int) -> str:
        segments, _ = whisper.transcribe(
            resample(samples, _JUDGE_HZ / rate_hz),
            language="ja",
            beam_size=beam_size,
            condition_on_previous_text=False,
            **({} if sampling else {"temperature": 0.0}),
        )
        return "".join(segment.text for segment in segments)

    return transcribe


def open_dnsmos() -> Opinion | None:
    """Return DNSMOS P.835's overall score, or None when the package speechmos (MIT), which ships the model, is not installed.

    The model is run directly: the package's own code wants librosa, which our runtime does without. Source: Reddy et al. 2022.
    """
    found = importlib.util.find_spec("speechmos")
    if found is None or not found.submodule_search_locations:
        return None
    session = onnxruntime.InferenceSession(
        str(Path(found.submodule_search_locations[0]) / "dnsmos_models/sig_bak_ovr.onnx"), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def score(samples: Samples, rate_hz: int) -> float:
        sound = np.clip(resample(samples, _JUDGE_HZ / rate_hz), -1.0, 1.0)
        repeats = -(-_DNSMOS_SAMPLES // max(1, len(sound)))
        sound = np.tile(sound, repeats) if repeats > 1 else sound
        starts = range(0, len(sound) - _DNSMOS_SAMPLES + 1, _JUDGE_HZ)
        raw = [float(np.asarray(session.run(None, {name: sound[None, s : s + _DNSMOS_SAMPLES]})[0])[0, 2]) for s in starts]
        return float(np.mean(np.polyval(_DNSMOS_OVERALL, raw)))

    return score


def kana_of(text: str) -> str:
    """Return the reading of a text in katakana, without marks: what is compared, since kanji may be written in many ways.

    Raises:
        AudioError: pyopenjtalk-plus is missing.
    """
    try:
        talk: Any = importlib.import_module("pyopenjtalk")
    except ImportError as error:
        raise AudioError(f"reading Japanese needs pyopenjtalk-plus ({error}). pip install 'rplab[voice]'") from error
    plain = unicodedata.normalize("NFKC", text)
    if not plain.strip():
        return ""
    return re.sub(r"[^ァ-ヴー]", "", talk.g2p(plain, kana=True))


def edit_distance(wanted: str, got: str) -> int:
    """Return the least number of characters to insert, delete or replace (Levenshtein).

    Example:
        >>> edit_distance("カナ", "カタナ")
        1
    """
    row = list(range(len(got) + 1))
    for index, expected in enumerate(wanted, start=1):
        above, row[0] = row[0], index
        for column, heard in enumerate(got, start=1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (expected != heard))
    return row[-1]


def log_mel_of(samples: Samples, rate_hz: int) -> NDArray[np.float32]:
    """Return (80, frames) natural-log mel bands at 22.05 kHz, hop 256: one setting for all voices, so numbers compare."""
    sound = resample(samples, _MEL_HZ / rate_hz)
    padded = np.pad(sound, (_FFT // 2, max(_FFT // 2, _FFT - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP] * np.hanning(_FFT).astype(np.float32)
    magnitude = np.abs(np.fft.rfft(frames, axis=1)).astype(np.float32)
    return np.log(np.maximum(magnitude @ mel_filters(_MEL_HZ, _FFT, _BANDS).T, 1e-5)).T


def distance_to(made: Samples, real: Samples, made_hz: int, real_hz: int) -> float:
    """Return the mel-cepstral distance (dB, DTW, 13 cepstra) of a made sentence to a recording of it."""
    return mel_cepstral_distance(log_mel_of(made, made_hz), log_mel_of(real, real_hz))
