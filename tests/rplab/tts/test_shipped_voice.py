"""The voice that comes with the package: it exports, and what it says is heard."""

from __future__ import annotations

import numpy as np
import pytest

from rplab.tts.export_stage import export_folder
from rplab.tts.onnx_engine import OnnxVoice, OnnxVoiceOptions
from rplab.tts.signal import rms_dbfs
from rplab.tts.train import find_base
from rplab.tts.training_config import VoiceExportConfig

SENTENCE = "今日はとてもいい天気ですね。"


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    source, out = find_base("hts_small"), tmp_path_factory.mktemp("export") / "voice"
    assert source is not None
    graphs, _ = export_folder(source, out, VoiceExportConfig(forms=("split",)))
    assert max(graph.max_difference for graph in graphs) <= 1e-5
    return OnnxVoice(out, options=OnnxVoiceOptions(threads=1))


def test_shipped_voice_is_small(voice):
    folder = find_base("hts_small")

    assert folder is not None
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 12e6
    assert (folder / "README.md").is_file()
    assert voice.sample_rate == 16_000


def test_shipped_voice_speaks(voice):
    sound = voice.synthesise(SENTENCE)

    assert np.isfinite(sound).all()
    assert 1.0 < len(sound) / voice.sample_rate < 4.0  # 13 syllables
    assert -30.0 < rms_dbfs(sound) < -10.0
    frames = sound[: len(sound) // 400 * 400].reshape(-1, 400)  # 25 ms
    levels = np.sort(20 * np.log10(np.sqrt((frames**2).mean(axis=1)) + 1e-6))
    assert levels[-1] - levels[len(levels) // 10] > 20.0  # speech has closures and pauses, a hum has none
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / voice.sample_rate)
    assert power[(hertz > 80) & (hertz < 4000)].sum() > 0.8 * power.sum()  # noise would have half of it


def test_what_is_streamed_is_what_is_said_at_once(voice):
    streamed = np.concatenate(list(voice.stream(SENTENCE)))

    np.testing.assert_allclose(streamed, voice.synthesise(SENTENCE), atol=1e-5)
