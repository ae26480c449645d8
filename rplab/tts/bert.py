"""BERT features at run time: onnxruntime and a character table, no transformers.

A BERT folder holds `vocab.txt` and one or more of `model_int8.onnx`, `model_fp16.onnx`, `model.onnx`. What loads and
gives finite numbers is used, in the order that is fastest on the device (CPU: int8, fp32, fp16, which has no fast CPU
kernels; CUDA: fp16, fp32, int8). A variant that is missing or does not load is passed over with one notice; the predecessor
picked by file existence and stopped at a broken fp16 file.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rplab.errors import ModelError
from rplab.tts.bert_vocab import BertVocabulary
from rplab.tts.session import Device, Graph, choose_providers
from rplab.tts.symbols import BERT_CHANNELS

logger = logging.getLogger(__name__)

VARIANTS = {"int8": "model_int8.onnx", "fp16": "model_fp16.onnx", "fp32": "model.onnx"}
_ORDER = {"cpu": ("int8", "fp32", "fp16"), "cuda": ("fp16", "fp32", "int8")}
_PROBE = "声"
_CACHED = 64


class BertFeatures:
    """Features of Japanese text, 1024 a character."""

    def __init__(self, folder: Path, *, device: Device = "cpu", threads: int = 0, spin: bool = False, prefer: str = "") -> None:
        """Load the first variant that works.

        Args:
            folder: See the module.
            device: Where it runs.
            threads: As in `Graph`.
            spin: As in `Graph`.
            prefer: A variant to try first: int8, fp16 or fp32.

        Raises:
            ModelError: No variant works; names each with its reason.
        """
        self._vocabulary = BertVocabulary(folder / "vocab.txt")
        on_cuda = choose_providers(device)[0].startswith("CUDA")
        order = sorted(_ORDER["cuda" if on_cuda else "cpu"], key=lambda name: name != prefer)
        failures: list[str] = []
        self._cache: dict[str, NDArray[np.float32]] = {}
        for name in order:
            path = folder / VARIANTS[name]
            if not path.is_file():
                failures.append(f"{name}: {path.name} is not there")
                continue
            try:
                self._graph = Graph(path, device=device, threads=threads, spin=spin)
                self._probe()
            except ModelError as error:
                failures.append(f"{name}: {error}")
                continue
            self.variant = name
            if failures:
                logger.warning("BERT %s is used instead of %s", name, "; ".join(failures))
            return
        raise ModelError(f"{folder}: no BERT model works ({'; '.join(failures)}). Export it again: rplab tts export-bert")

    def _probe(self) -> None:
        try:
            features = self._run(_PROBE)
        except ModelError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no common public base
            raise ModelError(f"it loads but does not run ({str(error)[:160]})") from error
        if features.shape != (len(_PROBE) + 2, BERT_CHANNELS) or not np.isfinite(features).all():
            raise ModelError(f"it gives {features.shape} values, some not finite or of the wrong number")

    def __call__(self, text: str) -> NDArray[np.float32]:
        """Return (len(text) + 2, 1024) features of normalised text, both ends included."""
        if text not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.pop(next(iter(self._cache)))
            self._cache[text] = self._run(text)
        return self._cache[text]

    def _run(self, text: str) -> NDArray[np.float32]:
        ids = self._vocabulary.ids(text)[None]
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        self._graph.require(tuple(feed), "BERT")
        output = self._graph.run(feed)[0]
        return output.reshape(-1, output.shape[-1])
