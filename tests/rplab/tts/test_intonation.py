"""Intonation: the melody goes further from its mean, or less far; everything else stays."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pyworld

from rplab.errors import ConfigError
from rplab.tts.intonation import scale_intonation
from rplab.tts.onnx_engine import OnnxVoice, OnnxVoiceOptions

ROOT = Path(__file__).parents[3]
VOICE = Path(__file__).parents[2] / "assets/tts/smallest_voice"
RATE = 16_000


def melody(seconds=1.5):
    """A voice-like buzz between 150 and 250 Hz."""
    times = np.arange(int(seconds * RATE)) / RATE
    pitch = 200 * 2 ** (0.3 * np.sin(2 * np.pi * 1.5 * times))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return (sum(np.sin(k * phase) / k for k in range(1, 20)) * 0.1).astype(np.float32)


def semitones(sound):
    pitch, _ = pyworld.harvest(sound.astype(np.float64), RATE)
    return 12 * np.log2(pitch[pitch > 0])[20:-20]


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_melody_is_scaled_about_its_mean_and_nothing_else_changes(factor):
    sound = melody()
    scaled = scale_intonation(sound, RATE, factor)

    assert scaled.shape == sound.shape
    assert scaled.dtype == np.float32
    assert np.std(semitones(scaled)) == pytest.approx(factor * np.std(semitones(sound)), abs=0.3)
    assert np.mean(semitones(scaled)) == pytest.approx(np.mean(semitones(sound)), abs=0.6)
    assert np.sqrt(np.mean(scaled**2)) == pytest.approx(np.sqrt(np.mean(sound**2)), rel=0.3)


def test_unvoiced_sound_and_factor_one_stay_as_they_are():
    noise = (np.random.default_rng(0).normal(size=RATE // 2) * 1e-6).astype(np.float32)

    assert scale_intonation(melody(), RATE, 1.0) is not None
    assert np.array_equal(scale_intonation(melody(), RATE, 1.0), melody())
    assert np.array_equal(scale_intonation(np.zeros_like(noise), RATE, 2.0), np.zeros_like(noise))
    assert scale_intonation(np.zeros(0, np.float32), RATE, 2.0).size == 0


def test_voice_with_another_intonation_speaks_sentence_by_sentence():
    voice = OnnxVoice(VOICE, options=OnnxVoiceOptions(intonation=1.5))
    pieces = list(voice.stream("明日の朝は早く起きてください。はい。"))

    assert len(pieces) == 3  # two sentences and the pause between
    assert np.isfinite(np.concatenate(pieces)).all()


def test_what_cannot_be_is_said(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="0 to 2"):
        OnnxVoice(VOICE, options=OnnxVoiceOptions(intonation=3.0))
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(ConfigError, match="pip install"):
        OnnxVoice(VOICE, options=OnnxVoiceOptions(intonation=0.5))
    command = [
        sys.executable,
        "-m",
        "rplab.cli.main",
        "tts",
        "say",
        "--text",
        "はい",
        "--out",
        str(tmp_path / "a.wav"),
        "--intonation",
        "0.5",
    ]
    embedded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert embedded.returncode == 2
    assert "--voice" in embedded.stderr
    spoken = subprocess.run([*command, "--voice", str(VOICE), "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(spoken.stdout)["seconds"] > 0
