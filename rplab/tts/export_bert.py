"""Japanese character BERT (DeBERTa-v2) -> ONNX variants that onnxruntime loads, each compared before it is published.

Only `hidden_states[-3]` is used by the voice family, so all but the last two layers are exported. Variants (spec/tts.md, F):

* `model.onnx`: fp32 with constants folded: the relative-position projections become tables, a third less memory.
* `model_fp16.onnx`: onnxruntime's own float16 converter on the folded graph, fp32 input and output. The older converter
  that the predecessor used leaves the graph's own Cast nodes at fp32 and gives files that do not load; on a graph that is
  not folded the result does not load in onnxruntime 1.24 without optimisations, as other programs open it.
* `model_int8.onnx`: per-channel dynamic int8 of the matrix products and the embedding, float16 tables of relative positions, from the
  folded graph.

`vocab.txt` is copied: our runtime needs no tokenizer; the tokenizer's other files go along for programs that do. Every
variant is loaded with and without onnxruntime's optimisations. One that does not load or is too far from fp32 is deleted
and named; fp32 is what every other one falls back to.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import types
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn
from transformers import AutoModel

from rplab.errors import ModelError
from rplab.tts.bert import VARIANTS
from rplab.tts.bert_vocab import BertVocabulary

logger = logging.getLogger(__name__)

CUT_LAYERS = 2
"""Layers above the one whose output is used."""
TOKENIZER_FILES = ("vocab.txt", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "config.json")
"""`vocab.txt` is what our runtime needs, the others what programs of the family load a tokenizer from."""
_INPUTS = ("input_ids", "attention_mask")
_OPSET = 17
_LENGTHS = (5, 14, 40)
FP32_TOLERANCE = 1e-4
FP16_TOLERANCE = 1e-2
INT8_COSINE = 0.998


@dataclass(frozen=True)
class BertVariant:
    """One exported variant and how far it is from torch (fp32) or from fp32 (others)."""

    name: str
    path: Path
    max_difference: float
    """Relative to the largest value."""
    cosine: float
    """Lowest over the compared texts."""
    size_bytes: int


@dataclass(frozen=True)
class BertExport:
    """What was published, and what was refused with its reason."""

    variants: tuple[BertVariant, ...]
    refused: dict[str, str]


class _Truncated(nn.Module):
    """The model up to the layer that is used."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (texts, characters + 2, channels)."""
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def export_bert(source: Path, out: Path, *, variants: Sequence[Literal["fp32", "fp16", "int8"]] = ("fp32", "fp16", "int8")) -> BertExport:
    """Export a Hugging Face folder of a character-level DeBERTa-v2.

    Args:
        source: Folder with config.json, weights and vocab.txt.
        out: Folder to write.
        variants: Which; fp32 is always made, the others are derived from it.

    Raises:
        ModelError: The folder is incomplete, or fp32 differs from torch.
    """
    vocabulary = BertVocabulary(source / "vocab.txt")
    module = _load(source)
    out.mkdir(parents=True, exist_ok=True)
    refused: dict[str, str] = {}
    published: list[BertVariant] = []
    for leftover in out.glob(".bert-*"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".bert-", dir=out) as work:
        fp32 = Path(work) / VARIANTS["fp32"]
        _write_fp32(module, Path(work) / "traced.onnx")
        _fold(Path(work) / "traced.onnx", fp32)
        wanted = [_torch_output(module, ids) for ids in _texts(vocabulary)]
        del module
        published.append(_publish("fp32", fp32, out, vocabulary, wanted, keep=True))
        for name in variants:
            if name == "fp32":
                continue
            path = Path(work) / VARIANTS[name]
            try:
                _write_fp16(fp32, path) if name == "fp16" else _write_int8(fp32, path)
                published.append(_publish(name, path, out, vocabulary, wanted))
            except ModelError as error:
                refused[name] = str(error)
                (out / VARIANTS[name]).unlink(missing_ok=True)
                logger.warning("BERT %s is not published: %s", name, error)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, out / name)
    return BertExport(tuple(published), refused)


def _load(source: Path) -> _Truncated:
    if not (source / "config.json").is_file():
        raise ModelError(f"{source}: no config.json. Give the folder of a character-level DeBERTa-v2 model")
    try:
        model: Any = AutoModel.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
        layers = model.encoder.layer
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise ModelError(f"{source}: not a loadable DeBERTa-v2 model ({error}). Fetch it again") from error
    if len(layers) <= CUT_LAYERS:
        raise ModelError(f"{source}: {len(layers)} layers; the layer before the last {CUT_LAYERS} is needed")
    model.encoder.layer = layers[: len(layers) - CUT_LAYERS]
    for layer in model.encoder.layer:
        attention = layer.attention.self
        if getattr(attention, "share_att_key", False) and {"c2p", "p2c"} <= set(attention.pos_att_type):
            attention.disentangled_attention_bias = types.MethodType(_position_scores, attention)
    return _Truncated(model).eval()


def _position_scores(attention: Any, query: Tensor, key: Tensor, relative: Tensor, embeddings: Tensor, scale_factor: int) -> Tensor:
    """Return the scores of relative positions (He et al. 2021, arXiv 2006.03654), with the same numbers as transformers.

    It copies both tables of 512 positions for every text of a batch and multiplies with all of them; a text of 17 characters has
    33 relative positions. Here only their rows are cut out: a quarter of the time of a short text.

    Args:
        attention: DebertaV2's `DisentangledSelfAttention`, with keys shared by content and position.
        query: (texts * heads, T, channels), `key` likewise.
        key: See `query`.
        relative: Bucketed distances of all pairs, (..., T, T).
        embeddings: (positions, hidden), of relative positions.
        scale_factor: Scores that are added up.

    Returns:
        (texts * heads, T, T).
    """
    heads, span, length = attention.num_attention_heads, attention.pos_ebd_size, query.size(1)
    first = torch.clamp(torch.as_tensor(span - length), min=0)
    index = torch.clamp(relative.long().reshape(1, 1, length, length) + span, 0, 2 * span - 1) - first
    scale = math.sqrt(query.size(-1) * scale_factor)

    def scores(rows: Tensor, project: Any, places: Tensor) -> Tensor:
        table = attention.transpose_for_scores(project(embeddings[: 2 * span].unsqueeze(0)), heads)[:, first : span + length]
        pairs = torch.matmul(rows.reshape(-1, heads, length, rows.size(-1)), table.transpose(-1, -2))
        return torch.gather(pairs, -1, places.expand(pairs.size(0), heads, length, length)).reshape(-1, length, length) / scale

    to_keys = scores(query, attention.key_proj, index)
    mirrored = torch.clamp(-relative.long().reshape(1, 1, length, length) + span, 0, 2 * span - 1) - first
    return to_keys + scores(key, attention.query_proj, mirrored).transpose(-1, -2)


def _texts(vocabulary: BertVocabulary) -> list[NDArray[np.int64]]:
    generator = np.random.Generator(np.random.PCG64(0))
    ends = vocabulary.ids("")
    middles = [generator.integers(4, max(5, len(vocabulary)), size=length) for length in _LENGTHS]
    return [np.concatenate([ends[:1], middle, ends[1:]])[None].astype(np.int64) for middle in middles]


@torch.no_grad()
def _torch_output(module: _Truncated, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    tensor = torch.from_numpy(ids)
    return module(tensor, torch.ones_like(tensor)).numpy()


def _write_fp32(module: _Truncated, path: Path) -> None:
    ids = torch.arange(4, 36).reshape(2, 16) % module.model.config.vocab_size
    axes = {name: {0: "batch", 1: "characters"} for name in (*_INPUTS, "features")}  # we send one text, others several
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of shapes; lengths are compared afterwards
        torch.onnx.export(
            module,
            (ids, torch.ones_like(ids)),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(_INPUTS),
            output_names=["features"],
            dynamic_axes=axes,
        )


def _write_fp16(fp32: Path, path: Path) -> None:
    try:
        model = convert_float_to_float16(onnx.load(fp32), keep_io_types=True, disable_shape_infer=True)
        onnx.save(model, path)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"the float16 conversion failed ({error})") from error


def _fold(traced: Path, folded: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    options.log_severity_level = 3
    try:
        onnxruntime.InferenceSession(str(traced), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common public base
        raise ModelError(f"onnxruntime does not load the exported BERT ({str(error)[:200]})") from error
    traced.unlink()


def _write_int8(fp32: Path, path: Path) -> None:
    try:
        quantize_dynamic(
            str(fp32), str(path), op_types_to_quantize=["MatMul", "Gemm", "Gather"], per_channel=True, weight_type=QuantType.QInt8
        )
        model = onnx.load(path)
        _halve_tables(model.graph)
        onnx.save(model, path)
    except (ValueError, RuntimeError, OSError) as error:
        raise ModelError(f"the int8 conversion failed ({error})") from error


def _halve_tables(graph: onnx.GraphProto) -> None:
    """Keep the tables that rows are cut out of (relative positions: 90 MB at full size) as float16; the rows become float32 again."""
    tables = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 3}
    users = Counter(name for node in graph.node for name in node.input)
    for index, node in reversed(list(enumerate(graph.node))):
        table = tables.get(node.input[0]) if node.op_type == "Slice" else None
        if table is None or users[table.name] != 1:
            continue
        table.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table).astype(np.float16), table.name))
        rows, node.output[0] = node.output[0], f"{node.output[0]}_half"
        graph.node.insert(index + 1, onnx.helper.make_node("Cast", [node.output[0]], [rows], to=onnx.TensorProto.FLOAT))


def _publish(
    name: str, path: Path, out: Path, vocabulary: BertVocabulary, wanted: list[NDArray[np.float32]], *, keep: bool = False
) -> BertVariant:
    """Load and compare a variant, then move it into place (`keep` copies: the others are still made from it)."""
    got = _outputs(path, _texts(vocabulary))
    worst = max(float(np.abs(a - b).max() / max(1e-9, np.abs(b).max())) for a, b in zip(got, wanted, strict=True))
    cosine = min(_cosine(a, b) for a, b in zip(got, wanted, strict=True))
    limit = {"fp32": FP32_TOLERANCE, "fp16": FP16_TOLERANCE}.get(name)
    if not all(np.isfinite(a).all() for a in got) or (limit is not None and worst > limit) or (limit is None and cosine < INT8_COSINE):
        raise ModelError(f"{name} is too far from torch: {worst:.1e} of the largest value, cosine {cosine:.5f}")
    target = out / VARIANTS[name]
    shutil.copy(path, target) if keep else path.replace(target)
    logger.info("BERT %s: %.1e of the largest value, cosine %.5f", name, worst, cosine)
    return BertVariant(name, target, worst, cosine, target.stat().st_size)


def _outputs(path: Path, texts: list[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = {entry.name for entry in session.get_inputs()}
        feeds = [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in texts]
        outputs = [session.run(None, {key: value for key, value in feed.items() if key in names})[0] for feed in feeds]
    except Exception as error:  # onnxruntime's exceptions have no common public base
        raise ModelError(f"{path.name} does not load or run in onnxruntime ({str(error)[:200]})") from error
    return [np.asarray(output, dtype=np.float32) for output in outputs]


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    return float(((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1) + 1e-12)).min())
