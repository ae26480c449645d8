"""The smoke preset, from nothing: what a newcomer's first minute of training must reach."""

from __future__ import annotations

import pytest
import torch

from rplab.stage import StageContext
from rplab.tts.corpus import make_corpus
from rplab.tts.preprocess import preprocess_voice
from rplab.tts.train import train_voice
from rplab.tts.training_config import PRESETS, VoiceCorpusConfig, VoicePreprocessConfig


def make_context(home) -> StageContext:
    out, resume = home / "out", home / "resume"
    out.mkdir(parents=True)
    resume.mkdir()
    return StageContext(out, resume, lambda _progress: None)


@pytest.mark.slow
def test_a_minute_of_training_from_nothing_brings_the_speech_3_5_db_closer(tmp_path):
    torch.set_num_threads(1)
    corpus, data, trained = (make_context(tmp_path / name) for name in ("corpus", "data", "trained"))
    make_corpus(VoiceCorpusConfig(sentences=120), {}, corpus)
    preprocess_voice(VoicePreprocessConfig(size="small"), {"recordings": corpus.out}, data)
    stats = train_voice(PRESETS["smoke"], {"data": data.out}, trained)

    assert stats["base"] == "none"
    assert stats["steps"] == PRESETS["smoke"].max_steps == 240
    assert stats["initial_mcd"] - stats["best_mcd"] >= 3.5
