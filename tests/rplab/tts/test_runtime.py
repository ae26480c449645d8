"""The ONNX runtime: pieces, seeds, styles, fallbacks, errors; all without torch."""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rplab.errors import AudioError, ConfigError, ModelError
from rplab.tts.aivmx import write_aivmx
from rplab.tts.bert import BertFeatures
from rplab.tts.g2p import read_text
from rplab.tts.model.hyper import from_family
from rplab.tts.onnx_engine import OnnxVoice, OnnxVoiceOptions
from rplab.tts.resample import resample
from rplab.tts.runtime import MonoVoice, SpeechRequest, SplitVoice, open_model, plan_pieces, prepare
from rplab.tts.session import Graph, choose_providers
from rplab.tts.signal import rms_dbfs
from rplab.tts.text import SpeechTextError
from rplab.tts.voice_folder import find_voice

VOICE = Path(__file__).parents[2] / "assets/tts/smallest_voice"
SENTENCE = "明日の朝は早く起きなければなりません。"
STYLE = np.zeros(256, np.float32)


@pytest.fixture(scope="module")
def voice():
    return OnnxVoice(VOICE)


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(VOICE, tmp_path / "voice")


def write_bert(path: Path, *, scale: float = 1.0, rows: int = 8) -> None:
    """Write a graph with BERT's inputs whose features are rows of a table."""
    table = (np.random.default_rng(0).normal(size=(rows, 1024)) * scale).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["features"])],
        "bert",
        [helper.make_tensor_value_info(name, TensorProto.INT64, [1, "n"]) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, "n", 1024])],
        [numpy_helper.from_array(table, "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def bert_folder(tmp_path):
    home = tmp_path / "bert"
    home.mkdir()
    (home / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n明\n日\nの\n声\n", "utf-8")
    write_bert(home / "model.onnx")
    return home


def test_runtime_imports_neither_torch_nor_transformers():
    code = (
        "import sys, pathlib\n"
        "from rplab.tts.onnx_engine import OnnxVoice\n"
        f"OnnxVoice(pathlib.Path({str(VOICE)!r})).synthesise('はい。')\n"
        "print([m for m in ('torch', 'transformers', 'onnx', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[]"


def test_pieces_put_together_equal_one_decoding():
    files = find_voice(VOICE)
    assert files.split is not None
    model = SplitVoice(files.split, files.config.size)
    sentence = prepare(read_text("明日の朝は早く起きなければなりません.駅前の新しい喫茶店に行きましょう."), None)
    z, speaker = model.latent(sentence, SpeechRequest(STYLE))
    whole = model.decode(z, speaker, 0, z.shape[2])
    pieces = list(model.speak(sentence, SpeechRequest(STYLE)))

    assert len(pieces) >= 3
    assert np.abs(np.concatenate(pieces) - whole).max() <= 1e-6
    assert rms_dbfs(whole) > -60


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("frames", [1, 15, 16, 17, 47, 48, 64, 143, 160, 1000])
def test_pieces_cover_every_frame_once(frames, workers):
    pieces = plan_pieces(frames, workers)

    assert [start for start, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
    assert pieces[-1][1] == frames
    assert all(end > start for start, end in pieces)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_number_of_threads_changes_no_sound(voice, threads):
    other = OnnxVoice(VOICE, options=OnnxVoiceOptions(threads=threads))

    assert np.abs(np.concatenate(list(other.stream(SENTENCE))) - voice.synthesise(SENTENCE)).max() <= 1e-6
    other.close()
    other.close()


def test_listener_that_leaves_stops_the_decoding(voice):
    stream = voice.stream(SENTENCE * 3)
    next(stream)
    stream.close()

    assert len(voice.synthesise("はい。")) > 100


def test_equal_seeds_give_equal_sound_in_any_order(voice):
    first = voice.synthesise(SENTENCE)
    voice.synthesise("別の文です。")

    assert np.array_equal(voice.synthesise(SENTENCE), first)
    other = OnnxVoice(VOICE, options=OnnxVoiceOptions(seed=7)).synthesise(SENTENCE)
    assert other.shape != first.shape or not np.array_equal(other, first)


def test_stream_equals_synthesise_and_starts_before_the_end(voice):
    pieces = list(voice.stream(SENTENCE + "次です。"))

    assert len(pieces) > 2
    whole = voice.synthesise(SENTENCE + "次です。")
    assert np.concatenate(pieces).shape == whole.shape
    assert np.abs(np.concatenate(pieces) - whole).max() <= 1e-6


def test_speed_pitch_and_style_change_the_sound(voice):
    plain, fast, slow = (len(voice.synthesise(SENTENCE, speed=speed)) for speed in (1.0, 2.0, 0.5))
    assert fast < plain * 0.8 < plain * 1.4 < slow
    assert abs(len(voice.synthesise(SENTENCE, pitch=6)) / plain - 1) < 0.2
    assert not np.array_equal(voice.synthesise("はい。", style="Happy"), voice.synthesise("はい。"))
    with pytest.raises(ConfigError, match=r"no style 'Sad'\. Use one of: Neutral, Happy"):
        voice.synthesise("はい。", style="Sad")


def test_style_weight_zero_is_the_mean_style():
    flat = OnnxVoice(VOICE, options=OnnxVoiceOptions(style_weight=0.0))

    assert np.array_equal(flat.synthesise("はい。", style="Happy"), flat.synthesise("はい。", style="Neutral"))


def test_loudness_target_is_met_by_one_gain():
    quiet = OnnxVoice(VOICE, options=OnnxVoiceOptions(loudness_dbfs=-30.0)).synthesise(SENTENCE)
    loud = OnnxVoice(VOICE, options=OnnxVoiceOptions(loudness_dbfs=-20.0)).synthesise(SENTENCE)

    assert abs(rms_dbfs(loud) - rms_dbfs(quiet) - 10.0) < 1.0
    assert np.abs(loud).max() < 0.9


def test_mono_graph_speaks_the_same_without_noise():
    files = find_voice(VOICE)
    assert files.split is not None
    assert files.mono is not None
    request = SpeechRequest(STYLE, noise=0.0, noise_duration=0.0)
    sentence = prepare(read_text("会議は午後三時から始まります."), None)
    split = np.concatenate(list(SplitVoice(files.split, files.config.size).speak(sentence, request)))
    mono = np.concatenate(list(MonoVoice(files.mono, files.config.size).speak(sentence, request)))

    assert np.abs(split - mono).max() <= 1e-5


@pytest.mark.parametrize("part", ["encoder", "flow", "decoder", "all", "mono"])
def test_voice_with_half_its_graphs_speaks_or_says_what_is_missing(folder, caplog, part):
    for name in ("encoder", "flow", "decoder") if part == "all" else ("smallest",) if part == "mono" else (part,):
        (folder / f"{name}.onnx").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(OnnxVoice(folder).synthesise("はい。")) > 100
    assert sum("instead of" in record.message for record in caplog.records) == (part not in ("all", "mono"))
    if part == "flow":
        (folder / "smallest.onnx").unlink()
        with pytest.raises(ModelError, match=r"flow\.onnx: no such file"):
            OnnxVoice(folder)


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
@pytest.mark.parametrize("name", ["int8", "fp32", "fp16"])
def test_any_bert_variant_may_go(bert_folder, caplog, name, damage):
    files = {"int8": "model_int8.onnx", "fp32": "model.onnx", "fp16": "model_fp16.onnx"}
    for file in files.values():
        write_bert(bert_folder / file)
    (bert_folder / files[name]).unlink() if damage == "missing" else (bert_folder / files[name]).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        features = BertFeatures(bert_folder)

    assert features.variant == ("fp32" if name == "int8" else "int8")
    assert len(caplog.records) == (name == "int8")


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_broken_split_graph_falls_back_to_mono(folder, caplog, damage):
    target = folder / "flow.onnx"
    target.unlink() if damage == "missing" else target.write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        spoken = OnnxVoice(folder).synthesise(SENTENCE)

    assert len(spoken) > 1000
    assert sum("instead of" in record.message for record in caplog.records) == 1
    assert "flow.onnx" in caplog.text


def test_bert_falls_back_by_load_success_with_one_notice(bert_folder, caplog):
    (bert_folder / "model_int8.onnx").write_bytes(b"broken")
    write_bert(bert_folder / "model_fp16.onnx", scale=float("nan"))
    with caplog.at_level(logging.WARNING):
        features = BertFeatures(bert_folder, prefer="fp16")

    assert features.variant == "fp32"
    assert len(caplog.records) == 1
    assert features("明日").shape == (4, 1024)
    (bert_folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match="no BERT model works"):
        BertFeatures(bert_folder)


def test_bert_features_change_the_sound_and_missing_vocabulary_is_named(bert_folder, voice):
    with_bert = OnnxVoice(VOICE, bert=bert_folder).synthesise("明日の朝。")
    without = voice.synthesise("明日の朝。")

    assert with_bert.shape != without.shape or not np.array_equal(with_bert, without)
    (bert_folder / "vocab.txt").unlink()
    with pytest.raises(ModelError, match=r"vocab\.txt"):
        OnnxVoice(VOICE, bert=bert_folder)


def test_voice_from_elsewhere_as_single_file_and_aivmx(folder, tmp_path):
    for part in ("encoder", "flow", "decoder"):
        (folder / f"{part}.onnx").unlink()
    assert len(OnnxVoice(folder / "smallest.onnx").synthesise("はい。")) > 100
    other = onnx.load(folder / "smallest.onnx")  # as HayaKoe names its inputs
    names = {"x_tst": "x", "x_tst_lengths": "x_lengths", "tones": "tone"}
    for entry in other.graph.input:
        entry.name = names.get(entry.name, entry.name)
    for node in other.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    onnx.save(other, folder / "synthesizer.onnx")
    assert len(OnnxVoice(folder / "synthesizer.onnx").synthesise("はい。")) > 100
    files = find_voice(folder / "smallest.onnx")
    write_aivmx(folder / "smallest.onnx", files.config, files.styles, tmp_path / "voice.aivmx", licence="CC0", creators=("us",))
    manifest = json.loads(Graph(tmp_path / "voice.aivmx").metadata["aivm_manifest"])
    assert manifest["model_architecture"] == "Style-Bert-VITS2 (JP-Extra)"
    assert [style["name"] for style in manifest["speakers"][0]["styles"]] == ["Neutral", "Happy"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["voice", "voice.aivmx"]

    assert len(OnnxVoice(tmp_path / "voice.aivmx").synthesise("はい。")) > 100
    onnx.save(onnx.load(folder / "smallest.onnx"), tmp_path / "plain.aivmx")
    with pytest.raises(ModelError, match="AIVM metadata"):
        OnnxVoice(tmp_path / "plain.aivmx")


def test_what_is_wrong_with_a_voice_is_named(folder):
    with pytest.raises(ConfigError, match="no speaker 'nobody'"):
        OnnxVoice(folder, options=OnnxVoiceOptions(speaker="nobody"))
    np.save(folder / "style_vectors.npy", np.zeros((1, 256), np.float32))
    with pytest.raises(ModelError, match="2 styles"):
        OnnxVoice(folder)
    (folder / "style_vectors.npy").write_bytes(b"x")
    with pytest.raises(ModelError, match="not an array"):
        OnnxVoice(folder)
    for file in folder.glob("*.onnx"):
        file.unlink()
    with pytest.raises(ModelError, match="no ONNX model"):
        OnnxVoice(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json: no such file"):
        OnnxVoice(folder)
    with pytest.raises(ModelError, match="no such voice"):
        OnnxVoice(folder / "nowhere")


def test_unknown_opset_and_foreign_graph_are_named(folder, bert_folder):
    model = onnx.load(folder / "flow.onnx")
    model.opset_import[0].version = 99
    onnx.save(model, folder / "flow.onnx")
    files = find_voice(folder)
    assert files.split is not None
    with pytest.raises(ModelError, match="Update onnxruntime"):
        SplitVoice(files.split, files.config.size)
    shutil.copy(bert_folder / "model.onnx", folder / "flow.onnx")
    with pytest.raises(ModelError, match="not a flow graph"):
        SplitVoice(files.split, files.config.size)


def test_missing_cuda_says_what_to_install():
    if "CUDAExecutionProvider" in choose_providers("auto"):
        pytest.skip("this machine has CUDA")
    with pytest.raises(ModelError, match="onnxruntime-gpu"):
        choose_providers("cuda")


def test_silent_voice_is_refused(folder):
    model = onnx.load(folder / "decoder.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, folder / "decoder.onnx")

    with pytest.raises(AudioError, match="makes no sound"):
        OnnxVoice(folder)


def test_hostile_texts_give_sound_or_a_clear_error(voice):
    pool = "明日はキャット!?.,'-ーっゃ々ゝｶﾞ〇鬱彅😀AzＺ19 \n…「」𠮷éЖ오\x00\u200d\ufeff%$10:30~"
    draw = random.Random(11)
    outcomes = {"sound": 0, "error": 0}
    texts = ["".join(draw.choice(pool) for _ in range(draw.randint(0, 30))) for _ in range(120)]
    for text in [*texts, "", "😀", "...", "あ" * 5000, "한국어", "\x00"]:
        try:
            sound = voice.synthesise(text)
        except (SpeechTextError, AudioError):
            outcomes["error"] += 1
            continue
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() > 1e-3
        outcomes["sound"] += 1
    assert outcomes["sound"] > 40
    assert outcomes["error"] >= 4


def test_unknown_policy_raise_stops_and_skip_announces(caplog):
    strict = OnnxVoice(VOICE, options=OnnxVoiceOptions(unknown="raise"))
    with pytest.raises(AudioError, match="no reading"):
        strict.synthesise("々です。")
    lenient = OnnxVoice(VOICE, options=OnnxVoiceOptions(unknown="skip"))
    with caplog.at_level(logging.WARNING):
        assert len(lenient.synthesise("はい。々です。")) > 100
    assert any("left out" in record.message for record in caplog.records)


def test_resampling_keeps_a_tone_and_its_level():
    time = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    raised = resample(tone, 2.0)
    wanted = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)

    assert len(raised) == 16_000
    assert np.abs(raised[500:-500] - wanted[500:-500]).max() < 5e-3
    assert np.abs(resample(np.sin(2 * np.pi * 3500 * time), 0.5)[200:-200]).max() < 0.02
    with pytest.raises(ValueError, match="ratio"):
        resample(tone, 0.0)


def test_open_model_prefers_split(folder):
    assert isinstance(open_model(find_voice(folder)), SplitVoice)
    assert json.loads((folder / "config.json").read_text("utf-8"))["data"]["use_jp_extra"] is True
    assert from_family(folder / "config.json").name == "smallest"
