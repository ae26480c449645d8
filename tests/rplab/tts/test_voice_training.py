"""From recordings to a voice: corpus, preprocessing, training that resumes, export that speaks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rplab.errors import DataError, StageInterrupted
from rplab.jsonl import read_rows
from rplab.stage import Progress, StageContext
from rplab.tts.cepstra import mel_cepstral_distance
from rplab.tts.clips import epoch_batches, load_data
from rplab.tts.corpus import make_corpus
from rplab.tts.corpus_text import make_sentences
from rplab.tts.engine import Samples
from rplab.tts.export_stage import export_trained
from rplab.tts.g2p import UnreadableError
from rplab.tts.onnx_engine import OnnxVoice
from rplab.tts.preprocess import preprocess_voice
from rplab.tts.recordings import read_transcripts
from rplab.tts.style import voice_styles
from rplab.tts.train import train_voice
from rplab.tts.training_config import PRESETS, VoiceCorpusConfig, VoiceExportConfig, VoicePreprocessConfig
from rplab.tts.wav import write_wav


def make_context(home: Path, report=lambda _progress: None) -> StageContext:
    out = home / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (home / "resume").mkdir(exist_ok=True)
    return StageContext(out, home / "resume", report)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    context = make_context(tmp_path_factory.mktemp("corpus"))
    stats = make_corpus(VoiceCorpusConfig(sentences=12), {}, context)
    assert stats["sentences"] == 12
    return context.out


@pytest.fixture(scope="module")
def data(corpus, tmp_path_factory):
    context = make_context(tmp_path_factory.mktemp("data"))
    preprocess_voice(VoicePreprocessConfig(size="small", validation=2, name="smoke"), {"recordings": corpus}, context)
    return context.out


def tone(seconds: float, rate: int) -> Samples:
    return (0.3 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_sentences_are_distinct_and_grow_from_the_same_start():
    sentences = make_sentences(300, 1)

    assert len(set(sentences)) == 300
    assert make_sentences(100, 1) == sentences[:100]
    assert make_sentences(100, 2) != sentences[:100]


def test_corpus_and_clips_are_complete(corpus, data):
    assert len(read_transcripts(corpus / "transcripts.list")) == 12
    assert "CC BY 3.0" in (corpus / "LICENSE.txt").read_text("utf-8")
    rows = [row for _, row in read_rows(data / "clips.jsonl")]
    assert sorted(row["split"] for row in rows) == ["train"] * 10 + ["validation"] * 2
    for row in rows:
        clip = np.load(data / "clips" / f"{row['id']}.npy")
        assert clip.dtype == np.int16
        assert len(clip) // 256 == row["frames"] >= 2 * len(row["phones"]) + 1
        level = 20 * np.log10(np.sqrt(np.mean((clip / 32768.0) ** 2)))
        assert abs(level + 23.0) < 1.0
    assert np.load(data / "style_vectors.npy").shape == (1, 256)


def test_bad_recordings_are_set_aside_and_the_source_is_untouched(corpus, tmp_path):
    source = tmp_path / "mine"
    shutil.copytree(corpus, source)
    write_wav(source / "raw" / "short.wav", tone(0.1, 16_000), 16_000)
    write_wav(source / "raw" / "long.wav", tone(20, 16_000), 16_000)
    write_wav(source / "raw" / "fast.wav", tone(1, 16_000), 16_000)
    write_wav(source / "raw" / "quiet.wav", tone(1, 16_000) * 0, 16_000)
    (source / "raw" / "broken.wav").write_bytes(b"RIFFnonsense")
    (source / "raw" / "extra.wav").write_bytes(b"")
    lines = [f"{name}.wav|mei|JP|{'長い文です。' * 10}" for name in ("short", "long", "fast", "quiet", "broken", "gone")]
    lines += ["00000.wav2|mei|JP|々々", "k.wav|mei|JP|안녕"]
    with (source / "transcripts.list").open("a", encoding="utf-8") as handle:
        handle.write("\n".join(lines) + "\n")
    before = {file: file.read_bytes() for file in source.rglob("*") if file.is_file()}
    context = make_context(tmp_path / "stage")
    stats = preprocess_voice(VoicePreprocessConfig(size="small", validation=2), {"recordings": source}, context)

    assert stats["set_aside"] == {"length": 2, "too_fast": 1, "silent": 1, "audio": 2, "unknown_reading": 1, "text": 1}
    assert stats["without_transcript"] == 1
    assert stats["clips"] == 12
    assert "too_fast" in (context.out / "report.md").read_text("utf-8")
    assert before == {file: file.read_bytes() for file in source.rglob("*") if file.is_file()}
    with pytest.raises(UnreadableError, match="々"):
        preprocess_voice(
            VoicePreprocessConfig(size="small", validation=2, unknown="raise"), {"recordings": source}, make_context(tmp_path / "s2")
        )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("a.wav|mei|JP", "file.speaker.language.text"),
        ("a.wav|mei|EN|hello", "language 'EN'"),
        ("x.wav|mei|JP|はい", "named twice"),
        ("../a.wav|mei|JP|はい", "leads out"),
    ],
)
def test_bad_transcript_line_is_named(tmp_path, line, what):
    path = tmp_path / "transcripts.list"
    path.write_text(f"x.wav|mei|JP|はい。\n{line}\n", "utf-8")

    with pytest.raises(DataError, match=f"transcripts.list:2: .*{what}"):
        read_transcripts(path)


def test_too_few_clips_is_an_error(corpus, tmp_path):
    with pytest.raises(DataError, match="12 usable clips"):
        preprocess_voice(VoicePreprocessConfig(size="small", validation=11), {"recordings": corpus}, make_context(tmp_path))


def test_styles_are_means_and_neutral_comes_first():
    a, b = np.ones(256, np.float32), np.zeros(256, np.float32)
    names, vectors = voice_styles({"happy": [a, a], "sad": [b]})

    assert names == {"Neutral": 0, "happy": 1, "sad": 2}
    assert np.allclose(vectors[0], 2 / 3)
    assert np.array_equal(vectors[1], a)


def test_batches_hold_every_clip_once_and_depend_on_seed_and_epoch(data):
    clips = load_data(data).train
    first = epoch_batches(clips, 4, 1, 0)

    assert sorted(clip.name for batch in first for clip in batch) == sorted(clip.name for clip in clips)
    assert epoch_batches(clips, 4, 1, 0) == first
    assert epoch_batches(clips, 4, 1, 1) != first


def test_cepstral_distance_ignores_tempo_and_level():
    mel = np.random.default_rng(0).normal(size=(80, 30))

    assert mel_cepstral_distance(mel, mel) == 0
    assert mel_cepstral_distance(np.repeat(mel, 2, axis=1) + 3.0, mel) == pytest.approx(0, abs=1e-6)
    assert mel_cepstral_distance(mel[:, ::-1], mel) > 1


class _KilledError(Exception):
    pass


@pytest.mark.slow
def test_killed_training_continues_byte_for_byte_and_the_export_speaks(data, tmp_path):
    torch.set_num_threads(1)
    config = PRESETS["smoke"].model_copy(
        update={"max_steps": 5, "batch_size": 2, "adversarial_from": 3, "evaluate_every": 3, "save_every": 2}
    )
    straight = make_context(tmp_path / "straight")
    stats = train_voice(config, {"data": data}, straight)

    def kill_at_three(progress: Progress) -> None:
        if progress.done == 3:
            raise _KilledError

    killed = make_context(tmp_path / "killed", kill_at_three)
    with pytest.raises(_KilledError):
        train_voice(config, {"data": data}, killed)
    stopped = make_context(tmp_path / "killed")
    stopped.stop.set()
    with pytest.raises(StageInterrupted):
        train_voice(config, {"data": data}, stopped)
    again = make_context(tmp_path / "killed")
    assert train_voice(config, {"data": data}, again) == stats
    files = sorted(file.relative_to(straight.out) for file in straight.out.rglob("*") if file.is_file() and "logs" not in file.parts)
    assert len(files) >= 7
    for file in files:
        assert (straight.out / file).read_bytes() == (again.out / file).read_bytes(), file
    steps = [row["step"] for _, row in read_rows(again.out / "logs/metrics.jsonl") if "mel" in row]
    assert steps == [1, 2, 3, 4, 5]
    export = make_context(tmp_path / "export")
    export_trained(VoiceExportConfig(forms=("split",)), {"train": again.out}, export)
    with_noise = OnnxVoice(export.out / "voice")
    assert len(with_noise.synthesise("はい。")) > 1000
    assert json.loads((again.out / "evaluation.json").read_text())["steps"] == 5
