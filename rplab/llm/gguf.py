"""GGUF export through llama.cpp's own converter, when it is there. Torch-free.

The lab does not write GGUF itself: the tensor names and pre-tokenisers of every architecture live in llama.cpp's
`convert_hf_to_gguf.py`, and a copy would be wrong with the next one.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rplab.errors import ConfigError, ModelError
from rplab.llm.model_folder import check_model_folder

logger = logging.getLogger(__name__)

SCRIPT = "convert_hf_to_gguf.py"
TYPES = ("f32", "f16", "bf16", "q8_0", "auto")
_MAGIC = b"GGUF"
_REMEDY = "Update llama.cpp, or install the Python package that it misses"


def find_converter(given: Path | None = None) -> list[str]:
    """Return the command that starts the converter.

    Looked for in this order: `given` (script or llama.cpp checkout), $LLAMA_CPP (a checkout), the program path.

    Raises:
        ConfigError: It is nowhere; says how to get it.
    """
    places = [given] if given is not None else [Path(os.environ["LLAMA_CPP"])] if os.environ.get("LLAMA_CPP") else []
    for place in places:
        script = place / SCRIPT if place.is_dir() else place
        if script.is_file():
            return [sys.executable, str(script)] if script.suffix == ".py" else [str(script)]
    if not places:
        for name in (SCRIPT, "convert-hf-to-gguf"):
            if (found := shutil.which(name)) is not None:
                return [sys.executable, found] if found.endswith(".py") else [found]
    where = f"{places[0]}: no {SCRIPT} there" if places else f"{SCRIPT} was not found"
    raise ConfigError(
        f"{where}. GGUF files are written by llama.cpp's converter: git clone https://github.com/ggml-org/llama.cpp, install its "
        "requirements (pip install gguf), and give the checkout with --converter or in the variable LLAMA_CPP"
    )


def export_gguf(model: Path, out: Path, *, kind: str = "bf16", converter: Path | None = None) -> int:
    """Write a model folder as one GGUF file.

    Args:
        model: Merged Hugging Face folder.
        out: File to write; must not exist.
        kind: One of `TYPES`; smaller formats are made from it with llama.cpp's `llama-quantize`.
        converter: See `find_converter`.

    Returns:
        Size in bytes.

    Raises:
        ConfigError: No converter, or `out` exists.
        ModelError: The folder is incomplete, or the converter does not know the architecture (its last lines are shown).
    """
    check_model_folder(model)
    if out.exists():
        raise ConfigError(f"{out} exists already. Choose another file with --out, or delete it")
    command = find_converter(converter)
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = out.with_name(f".{out.name}.part")
    staged.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            [*command, str(model), "--outfile", str(staged), "--outtype", kind],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        if done.returncode or not staged.is_file():
            tail = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise ModelError(
                f"{model}: llama.cpp's converter failed (exit {done.returncode}): {tail or 'it wrote nothing'}. Update llama.cpp"
            )
        with staged.open("rb") as handle:
            if handle.read(len(_MAGIC)) != _MAGIC:
                raise ModelError(f"{model}: what the converter wrote is no GGUF file. {_REMEDY}")
        os.replace(staged, out)
    finally:
        staged.unlink(missing_ok=True)
    logger.info("%s: %d bytes", out, out.stat().st_size)
    return out.stat().st_size
