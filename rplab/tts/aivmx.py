"""Writing `.aivmx`: a mono graph with config, style vectors and a manifest in its metadata, as AivisSpeech reads it.

Format: Aivis Voice Model File specification (MIT), manifest version 1.0, architecture "Style-Bert-VITS2 (JP-Extra)". Reading
is `rplab.tts.voice_folder`. Identifiers follow from the content, so equal voices give equal files.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from rplab.errors import ModelError
from rplab.tts.model.hyper import VoiceConfigFile, to_family
from rplab.tts.png import encode_png

_NAMESPACE = uuid.UUID("6d0d3f3a-6f0c-5b1e-9d55-2b7a51f0c0de")
_MANIFEST = "aivm_manifest"
_PARAMETERS = "aivm_hyper_parameters"
_STYLES = "aivm_style_vectors"


def write_aivmx(
    mono: Path,
    config: VoiceConfigFile,
    style_vectors: NDArray[np.float32],
    path: Path,
    *,
    licence: str = "",
    creators: tuple[str, ...] = (),
    description: str = "",
) -> None:
    """Write one `.aivmx` file; it is there whole or not at all.

    Args:
        mono: The mono graph of the voice (`export_voice`).
        config: Sizes, speakers and styles of the voice.
        style_vectors: (styles, 256), float32.
        path: File to write.
        licence: Text that users see; empty says that none was given.
        creators: Who made the voice.
        description: What it is.

    Raises:
        ModelError: The graph cannot be read.
    """
    try:
        model = onnx.load(mono)
    except Exception as error:  # protobuf's and onnx's exceptions have no common public base
        raise ModelError(f"{mono}: not an ONNX file ({str(error)[:160]}). Export the voice first") from error
    buffer = io.BytesIO()
    np.save(buffer, style_vectors.astype(np.float32))
    digest = hashlib.sha256(mono.read_bytes()).hexdigest()
    manifest = _manifest(config, digest, licence or None, list(creators), description)
    fields = {
        _MANIFEST: json.dumps(manifest, ensure_ascii=False),
        _PARAMETERS: json.dumps(to_family(config), ensure_ascii=False),
        _STYLES: base64.b64encode(buffer.getvalue()).decode(),
    }
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key not in fields}
    helper.set_model_props(model, kept | fields)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        onnx.save(model, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _manifest(config: VoiceConfigFile, digest: str, licence: str | None, creators: list[str], description: str) -> dict[str, Any]:
    icon = f"data:image/png;base64,{base64.b64encode(_plain_png(digest)).decode()}"
    return {
        "manifest_version": "1.0",
        "name": config.name,
        "description": description,
        "creators": creators,
        "license": licence,
        "model_architecture": "Style-Bert-VITS2 (JP-Extra)",
        "model_format": "ONNX",
        "training_epochs": None,
        "training_steps": None,
        "uuid": _identify(digest, "voice"),
        "version": "1.0.0",
        "speakers": [
            {
                "name": name,
                "icon": icon,
                "supported_languages": ["ja"],
                "uuid": _identify(digest, name),
                "local_id": index,
                "styles": [
                    {"name": style, "icon": None, "local_id": number, "voice_samples": []} for style, number in config.styles.items()
                ],
            }
            for name, index in config.speakers.items()
        ],
    }


def _identify(digest: str, name: str) -> str:
    """Return a version 4 UUID (the specification wants that form) that follows from the content."""
    return str(uuid.UUID(bytes=uuid.uuid5(_NAMESPACE, f"{digest}/{name}").bytes, version=4))


def _plain_png(digest: str, *, size: int = 64) -> bytes:
    """Return a square of one colour: the specification wants an icon, and we draw nobody's face."""
    colour = [96 + int(digest[index : index + 2], 16) // 2 for index in (0, 2, 4)]
    return encode_png(np.full((size, size, 3), colour, dtype=np.uint8))
