"""Finding what a voice consists of: our split export, a Style-Bert-VITS2 folder, or one `.aivmx` file.

Folder: `config.json`, `style_vectors.npy`, and either `encoder/flow/decoder.onnx` or one other `*.onnx` (mono). AIVMX: an
ONNX file whose metadata carry config and style vectors (AIVM specification, MIT).
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rplab.errors import ModelError
from rplab.tts.model.hyper import VoiceConfigFile, from_family, parse_family
from rplab.tts.session import Device, Graph

SPLIT = ("encoder", "flow", "decoder")


@dataclass(frozen=True)
class VoiceFiles:
    """A voice ready to be loaded."""

    path: Path
    config: VoiceConfigFile
    styles: NDArray[np.float32]
    """(styles, 256); row 0 is the mean."""
    split: tuple[Path, Path, Path] | None
    """Encoder, flow and decoder, when at least one of them is there: loading names what is missing or broken."""
    mono: Path | None


def find_voice(path: Path, *, device: Device = "cpu") -> VoiceFiles:
    """Look at a folder or an `.aivmx` file.

    Raises:
        ModelError: Not a voice; says what is missing.
    """
    if path.suffix.lower() == ".aivmx":
        return _read_aivmx(path, device)
    if path.is_file() and path.suffix == ".onnx":
        folder, chosen = path.parent, path
    elif path.is_dir():
        folder, chosen = path, None
    else:
        raise ModelError(f"{path}: no such voice. Give a folder with config.json, style_vectors.npy and ONNX files, or an .aivmx file")
    config = from_family(folder / "config.json")
    split = tuple(folder / f"{name}.onnx" for name in SPLIT)
    there = [part.is_file() for part in split]
    whole = split if chosen is None and any(there) else None
    others = [chosen] if chosen else sorted(file for file in folder.glob("*.onnx") if file.stem not in SPLIT)
    if whole is None and not others:
        weights = sorted(folder.glob("*.safetensors"))
        remedy = f"Export {weights[-1].name} first: rplab tts export {folder}" if weights else "Fetch the voice again"
        raise ModelError(f"{folder}: no ONNX model in it. {remedy}")
    styles = _check_styles(_load_styles(folder / "style_vectors.npy"), config, folder)
    return VoiceFiles(folder, config, styles, None if whole is None else (whole[0], whole[1], whole[2]), others[0] if others else None)


def _load_styles(path: Path) -> NDArray[np.float32]:
    try:
        return np.load(path, allow_pickle=False).astype(np.float32)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file. A voice folder holds config.json, style_vectors.npy and the model") from None
    except (ValueError, OSError, EOFError) as error:
        raise ModelError(f"{path}: not an array ({error}). Fetch the voice again") from None


def _check_styles(styles: NDArray[np.float32], config: VoiceConfigFile, source: Path) -> NDArray[np.float32]:
    wanted = max(config.styles.values(), default=0) + 1
    if styles.ndim != 2 or styles.shape[1] != config.size.style_channels or len(styles) < wanted:
        raise ModelError(f"{source}: style vectors are {styles.shape}, the config names {wanted} styles of {config.size.style_channels}")
    if not np.isfinite(styles).all():
        raise ModelError(f"{source}: the style vectors hold values that are no numbers. Fetch the voice again")
    return styles


def _read_aivmx(path: Path, device: Device) -> VoiceFiles:
    metadata = Graph(path, device=device).metadata
    try:
        raw = json.loads(metadata["aivm_hyper_parameters"])
        styles = np.load(io.BytesIO(base64.b64decode(metadata["aivm_style_vectors"])), allow_pickle=False).astype(np.float32)
    except (KeyError, ValueError, binascii.Error) as error:
        raise ModelError(f"{path}: the AIVM metadata are missing or broken ({error}). Fetch the file again") from None
    config = parse_family(raw, str(path))
    return VoiceFiles(path, config, _check_styles(styles, config, path), None, path)
