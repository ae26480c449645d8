"""Backend `transformers`: a local model folder inside this process.

Requests in flight are gathered into static batches of similar prompt length (fastest embedded way on a CPU: spec/llm.md
5; 5 times the speed of one by one) and decoded in one worker thread. Every request draws from its own seed, so that a
batch's other rows change nothing but the last bits of the logits. A request with a JSON schema is held to it (`constrain.py`);
what a schema cannot say, the caller checks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from rplab.backend.base import ChatRequest, ChatResult
from rplab.backend.config import TransformersConfig
from rplab.backend.local_model import LocalModel, Prompt
from rplab.errors import BackendError

logger = logging.getLogger(__name__)


class TransformersBackend:
    """Gathers requests into batches for a local model."""

    def __init__(self, config: TransformersConfig) -> None:
        """Load the model; must be called inside the event loop."""
        self._config = config
        self._model = LocalModel(config)
        free = "" if config.structured == "constrained" else "+free"
        self.name = f"transformers/{Path(config.model).name}@{self._model.precision}{free}"
        self._batch_size = config.batch_size
        self._waiting: list[tuple[Prompt, asyncio.Future[ChatResult]]] = []
        self._arrived = asyncio.Event()
        self._stop = threading.Event()
        self._executor = ThreadPoolExecutor(1, "transformers")
        self._worker: asyncio.Task[None] | None = None

    async def complete(self, request: ChatRequest) -> ChatResult:
        """Answer one request.

        Raises:
            BackendError: The model does not work on this machine (out of memory with a single request, for example).
        """
        prompt = self._model.encode(request)
        if len(prompt.ids) + request.sampling.max_tokens > self._model.max_positions:
            return ChatResult(
                request.key, "", "error", self.name, error=f"{len(prompt.ids)} prompt tokens leave no room in {self._model.max_positions}"
            )
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        future: asyncio.Future[ChatResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((prompt, future))
        self._arrived.set()
        return await future

    async def aclose(self) -> None:
        """Stop decoding and free the model."""
        self._stop.set()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.to_thread(self._executor.shutdown)
        for _, future in self._waiting:
            future.cancel()
        del self._model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            await asyncio.sleep(self._config.gather_ms / 1000)
            batch = self._choose()
            if not self._waiting:
                self._arrived.clear()
            if not batch:
                continue
            try:
                results = await loop.run_in_executor(self._executor, self._model.answer, [prompt for prompt, _ in batch], self._stop)
            except torch.OutOfMemoryError as error:
                self._after_out_of_memory(batch, error)
                continue
            except RuntimeError as error:
                self._fail(batch, BackendError(f"{self.name}: {error}. Check the machine with `rplab doctor`"))
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(_named(result, self.name))

    def _choose(self) -> list[tuple[Prompt, asyncio.Future[ChatResult]]]:
        """Take the longest-waiting request and those nearest to it in length, within the token budget."""
        self._waiting = [entry for entry in self._waiting if not entry[1].done()]
        if not self._waiting:
            return []
        first = self._waiting[0]
        order = sorted(self._waiting, key=lambda entry: (entry is not first, abs(len(entry[0].ids) - len(first[0].ids))))
        chosen: list[tuple[Prompt, asyncio.Future[ChatResult]]] = []
        longest = 0
        for entry in order[: self._batch_size]:
            longest = max(longest, len(entry[0].ids) + entry[0].sampling.max_tokens)
            if chosen and longest * (len(chosen) + 1) > self._config.max_batch_tokens:
                break
            chosen.append(entry)
        taken = {id(entry) for entry in chosen}
        self._waiting = [entry for entry in self._waiting if id(entry) not in taken]
        return chosen

    def _after_out_of_memory(self, batch: list[tuple[Prompt, asyncio.Future[ChatResult]]], error: torch.OutOfMemoryError) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            self._fail(
                batch,
                BackendError(f"{self.name}: a single request does not fit into memory ({error}). Use precision nf4 or a smaller model"),
            )
            return
        self._batch_size = max(1, len(batch) // 2)
        logger.warning("out of memory: %d requests at a time from here on", self._batch_size)
        self._waiting = batch + self._waiting
        self._arrived.set()

    def _fail(self, batch: list[tuple[Prompt, asyncio.Future[ChatResult]]], error: BackendError) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)


def _named(result: ChatResult, name: str) -> ChatResult:
    return ChatResult(result.key, result.text, result.finish_reason, name, result.usage, None, result.error)


def open_transformers(config: TransformersConfig) -> TransformersBackend:
    """Return the backend of a config; `rplab.backend.open` calls it."""
    return TransformersBackend(config)
