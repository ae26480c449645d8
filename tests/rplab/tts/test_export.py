"""ONNX export: both forms agree with torch, nothing broken is left behind."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from rplab.errors import ModelError
from rplab.tts import export_onnx
from rplab.tts.export_onnx import ExportedGraph, export_graph, export_voice
from rplab.tts.model.generator import Generator
from rplab.tts.model.graphs import FlowGraph, MonoGraph
from rplab.tts.model.hyper import AudioFormat, VoiceConfigFile, VoiceSize, from_family
from rplab.tts.model.layers import fold_weights
from rplab.tts.runtime import SplitVoice, plan_pieces

ASSETS = Path(__file__).parents[2] / "assets/tts"
TINY = VoiceSize(
    num_speakers=4,
    inter_channels=32,
    hidden_channels=32,
    filter_channels=64,
    num_layers=3,
    upsample_channels=32,
    speaker_channels=32,
)
SMALLEST = VoiceSize(
    audio=AudioFormat(sample_rate=8000, fft_size=64, hop_length=16, num_mels=8, segment_samples=256),
    inter_channels=8,
    hidden_channels=8,
    filter_channels=8,
    num_layers=3,
    flow_layers=3,
    num_flows=1,
    posterior_layers=1,
    duration_channels=8,
    upsample_rates=(4, 4),
    upsample_kernels=(8, 8),
    upsample_channels=16,
    resblock_kernels=(3,),
    resblock_dilations=((1, 3),),
    speaker_channels=8,
)
STYLES = np.zeros((1, 256), dtype=np.float32)


@pytest.fixture(scope="module")
def generator():
    torch.set_num_threads(1)
    model = Generator(TINY).eval()
    model.load_state_dict(load_file(ASSETS / "tiny_generator.safetensors"))
    return model


def config(size: VoiceSize) -> VoiceConfigFile:
    return VoiceConfigFile(size, "tiny", {f"s{i}": i for i in range(size.num_speakers)}, {"Neutral": 0})


@pytest.mark.parametrize("size", [SMALLEST, pytest.param(TINY, marks=pytest.mark.slow)])
def test_both_forms_agree_with_torch_and_make_a_voice_folder(generator, tmp_path, size):
    torch.manual_seed(1)
    exported = export_voice(generator if size is TINY else Generator(size), config(size), STYLES, tmp_path)
    two_sentences_at_once(tmp_path / "tiny.onnx", size)

    assert [graph.path.name for graph in exported] == ["encoder.onnx", "flow.onnx", "decoder.onnx", "tiny.onnx"]
    assert all(graph.max_difference <= 1e-5 for graph in exported)
    assert from_family(tmp_path / "config.json").size == size
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "decoder.onnx", "encoder.onnx", "flow.onnx", "style_vectors.npy", "tiny.onnx", "tiny.safetensors",
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx"))
    assert tuple(entry.name for entry in session.get_inputs()) == MonoGraph.INPUTS
    assert [entry.type for entry in session.get_inputs()][:5] == ["tensor(int64)"] * 5


@pytest.mark.parametrize("size", [SMALLEST, TINY], ids=["smallest", "tiny"])
@pytest.mark.parametrize("exporter", ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)])
def test_decoder_cuts_what_is_beside_a_piece_without_a_change(tmp_path, size, exporter):
    torch.manual_seed(2)
    model = Generator(size).eval()
    plan = next(plan for plan in export_onnx._plans("split", folded(model), config(size)) if plan.name == "decoder")
    export_graph(plan, tmp_path, exporter)
    session = onnxruntime.InferenceSession(str(tmp_path / "decoder.onnx"))
    z, speaker = (value.numpy() for value in export_onnx.latent_inputs(size, 60, 3))
    (whole,) = session.run(None, {"z": z, "speaker": speaker})  # without `beside`: the graph of other programs
    reach, hop = size.overlap_frames, size.audio.hop_length

    assert whole.shape[-1] == 60 * hop
    for start, end in [(0, 60), (0, 1), (0, 20), (1, 3), (5, 30), (20, 45), (59, 60)]:
        first, last = max(0, start - reach), min(60, end + reach)
        beside = np.array([start - first, last - end])
        (piece,) = session.run(None, {"z": z[:, :, first:last], "speaker": speaker, "beside": beside})
        assert piece.shape[-1] == (end - start) * hop
        assert np.abs(piece - whole[:, :, start * hop : end * hop]).max() <= 1e-6 * max(1.0, np.abs(whole).max())


def test_runtime_speaks_an_exported_voice_in_pieces_that_equal_the_whole(tmp_path):
    torch.manual_seed(3)
    export_voice(Generator(SMALLEST).eval(), config(SMALLEST), STYLES, tmp_path, forms=("split",), keep_weights=False)
    model = SplitVoice((tmp_path / "encoder.onnx", tmp_path / "flow.onnx", tmp_path / "decoder.onnx"), SMALLEST, threads=2)
    z, speaker = (value.numpy() for value in export_onnx.latent_inputs(SMALLEST, 150, 4))
    whole = model.decode(z, speaker, 0, 150)

    assert whole.shape == (150 * SMALLEST.audio.hop_length,)
    for workers in (1, 2):
        pieces = [model.decode(z, speaker, start, end) for start, end in plan_pieces(150, workers)]
        assert len(pieces) > 2
        assert np.abs(np.concatenate(pieces) - whole).max() <= 1e-6


def test_flow_graph_is_the_flow(generator):
    z, speaker = export_onnx.latent_inputs(TINY, 40, 5)
    with torch.no_grad():
        wanted = generator.flow(z, torch.ones_like(z[:, :1]), speaker, reverse=True)
        got = FlowGraph(generator)(z, speaker)

    assert float((wanted - z).abs().max()) > 0.1  # it does something
    assert float((got - wanted).abs().max()) <= 1e-5


def folded(model):
    copied = copy.deepcopy(model)
    fold_weights(copied)
    return copied


def two_sentences_at_once(path, size):
    session = onnxruntime.InferenceSession(str(path))
    one = {n: v.numpy() for n, v in zip(MonoGraph.INPUTS, export_onnx.mono_inputs(size, 30, 5), strict=True)}
    two = {n: np.concatenate([v, v]) if v.ndim else v for n, v in one.items()}
    two["x_tst_lengths"] = np.array([30, 12])
    (audio,) = session.run(None, two)
    (alone,) = session.run(None, one)

    assert audio.shape[0] == 2
    assert np.abs(audio[:1] - alone).max() < 1e-5


def test_style_vectors_must_fit(generator, tmp_path):
    with pytest.raises(ModelError, match="style vectors"):
        export_voice(generator, config(TINY), np.zeros((2, 256), np.float32), tmp_path)


def test_a_graph_that_differs_is_refused_and_not_left_behind(generator, tmp_path, monkeypatch):
    folded = Generator(SMALLEST).eval()
    fold_weights(folded)
    plan = export_onnx._plans("split", folded, config(SMALLEST))[1]
    wrong = dataclasses.replace(plan, module=torch.nn.Identity())
    monkeypatch.setattr(export_onnx, "write_graph", lambda _plan, path, exporter: real(plan, path, exporter))

    with pytest.raises(ModelError, match="differs from torch"):
        export_graph(dataclasses.replace(wrong, module=_Noise(plan.module)), tmp_path, "legacy")
    assert list(tmp_path.iterdir()) == []


real = export_onnx.write_graph


class _Noise(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs):
        return self.inner(*inputs) + 1e-3


@pytest.mark.slow
def test_dynamo_exporter_agrees_as_well(tmp_path):
    model = Generator(SMALLEST).eval()
    exported: list[ExportedGraph] = export_voice(model, config(SMALLEST), STYLES, tmp_path, exporter="dynamo", keep_weights=False)

    assert len(exported) == 4
    assert all(graph.max_difference <= 1e-5 for graph in exported)
