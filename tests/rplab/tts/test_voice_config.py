"""Settings of a profile reach the voice: seed, rhythm, loudness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from rplab.tts.config import VoiceConfig
from rplab.tts.engine import Samples
from rplab.tts.open import open_voice
from rplab.tts.signal import rms_dbfs

VOICE = Path(__file__).parents[2] / "assets/tts/smallest_voice"
SENTENCE = "明日の朝は早く起きなければなりません。"


def speak(**settings: float | None) -> Samples:
    config = VoiceConfig.model_validate({"engine": "onnx", "folder": str(VOICE), "device": "cpu", "threads": 1, **settings})
    return open_voice(config).synthesise(SENTENCE)


def test_seed_rhythm_and_loudness_of_the_config_are_heard():
    plain = speak()

    np.testing.assert_array_equal(plain, speak(seed=42, sdp_ratio=0.2, loudness_dbfs=-20.0))
    assert not np.array_equal(plain, speak(seed=7))
    assert not np.array_equal(plain, speak(sdp_ratio=1.0))
    assert 8.0 < rms_dbfs(plain) - rms_dbfs(speak(loudness_dbfs=-30.0)) < 12.0


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"sdp_ratio": 1.5}, {"loudness_dbfs": 3.0}])
def test_settings_that_make_no_sense_are_named(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        VoiceConfig.model_validate(wrong)
