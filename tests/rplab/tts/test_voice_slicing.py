"""Recordings without a text: found speech, cuts at pauses, ASR; style encoders; the same bytes with any number of workers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from rplab.cli.main import main
from rplab.errors import AudioError, ConfigError, DataError, ModelError, StageInterrupted
from rplab.jsonl import read_rows
from rplab.stage import StageContext
from rplab.tts import preprocess
from rplab.tts.corpus import make_corpus
from rplab.tts.corpus_text import make_sentences
from rplab.tts.engine import Samples
from rplab.tts.judges import edit_distance, kana_of
from rplab.tts.openjtalk import OpenJTalkVoice
from rplab.tts.preprocess import preprocess_voice
from rplab.tts.style_encoder import OnnxStyleEncoder, kaldi_fbank
from rplab.tts.training_config import VoiceCorpusConfig, VoicePreprocessConfig
from rplab.tts.voice_activity import ENERGY, Detector, energy_activity, find_segments, open_detector
from rplab.tts.wav import write_wav

RATE = 48_000
SENTENCES = make_sentences(6, 3)
ASR = os.environ.get("RPLAB_ASR", "")
"""Folder of a Whisper model (CTranslate2), for the test with a real one."""


def make_context(home: Path) -> StageContext:
    out = home / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (home / "resume").mkdir(exist_ok=True)
    return StageContext(out, home / "resume")


def prepare(source: Path, home: Path, **settings: object):
    context = make_context(home)
    config = VoicePreprocessConfig.model_validate({"size": "small", "validation": 1, **settings})
    return preprocess_voice(config, {"recordings": source}, context), context.out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def speech() -> tuple[Samples, list[tuple[float, float]]]:
    """Six sentences with pauses and a little noise, and where each lies (seconds)."""
    voice, generator = OpenJTalkVoice(), np.random.default_rng(0)
    parts: list[Samples] = []
    spans: list[tuple[float, float]] = []
    length = 0
    for sentence in SENTENCES:
        pause = np.zeros(int(RATE * generator.uniform(1.6, 2.2)), np.float32)
        said = voice.synthesise(sentence)
        spans.append(((length + len(pause)) / RATE, (length + len(pause) + len(said)) / RATE))
        parts += [pause, said]
        length += len(pause) + len(said)
    noise = generator.normal(size=length).astype(np.float32) * 1e-3
    return np.concatenate(parts) + noise, spans


@pytest.fixture
def untranscribed(speech, tmp_path) -> Path:
    """A folder with one long recording and no list."""
    write_wav(tmp_path / "mine" / "long.wav", speech[0], RATE)
    return tmp_path / "mine"


@pytest.fixture
def asr_folder(tmp_path) -> Path:
    (tmp_path / "asr").mkdir()
    return tmp_path / "asr"


def understand(monkeypatch, texts: list[str]) -> list[float]:
    """Let an ASR stand in that knows what is said in order; returns the lengths (s) of what it was given."""
    given: list[float] = []

    def transcribe(samples: Samples, rate_hz: int) -> str:
        given.append(len(samples) / rate_hz)
        return texts[len(given) - 1]

    monkeypatch.setattr(preprocess, "open_asr", lambda *_, **__: transcribe)
    return given


def write_graph(path: Path, inputs: dict[str, list[str | int]], nodes: list[onnx.NodeProto], outputs: dict[str, list[str | int]], **tables):
    types = {"sr": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in tables.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_detector(path: Path, *, stepwise: bool) -> Path:
    """Write a graph with one of silero-vad's signatures whose probability is the energy of the window."""
    nodes = [
        helper.make_node("ReduceSumSquare", ["input"], ["energy"], axes=[1], keepdims=int(stepwise)),
        helper.make_node("Sub", ["energy", "floor"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["output"]),
    ]
    tables = {"floor": [0.05], "steep": [200.0]}
    if stepwise:
        nodes.append(helper.make_node("Identity", ["state"], ["stateN"]))
        state = {"state": [2, "b", 128]}
        return write_graph(path, {"input": ["b", "n"], **state, "sr": []}, nodes, {"output": ["b", 1], "stateN": [2, "b", 128]}, **tables)
    nodes += [helper.make_node("Identity", [name], [f"{name}n"]) for name in "hc"]
    one = [1, 1, 128]
    return write_graph(path, {"input": ["b", 576], "h": one, "c": one}, nodes, {"output": ["b"], "hn": one, "cn": one}, **tables)


@pytest.mark.parametrize("kind", ["energy", "stepwise", "whole"])
def test_speech_is_cut_at_pauses_and_none_is_lost(speech, tmp_path, kind):
    samples, spans = speech
    detector = (
        Detector(ENERGY, energy_activity)
        if kind == "energy"
        else open_detector(str(write_detector(tmp_path / "vad.onnx", stepwise=kind == "stepwise")))
    )

    segments = [(start / RATE, end / RATE) for start, end in find_segments(samples, RATE, detector)]

    assert len(segments) == len(spans)
    for (start, end), (first, last) in zip(segments, spans, strict=True):
        assert first - 0.4 < start < first + 0.05
        assert last - 0.15 < end < last + 0.4


def test_speech_without_pauses_is_cut_where_it_is_least():
    activity = np.full(1000, 0.9, np.float32)
    activity[430] = activity[700] = 0.6
    samples = np.zeros(1000 * 512, np.float32)

    segments = find_segments(samples, 16_000, Detector("made", lambda _: activity))

    assert [round(end / 512) for _, end in segments] == [214, 430, 700, 1000]
    assert max(end - start for start, end in segments) <= 12 * 16_000


@given(
    arrays.arrays(np.float32, st.integers(0, 600), elements=st.floats(0, 1, width=32)),
    st.sampled_from([8_000, 16_000, 22_050]),
    st.floats(1.0, 12.0),
)
def test_segments_are_in_order_apart_and_no_longer_than_asked(activity, rate, longest):
    samples = np.zeros(len(activity) * 512 * rate // 16_000, np.float32)

    segments = find_segments(samples, rate, Detector("made", lambda _: activity), longest_s=longest, shortest_s=longest / 2)

    edges = [edge for segment in segments for edge in segment]
    assert edges == sorted(edges)
    assert all(0 <= start < end <= len(samples) and end - start <= longest * rate + 2 for start, end in segments)


def test_silence_and_nothing_have_no_segments():
    detector = Detector(ENERGY, energy_activity)

    assert find_segments(np.zeros(0, np.float32), RATE, detector) == []
    assert find_segments(np.zeros(3 * RATE, np.float32), RATE, detector) == []


def test_wrong_detector_and_encoder_are_named(tmp_path):
    flat = [helper.make_node("ReduceMean", ["feats"], ["embs"], axes=[1], keepdims=0)]
    small = write_graph(tmp_path / "small.onnx", {"feats": ["b", "t", 80]}, flat, {"embs": ["b", 80]})

    with pytest.raises(ModelError, match=r"not a silero-vad graph.*feats"):
        open_detector(str(small))
    with pytest.raises(ModelError, match="no such file"):
        open_detector(str(tmp_path / "gone.onnx"))
    with pytest.raises(ModelError, match=r"gives \(80,\).*WeSpeaker"):
        OnnxStyleEncoder(small)
    with pytest.raises(ModelError, match="one input"):
        OnnxStyleEncoder(write_detector(tmp_path / "vad.onnx", stepwise=True))


def test_long_recording_becomes_clips_with_texts(untranscribed, asr_folder, tmp_path, monkeypatch):
    before = contents(untranscribed)
    given = understand(monkeypatch, [*SENTENCES[:3], "あ", "", "안녕"])
    stats, out = prepare(untranscribed, tmp_path / "stage", asr=str(asr_folder), name="mei", workers=3)

    rows = [row for _, row in read_rows(out / "clips.jsonl")]
    assert (stats["sliced"], stats["transcribed"], stats["clips"], stats["without_transcript"]) == (1, 3, 3, 0)
    assert stats["set_aside"] == {"not_understood": 2, "text": 1}
    assert stats["voice_activity"]
    assert len(given) == 6
    assert {row["speaker"] for row in rows} == {"mei"}
    assert [row["from_s"] for row in rows] == sorted(row["from_s"] for row in rows)
    assert f"voice_activity: {stats['voice_activity']}" in (out / "report.md").read_text("utf-8")
    assert rows[0]["text"] in (out / "report.md").read_text("utf-8")
    assert contents(untranscribed) == before


def test_stopped_run_asks_the_asr_only_for_the_rest(untranscribed, asr_folder, tmp_path, monkeypatch):
    shutil.copyfile(untranscribed / "long.wav", untranscribed / "second.wav")
    given = understand(monkeypatch, SENTENCES * 2)
    context = make_context(tmp_path / "stage")
    stopping = StageContext(context.out, context.resume, lambda _: stop.set(), stop := threading.Event())
    config = VoicePreprocessConfig(size="small", validation=1, asr=str(asr_folder), workers=1)
    with pytest.raises(StageInterrupted):
        preprocess_voice(config, {"recordings": untranscribed}, stopping)
    first = len(given)
    stats, _ = prepare(untranscribed, tmp_path / "stage", asr=str(asr_folder), workers=1)

    assert first >= 6
    assert len(given) == stats["clips"] == 12


def test_who_speaks_must_be_clear_and_the_asr_there(untranscribed, asr_folder, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"transcripts\.list"):
        prepare(untranscribed, tmp_path / "a")
    with pytest.raises(ModelError, match=r"no such folder.*Whisper"):
        prepare(untranscribed, tmp_path / "b", asr=str(tmp_path / "gone"))
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(AudioError, match="faster-whisper"):
        prepare(untranscribed, tmp_path / "c", asr=str(asr_folder))
    (untranscribed / "transcripts.list").write_text("a.wav|ai|JP|はい\nb.wav|mei|JP|はい\n", "utf-8")
    with pytest.raises(ConfigError, match="ai, mei"):
        prepare(untranscribed, tmp_path / "d", asr=str(asr_folder))


def test_corpus_without_list_must_be_asked_for(untranscribed, tmp_path):
    context = make_context(tmp_path / "corpus")
    with pytest.raises(DataError, match="untranscribed"):
        make_corpus(VoiceCorpusConfig(recordings=str(untranscribed)), {}, context)

    assert make_corpus(VoiceCorpusConfig(recordings=str(untranscribed), untranscribed=True), {}, context)["recordings"] == 1
    assert [file.name for file in (context.out / "raw").iterdir()] == ["long.wav"]


def test_workers_and_style_encoders(tmp_path):
    corpus = make_context(tmp_path / "corpus")
    make_corpus(VoiceCorpusConfig(sentences=8), {}, corpus)
    table = np.random.default_rng(0).normal(size=(80, 256))
    mean = [
        helper.make_node("Exp", ["feats"], ["loud"]),  # the mean itself is taken off beforehand
        helper.make_node("ReduceMean", ["loud"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "table"], ["embs"]),
    ]
    graph = write_graph(tmp_path / "speaker.onnx", {"feats": ["b", "t", 80]}, mean, {"embs": ["b", 256]}, table=table)
    stats, one = prepare(corpus.out, tmp_path / "one", workers=1)
    three_stats, three = prepare(corpus.out, tmp_path / "three", workers=3)
    other_stats, other = prepare(corpus.out, tmp_path / "other", style_model=str(graph))

    assert contents(one) == contents(three)
    assert stats == three_stats
    assert (stats["style_encoder"], other_stats["style_encoder"]) == ("built-in", "onnx/speaker.onnx")
    vectors = np.load(other / "style_vectors.npy")
    assert vectors.shape == (1, 256)
    assert not np.allclose(vectors, np.load(one / "style_vectors.npy"))
    assert "RunOnly" not in str(VoicePreprocessConfig(workers=7).key_fields())
    assert VoicePreprocessConfig(workers=7).key_fields() == VoicePreprocessConfig(workers=1).key_fields()


def test_filter_banks_are_those_of_kaldi():
    time = np.arange(16_000) / 16_000
    sound = (0.3 * np.sin(2 * np.pi * (200 + 1500 * time) * time) + 0.01 * np.sin(2 * np.pi * 6100 * time)).astype(np.float32)
    banks = kaldi_fbank(sound)

    assert banks.shape == (98, 80)
    # by kaldi-native-fbank 1.x: hamming, no dither, 80 bands from 20 Hz, no energy floor
    wanted = [
        [12.1396, 19.2496, 11.9369, 10.0479, 11.8079],
        [12.3764, 12.4418, 14.7517, 14.272, 13.7346],
        [13.2398, 13.8745, 13.6795, 17.7864, 14.2208],
    ]
    np.testing.assert_allclose(banks[np.ix_([0, 40, 97], [0, 10, 25, 50, 79])], wanted, atol=2e-3)
    assert len(kaldi_fbank(sound[:100])) == 32


def test_command_takes_the_settings(untranscribed, tmp_path, capsys):
    words = ["tts", "preprocess", str(untranscribed), str(tmp_path / "data")]

    assert main([*words, "--workers", "0"]) == 2
    assert "workers" in capsys.readouterr().err
    assert main([*words, "--asr", str(tmp_path / "gone"), "--speaker", "mei", "--workers", "3"]) == 2
    assert "Whisper" in capsys.readouterr().err
    (untranscribed / "transcripts.list").write_text("long.wav|mei|JP|はい\n", "utf-8")
    assert main([*words, "--style-model", str(tmp_path / "gone.onnx")]) == 2
    assert "gone.onnx" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
@pytest.mark.skipif(not ASR, reason="RPLAB_ASR names no folder of a Whisper model")
@pytest.mark.skipif(importlib.util.find_spec("faster_whisper") is None, reason="faster-whisper is not installed")
def test_real_asr_understands_the_embedded_voice(untranscribed, tmp_path):
    stats, out = prepare(untranscribed, tmp_path / "stage", asr=ASR)

    said = kana_of("".join(SENTENCES))
    heard = kana_of("".join(row["text"] for _, row in read_rows(out / "clips.jsonl")))
    assert stats["clips"] == 6
    assert edit_distance(said, heard) / len(said) < 0.3
