"""Stage `voice_export`: a trained generator -> a voice folder that speaks without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from rplab.errors import ModelError
from rplab.jsonl import write_text
from rplab.stage import StageContext, Stats
from rplab.tts.checkpoint_io import LoadReport, load_weights
from rplab.tts.export_onnx import ExportedGraph, export_voice
from rplab.tts.model.generator import Generator
from rplab.tts.model.hyper import VoiceConfigFile, from_family
from rplab.tts.training_config import VoiceExportConfig

VOICE = "voice"


def export_trained(config: VoiceExportConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Export `train/generator.safetensors` into `voice/`; input name: `train`.

    Raises:
        ModelError: The checkpoint does not fit its config, or a graph differs from torch.
    """
    exported, report = export_folder(inputs["train"], context.out / VOICE, config)
    lines = ["# Voice export", "", f"- {report}", "", "| graph | bytes | largest difference to torch |", "|---|---|---|"]
    lines += [f"| {graph.path.name} | {graph.size_bytes} | {graph.max_difference:.1e} |" for graph in exported]
    write_text(context.out / "report.md", "\n".join(lines) + "\n")
    return {"graphs": len(exported), "bytes": sum(graph.size_bytes for graph in exported), "weights": str(report)}


def export_folder(folder: Path, out: Path, config: VoiceExportConfig) -> tuple[list[ExportedGraph], LoadReport]:
    """Export the weights of a folder with `config.json`, `style_vectors.npy` and one `.safetensors` generator.

    Args:
        folder: Output of `voice_train`, or a voice of the family with inference weights.
        out: Voice folder to write.
        config: Forms and exporter.

    Raises:
        ModelError: Files are missing or do not belong together.
    """
    family = from_family(folder / "config.json")
    generator, report = load_generator(folder, family)
    try:
        styles = np.load(folder / "style_vectors.npy", allow_pickle=False).astype(np.float32)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'style_vectors.npy'}: missing or damaged ({error}). Preprocess or fetch the voice again") from None
    styles = styles[: len(family.styles)]
    return export_voice(generator, family, styles, out, forms=config.forms, exporter=config.exporter), report


def load_generator(folder: Path, family: VoiceConfigFile) -> tuple[Generator, LoadReport]:
    """Return the generator of a folder, ready to speak."""
    own = folder / "generator.safetensors"
    files = [own] if own.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no .safetensors weights in it. Train a voice, or copy its weights here")
    torch.manual_seed(0)
    generator = Generator(family.size)
    report = load_weights(generator, files[-1], allow_no_posterior=True)
    return generator.eval(), report
