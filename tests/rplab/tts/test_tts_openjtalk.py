"""The embedded voice, for real."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.errors import AudioError, ConfigError, DataError, StorageError
from rplab.tts.config import VoiceConfig
from rplab.tts.open import open_voice
from rplab.tts.signal import CEILING, limit_peaks, rms_dbfs, trim_edges
from rplab.tts.wav import read_wav, write_wav


@pytest.fixture(scope="module")
def voice():
    return open_voice(VoiceConfig())


def test_speech_is_audible_and_has_headroom(voice):
    samples = voice.synthesise("こんにちは。今日はいい天気ですね。")

    assert samples.dtype == np.float32
    assert 1.5 < len(samples) / voice.sample_rate < 5
    assert -30 < rms_dbfs(samples) < -15
    assert np.abs(samples).max() <= CEILING


def test_sound_starts_at_once_and_sentences_have_a_short_pause(voice):
    samples = voice.synthesise("はい。そうです。")
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    silences = np.diff(loud) / voice.sample_rate

    assert loud[0] / voice.sample_rate < 0.05
    assert (len(samples) - loud[-1]) / voice.sample_rate < 0.05
    assert 0.25 < silences.max() < 0.5


def test_pieces_put_together_are_the_whole(voice):
    text = "一つ。二つ！三つ？"

    pieces = list(voice.stream(text))

    assert len(pieces) == 3
    assert np.array_equal(np.concatenate(pieces), voice.synthesise(text))


def test_speed_pitch_and_style_change_the_speech(voice):
    plain = voice.synthesise("来てくれてありがとう。")

    assert len(voice.synthesise("来てくれてありがとう。", speed=1.5)) < 0.8 * len(plain)
    assert not np.array_equal(voice.synthesise("来てくれてありがとう。", pitch=4.0)[:4000], plain[:4000])
    assert len(voice.synthesise("来てくれてありがとう。", style="sad")) > len(plain)
    with pytest.raises(ConfigError, match="happy"):
        voice.synthesise("はい", style="singing")


@pytest.mark.parametrize(
    "text", ["あ" * 400, "え" * 30, "アッ" * 20, "ああいいうう" * 20, "漢字" * 60, "ん", "Ω", "\x00はい", "a" * 60, "9" * 60]
)
def test_hostile_text_is_spoken_without_running_away(voice, text):
    samples = voice.synthesise(text)

    assert np.isfinite(samples).all()
    assert len(samples) > 0
    assert np.abs(samples).max() <= CEILING
    assert rms_dbfs(samples) > -40


@pytest.mark.parametrize("text", ["오늘은", "今日는", "", "😀", "……"])
def test_text_without_japanese_is_refused_before_any_sound(voice, text):
    with pytest.raises(AudioError):
        voice.synthesise(text)


@given(st.text(max_size=12))
@settings(max_examples=40, deadline=None)
def test_any_text_gives_sound_or_a_clear_error(voice, text):
    with contextlib.suppress(AudioError):
        samples = voice.synthesise(text)
        assert len(samples) > 0
        assert np.isfinite(samples).all()


def test_loud_and_quiet_sentences_keep_their_difference(voice):
    levels = [rms_dbfs(voice.synthesise(text)) for text in ("少し疲れたけど、大丈夫。", "明日の朝は早く起きなければなりません。")]

    assert abs(levels[0] - levels[1]) > 1


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=50))
def test_limited_peaks_stay_below_the_ceiling(values):
    assert np.abs(limit_peaks(np.array(values, dtype=np.float32))).max(initial=0) <= CEILING


def test_silence_trims_to_nothing():
    assert len(trim_edges(np.zeros(1000, dtype=np.float32), 8000)) == 0


def test_wav_file_round_trips(tmp_path, voice):
    samples = voice.synthesise("はい。")

    seconds = write_wav(tmp_path / "new" / "a.wav", samples, voice.sample_rate)

    back, rate = read_wav(tmp_path / "new" / "a.wav")
    assert rate == voice.sample_rate == 48_000
    assert seconds == len(back) / rate
    assert np.abs(back - samples).max() < 1e-4
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]


def test_wav_file_that_cannot_be_written_or_read_says_so(tmp_path):
    (tmp_path / "file").write_text("no sound")

    with pytest.raises(StorageError):
        write_wav(tmp_path / "file" / "a.wav", np.zeros(4, dtype=np.float32), 8000)
    with pytest.raises(DataError, match="not a PCM WAV"):
        read_wav(tmp_path / "file")
    with pytest.raises(DataError, match="no such file"):
        read_wav(tmp_path / "none.wav")
