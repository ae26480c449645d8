"""Opening ONNX graphs: execution provider, threads, and errors that say what to do."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import mmap
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rplab.errors import ModelError

logger = logging.getLogger(__name__)

Device: TypeAlias = Literal["cpu", "cuda", "auto"]
_M_MMAP_THRESHOLD = -3
"""Of malloc.h."""
_TYPES: Mapping[str, type] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


def choose_providers(device: Device) -> list[str]:
    """Return the execution providers of a device.

    Raises:
        ModelError: `cuda` was asked for and onnxruntime has no CUDA provider.
    """
    available = onnxruntime.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in available:
        raise ModelError(
            f"CUDA was asked for, but this onnxruntime has only {', '.join(available)}. "
            "Install the GPU build (pip uninstall onnxruntime; pip install onnxruntime-gpu), or use the device cpu"
        )
    if device != "cpu" and "CUDAExecutionProvider" in available:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def return_memory() -> None:
    """Give the system back what is not needed between two sentences: 70 to 160 MB for a full-size voice with BERT.

    That is what glibc keeps after loading or running graphs, and the pages of the reading dictionaries, which the system
    has in its file cache and brings back when they are looked at.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            libc = ctypes.CDLL("libc.so.6")
            libc.malloc_trim(0)
            for start, length in _mapped_dictionaries():
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)


@functools.cache
def _keep_large_blocks_apart() -> None:
    """Let glibc give blocks of a megabyte a mapping of their own, for the whole process, so that freeing one frees it.

    Else its threshold grows with what is freed, and activations leave holes between the weights: 20 to 50 MB.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def _mapped_dictionaries() -> list[tuple[int, int]]:
    """Return (address, bytes) of the dictionaries that are mapped read-only: nothing in them can be lost."""
    found: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        words = line.split(maxsplit=5)
        if words[-1].endswith(".dic") and words[1].startswith("r--"):
            start, end = (int(word, 16) for word in words[0].split("-"))
            found.append((start, end - start))
    return found


class Graph:
    """One loaded graph; inputs are matched by name, cast and shaped as the graph declares them."""

    def __init__(self, path: Path, *, device: Device = "cpu", threads: int = 0, spin: bool = False) -> None:
        """Load a graph.

        Args:
            path: `.onnx` or `.aivmx`.
            device: Where it runs.
            threads: Threads inside an operator; 0 = onnxruntime's choice.
            spin: While the graph runs, its threads wait for each other without sleeping.

        Raises:
            ModelError: Missing, corrupt, or of an opset that this onnxruntime does not know.
        """
        if not path.is_file():
            raise ModelError(f"{path}: no such file. Export the voice (rplab tts export), or fetch it again")
        _keep_large_blocks_apart()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # every sentence has a length of its own; a pattern for each costs 40 MB and gains nothing
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
        options.add_session_config_entry("session.force_spinning_stop", "1")  # never between two runs
        # the arena would otherwise grow by powers of two: 100 MB more for a full-size voice
        settings: Mapping[str, dict[str, Any]] = {"CPUExecutionProvider": {"arena_extend_strategy": "kSameAsRequested"}}
        providers = [(name, settings.get(name, {})) for name in choose_providers(device)]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions have no common public base
            text = str(error)
            remedy = "Update onnxruntime, or export the voice again" if "opset" in text.lower() else "Fetch or export it again"
            raise ModelError(f"{path}: onnxruntime cannot load it ({text[:200]}). {remedy}") from error
        return_memory()
        self._run_options = onnxruntime.RunOptions()
        if not self.provider.startswith("CUDA"):  # what one long sentence needed is not kept for ever: 150 MB
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.path = path
        self._inputs = {entry.name: entry for entry in self._session.get_inputs()}
        self._optional = {entry.name: entry for entry in self._session.get_overridable_initializers()}

    @property
    def input_names(self) -> frozenset[str]:
        """Names of the inputs."""
        return frozenset(self._inputs)

    @property
    def optional_names(self) -> frozenset[str]:
        """Names of the inputs that may be left out."""
        return frozenset(self._optional)

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return self._session.get_providers()[0]

    @property
    def metadata(self) -> Mapping[str, str]:
        """Custom metadata of the file."""
        return self._session.get_modelmeta().custom_metadata_map

    def require(self, names: Sequence[str], kind: str) -> None:
        """Raise `ModelError` unless the graph has exactly these inputs (constant ones may have been folded away)."""
        unknown = self.input_names - set(names)
        if unknown:
            raise ModelError(f"{self.path}: not a {kind} graph, it wants the inputs {', '.join(sorted(unknown))}. Export the voice again")

    def run(self, feed: Mapping[str, Any], *, again: bool = False) -> list[NDArray[np.float32]]:
        """Run with inputs by name; those that the graph does not have are left out. Float outputs come as float32.

        Args:
            feed: Arrays by name.
            again: The next run comes at once: keep this one's memory for it.
        """
        prepared: dict[str, NDArray[Any]] = {}
        given = {name: entry for name, entry in self._optional.items() if name in feed}
        for name, entry in (self._inputs | given).items():
            value = np.asarray(feed[name], dtype=_TYPES.get(entry.type, np.float32))
            if value.ndim != len(entry.shape) and value.size == 1:  # scalars are () in some exports and (1,) in others
                value = value.reshape((1,) * len(entry.shape))
            prepared[name] = np.ascontiguousarray(value) if value.ndim else value
        outputs: list[Any] = self._session.run(None, prepared, None if again else self._run_options)  # pyright: ignore[reportAssignmentType]
        return [np.asarray(output, dtype=np.float32) for output in outputs]
