"""Looks at this machine and says what works, what does not, and what to do about it.

Each check imports what it tests in this process, so the result is what a stage will meet, not what pip believes.

To add a check: write a `_check_...` generator of findings and add it to `examine`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rplab.artifact import Damage, verify

_MIN_FREE_BYTES = 2 * 2**30
_VOICE_PACKAGES = {"onnxruntime", "onnxruntime-gpu"}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Literal["ok", "note", "problem"]
    subject: str
    found: str
    remedy: str = ""


def examine(store: Path) -> Iterator[Finding]:
    """Yield the findings, cheap checks first."""
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} CPUs")
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (_check_torch, _check_training, _check_voice, _check_audio, _check_prefect)
    yield from _check_disk(store)
    yield from _check_keys()
    for check in checks:
        yield from check()
    yield from _check_character(store)


def _check_disk(store: Path) -> Iterator[Finding]:
    existing = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    text = f"{free / 2**30:.1f} GiB free at {existing}"
    if not os.access(existing, os.W_OK):
        yield Finding("problem", "disk", f"{existing} cannot be written", "choose another place with --store")
    elif free < _MIN_FREE_BYTES:
        yield Finding("problem", "disk", text, "free some space: `rplab store gc` lists what nothing needs")
    else:
        yield Finding("ok", "disk", text)


def _check_keys() -> Iterator[Finding]:
    if os.environ.get("OPENAI_API_KEY"):
        yield Finding("ok", "keys", "OPENAI_API_KEY is set")
    else:
        yield Finding("note", "keys", "OPENAI_API_KEY is not set; the smoke profile needs no key")


def _check_torch() -> Iterator[Finding]:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        yield Finding("problem", "torch", f"cannot be imported ({error})", "make setup, or pip install 'rplab[train]'")
        return
    if not torch.cuda.is_available():
        built = torch.version.cuda
        remedy = "" if built is None else "this torch was built for CUDA but sees no card: check `nvidia-smi` and the driver"
        yield Finding("note", "torch", f"{torch.__version__}, CPU only: training works for small models", remedy)
        return
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    try:
        probe = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16)
        (probe @ probe).sum().item()
    except RuntimeError as error:
        remedy = f"this torch has no kernels for sm_{capability[0]}{capability[1]}: install a newer build with TORCH_SPEC"
        yield Finding("problem", "torch", f"{name}: a matrix product fails ({error})", remedy)
        return
    yield Finding("ok", "torch", f"{torch.__version__} on {name} (sm_{capability[0]}{capability[1]}, {memory:.0f} GiB)")


def _check_training() -> Iterator[Finding]:
    missing = [name for name in ("transformers", "trl", "peft", "bitsandbytes", "datasets") if _version(name) is None]
    if missing:
        yield Finding("problem", "training", f"not installed: {', '.join(missing)}", "pip install 'rplab[train]' -c constraints.txt")
    else:
        yield Finding("ok", "training", ", ".join(f"{name} {_version(name)}" for name in ("transformers", "trl", "peft", "bitsandbytes")))


def _check_voice() -> Iterator[Finding]:
    if _version("pyopenjtalk-plus") is None:
        yield Finding("problem", "voice", "pyopenjtalk-plus is not installed", "pip install 'rplab[voice]' -c constraints.txt")
    else:
        yield Finding("ok", "voice", f"openjtalk engine (pyopenjtalk-plus {_version('pyopenjtalk-plus')})")
    installed = {name for name in _VOICE_PACKAGES if _version(name) is not None}
    if installed == _VOICE_PACKAGES:
        remedy = "pip uninstall both, then install the one for this machine"
        yield Finding("problem", "onnxruntime", "onnxruntime and onnxruntime-gpu are both installed: they overwrite each other", remedy)
    elif installed:
        providers = importlib.import_module("onnxruntime").get_available_providers()
        yield Finding("ok", "onnxruntime", ", ".join(providers))


def _check_audio() -> Iterator[Finding]:
    try:
        devices = [device for device in importlib.import_module("sounddevice").query_devices() if device["max_output_channels"] > 0]
    except (ImportError, OSError) as error:
        remedy = "Debian: apt install libportaudio2; until then play uses miniaudio, ffplay or a WAV file"
        yield Finding("note", "audio", f"sounddevice is not usable ({error})", remedy)
        return
    if devices:
        yield Finding("ok", "audio", f"{len(devices)} output devices, first: {devices[0]['name']}")
    else:
        yield Finding("note", "audio", "no output device: play writes WAV files")


def _check_prefect() -> Iterator[Finding]:
    fastapi, prefect = _version("fastapi"), _version("prefect")
    if prefect is None:
        yield Finding("problem", "prefect", "not installed", "pip install -e . -c constraints.txt")
    elif fastapi is not None and tuple(int(part) for part in fastapi.split(".")[:2]) >= (0, 151):
        yield Finding("problem", "prefect", f"fastapi {fastapi} breaks its server", "pip install 'fastapi<0.151'")
    else:
        api = os.environ.get("PREFECT_API_URL")
        yield Finding("ok", "prefect", f"{prefect}, {f'server at {api}' if api else 'in-process server'}")


def _check_character(store: Path) -> Iterator[Finding]:
    link = store / "latest" / "character"
    if not link.exists():
        yield Finding("note", "character", f"none in {store} yet", "make demo, or rplab run")
        return
    try:
        manifest = verify(link)
    except Damage as damage:
        yield Finding("problem", "character", f"{link.resolve()}: {damage}", "rplab run repairs it")
        return
    damaged = [entry for entry in manifest.inputs.values() if not (store / entry.stage / entry.key).is_dir()]
    if damaged:
        names = ", ".join(f"{entry.stage}/{entry.key}" for entry in damaged)
        yield Finding("problem", "character", f"made from artefacts that are gone: {names}", "rplab run makes them again")
    else:
        yield Finding("ok", "character", str(link.resolve()))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
