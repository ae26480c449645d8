"""Torch generator -> ONNX voice folder; nothing is published before onnxruntime agrees with torch.

Two forms: `split` (encoder.onnx, flow.onnx, decoder.onnx: our runtime, seeded and streamed) and `mono`
(`<name>.onnx`: one graph with the signature that other Style-Bert-VITS2 programs call). Two exporters, torch's dynamo one
and the older tracing one, which is the default: it is five to ten times faster and gives smaller graphs.

A graph is written beside its place, loaded by onnxruntime, compared with torch at three lengths, and only then renamed; a
graph that differs is deleted and named.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rplab.errors import ModelError
from rplab.jsonl import write_text
from rplab.tts.checkpoint_io import inference_state, save_weights
from rplab.tts.model.generator import Generator
from rplab.tts.model.graphs import EncoderGraph, FlowGraph, MonoGraph, WideDecoderGraph
from rplab.tts.model.hyper import VoiceConfigFile, VoiceSize, to_family
from rplab.tts.model.layers import fold_weights
from rplab.tts.symbols import JAPANESE_ID, JAPANESE_TONE_OFFSET

logger = logging.getLogger(__name__)

Exporter: TypeAlias = Literal["legacy", "dynamo"]
TOLERANCE = 1e-5
"""Largest difference to torch, relative to the largest value where that is above 1."""
CHECK_LENGTHS = (7, 31, 90)
"""Phones (encoder, mono) or frames (flow, decoder) at which a graph is compared."""
TRACE_LENGTH = 23
_OPSET = 17
_ATTEMPTS = 3


@dataclass(frozen=True)
class GraphPlan:
    """One graph to export."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, str]]
    example: Callable[[int, int], tuple[Tensor, ...]]
    """(length, seed) -> inputs."""
    defaults: Mapping[str, NDArray[np.int64]] = field(default_factory=dict[str, NDArray[np.int64]])
    """Inputs that may be left out, with what they then are."""


@dataclass(frozen=True)
class ExportedGraph:
    """One published graph and how far it is from torch."""

    path: Path
    max_difference: float
    size_bytes: int


def export_voice(
    generator: Generator,
    config: VoiceConfigFile,
    style_vectors: NDArray[np.float32],
    out: Path,
    *,
    forms: Sequence[Literal["split", "mono"]] = ("split", "mono"),
    exporter: Exporter = "legacy",
    keep_weights: bool = True,
) -> list[ExportedGraph]:
    """Write a voice folder: graphs, `config.json`, `style_vectors.npy` and the inference weights.

    Args:
        generator: The trained network; it is not changed.
        config: Name, sizes, speakers and styles.
        style_vectors: (styles, 256), float32.
        out: Folder; files of the same names are replaced one by one.
        forms: Which graphs.
        exporter: Which of torch's exporters.
        keep_weights: Also write `<name>.safetensors`.

    Raises:
        ModelError: A graph does not load or differs from torch by more than `TOLERANCE`; it is not left behind.
    """
    if style_vectors.shape != (len(config.styles), config.size.style_channels):
        raise ModelError(f"style vectors are {style_vectors.shape}, for {len(config.styles)} styles of {config.size.style_channels} values")
    out.mkdir(parents=True, exist_ok=True)
    folded = copy.deepcopy(generator).cpu().float().eval()
    fold_weights(folded)
    plans = [plan for form in forms for plan in _plans(form, folded, config)]
    for plan in plans:
        plan.module.eval()  # torch's exporter restores the mode of the outermost module in all of them
    exported = [export_graph(plan, out, exporter) for plan in plans]
    if keep_weights:
        save_weights(out / f"{config.name}.safetensors", inference_state(generator.state_dict()))
    np.save(out / "style_vectors.npy", style_vectors.astype(np.float32))
    write_text(out / "config.json", json.dumps(to_family(config), ensure_ascii=False, indent=2) + "\n")
    return exported


def _plans(form: str, generator: Generator, config: VoiceConfigFile) -> list[GraphPlan]:
    size = config.size
    per_phone = {name: {1: "phones"} for name in ("phones", "tones", "languages")}
    if form == "mono":
        batched = {name: {0: "batch", 1: "phones"} for name in ("x_tst", "tones", "language")}
        alone = {name: {0: "batch"} for name in ("x_tst_lengths", "sid", "style_vec")}
        dynamic = {**batched, **alone, "bert": {0: "batch", 2: "phones"}, "output": {0: "batch", 2: "samples"}}
        return [
            GraphPlan(config.name, MonoGraph(generator), MonoGraph.INPUTS, MonoGraph.OUTPUTS, dynamic, lambda n, s: mono_inputs(size, n, s))
        ]
    text_out = {name: {2: "phones"} for name in ("mean", "log_deviation", "log_duration")}
    encoder_axes = {**per_phone, "bert": {2: "phones"}, "duration_noise": {2: "phones"}, **text_out}
    return [
        GraphPlan(
            "encoder",
            EncoderGraph(generator),
            EncoderGraph.INPUTS,
            EncoderGraph.OUTPUTS,
            encoder_axes,
            lambda n, s: encoder_inputs(size, n, s),
        ),
        GraphPlan(
            "flow",
            FlowGraph(generator),
            FlowGraph.INPUTS,
            FlowGraph.OUTPUTS,
            {"z_prior": {2: "frames"}, "z": {2: "frames"}},
            lambda n, s: latent_inputs(size, n, s),
        ),
        GraphPlan(
            "decoder",
            WideDecoderGraph(generator),
            WideDecoderGraph.INPUTS,
            WideDecoderGraph.OUTPUTS,
            {"z": {2: "frames"}, "audio": {2: "samples"}},
            lambda n, s: (*latent_inputs(size, n, s), torch.tensor([s % 3, min(size.overlap_frames, n // 2)])),
            defaults={"beside": np.zeros(2, dtype=np.int64)},
        ),
    ]


def encoder_inputs(size: VoiceSize, length: int, seed: int) -> tuple[Tensor, ...]:
    """Return random inputs of `EncoderGraph` for `length` phones."""
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randint(0, size.num_symbols, (1, length), generator=draw),
        torch.randint(0, 2, (1, length), generator=draw) + JAPANESE_TONE_OFFSET,
        torch.full((1, length), JAPANESE_ID),
        torch.randn(1, size.bert_channels, length, generator=draw),
        torch.randn(1, size.style_channels, generator=draw) * 0.1,
        torch.zeros(1, dtype=torch.long),
        torch.randn(1, 2, length, generator=draw) * 0.6,
        torch.tensor([0.3]),
    )


def latent_inputs(size: VoiceSize, length: int, seed: int) -> tuple[Tensor, ...]:
    """Return random inputs of `FlowGraph` and `DecoderGraph` for `length` frames."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(1, size.inter_channels, length, generator=draw), torch.randn(1, size.speaker_channels, 1, generator=draw) * 0.1


def mono_inputs(size: VoiceSize, length: int, seed: int) -> tuple[Tensor, ...]:
    """Return inputs of `MonoGraph` without noise, so that its output can be compared."""
    phones, tones, languages, bert, style, speaker, _, ratio = encoder_inputs(size, length, seed)
    scalars = (torch.tensor(1.0), ratio[0], torch.tensor(0.0), torch.tensor(0.0))
    return phones, torch.tensor([length]), speaker, tones, languages, bert, style, *scalars


def export_graph(plan: GraphPlan, out: Path, exporter: Exporter) -> ExportedGraph:
    """Export, check and publish one graph.

    Raises:
        ModelError: It does not load in onnxruntime, or differs from torch.
    """
    temporary, target = out / f".{plan.name}.onnx.tmp", out / f"{plan.name}.onnx"
    try:
        write_graph(plan, temporary, exporter)
        _add_defaults(plan, temporary)
        worst = compare_graph(plan, temporary)
        temporary.replace(target)
    finally:
        for leftover in out.glob(f".{plan.name}.onnx.tmp*"):
            leftover.unlink()
    logger.info("%s: %s exporter, largest difference to torch %.1e", target.name, exporter, worst)
    return ExportedGraph(target, worst, target.stat().st_size)


def write_graph(plan: GraphPlan, path: Path, exporter: Exporter) -> None:
    """Run one of torch's exporters."""
    example = plan.example(TRACE_LENGTH, 0)
    names: dict[str, Any] = {"input_names": list(plan.inputs), "output_names": list(plan.outputs)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of every shape it bakes in; compare_graph finds those that matter
        if exporter == "legacy":
            axes = {name: dict(axes) for name, axes in plan.dynamic.items()}
            torch.onnx.export(plan.module, example, str(path), dynamo=False, opset_version=_OPSET, dynamic_axes=axes, **names)
            return
        batched = tuple(
            torch.cat([value, value]) if "batch" in plan.dynamic.get(name, {}).values() else value
            for name, value in zip(plan.inputs, example, strict=True)
        )
        shapes = {
            name: (dict.fromkeys(plan.dynamic[name], torch.export.Dim.AUTO) if name in plan.dynamic else None) for name in plan.inputs
        }
        torch.onnx.export(plan.module, batched, str(path), dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False, **names)


def _add_defaults(plan: GraphPlan, path: Path) -> None:
    """Make inputs optional: an initialiser of the same name is what they are when they are not given."""
    if plan.defaults:
        model = onnx.load(path)
        model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in plan.defaults.items())
        onnx.save(model, path)


def compare_graph(plan: GraphPlan, path: Path) -> float:
    """Return the largest difference of a graph to its module over `CHECK_LENGTHS`.

    Raises:
        ModelError: It does not load, or a difference is above `TOLERANCE`.
    """
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{plan.name}.onnx does not load in onnxruntime: {error}. It was not kept") from error
    worst = max(_difference(plan, session, length) for length in CHECK_LENGTHS)
    if not worst <= TOLERANCE:
        raise ModelError(f"{plan.name}.onnx differs from torch by {worst:.1e} (at most {TOLERANCE:.0e} is allowed). It was not kept")
    return worst


@torch.no_grad()
def _difference(plan: GraphPlan, session: onnxruntime.InferenceSession, length: int) -> float:
    for attempt in range(_ATTEMPTS):
        inputs = plan.example(length, attempt + 1)
        wanted = plan.module(*inputs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        feed = {name: value.numpy() for name, value in zip(plan.inputs, inputs, strict=True)}
        present = {entry.name for entry in (*session.get_inputs(), *session.get_overridable_initializers())}
        got = session.run(list(plan.outputs), {name: value for name, value in feed.items() if name in present})
        pairs = [(np.asarray(a), b.numpy()) for a, b in zip(got, wanted, strict=True)]
        if all(a.shape == b.shape for a, b in pairs):
            return max(float(np.abs(a - b).max()) / max(1.0, float(np.abs(b).max())) for a, b in pairs)
        # A duration within rounding error of a whole frame may fall either way: another draw decides.
    return float("inf")
