"""Backend `transformers`: a local model folder inside this process.

Requests in flight are gathered into static batches of similar prompt length (fastest embedded way on a CPU: spec/llm.md
5; 5 times the speed of one by one) and decoded in one worker thread. Every request draws from its own seed, so that a
batch's other rows change nothing but the last bits of the logits. JSON schemas are not enforced here: the prompt asks
for JSON, and the caller checks it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.cache_utils import DynamicCache

from rplab.backend.base import ChatRequest, ChatResult, Sampling, Usage
from rplab.backend.config import TransformersConfig
from rplab.backend.sample import pick_tokens
from rplab.errors import BackendError, ModelError
from rplab.seeding import derive

logger = logging.getLogger(__name__)

_END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>")


@dataclass(frozen=True)
class Prompt:
    """A request as token ids."""

    request: ChatRequest
    ids: tuple[int, ...]

    @property
    def sampling(self) -> Sampling:
        """How its tokens are chosen."""
        return self.request.sampling


class LocalModel:
    """A causal language model that answers batches."""

    def __init__(self, config: TransformersConfig) -> None:
        """Load the folder.

        Raises:
            ModelError: It is missing, incomplete, or nothing that transformers can load.
        """
        folder = Path(config.model)
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder}: no model folder (config.json is missing). Give the path of a Hugging Face folder in backend.model")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = config.precision if config.precision != "auto" else "bf16" if device.type == "cuda" else "fp32"
        arguments: dict[str, Any] = {"dtype": torch.float32 if self.precision == "fp32" else torch.bfloat16}
        if self.precision == "nf4":
            arguments |= {
                "quantization_config": BitsAndBytesConfig(
                    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
                ),
                "device_map": {"": device},
            }
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, attn_implementation="sdpa", **arguments
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"{folder}: cannot be loaded ({str(error).strip().splitlines()[0][:300]}). Copy or download it again"
            ) from error
        self._model: Any = (model if self.precision == "nf4" else model.to(device)).eval()
        vocabulary = self._tokenizer.get_vocab()
        configured = getattr(model.generation_config, "eos_token_id", None)
        ends = {self._tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])}
        self._ends = frozenset(int(end) for end in ends if end is not None) | {
            vocabulary[name] for name in _END_TOKENS if name in vocabulary
        }
        self._special = sorted({*self._tokenizer.all_special_tokens, *_END_TOKENS, "<|im_start|>"}, key=len, reverse=True)
        self._pad = int(self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else min(self._ends, default=0))
        self.max_positions = int(getattr(self._model.config, "max_position_embeddings", 0) or 1 << 30)

    def encode(self, request: ChatRequest) -> Prompt:
        """Render a request with the model's chat template; special tokens inside the messages are taken out."""
        messages = [{"role": message["role"], "content": self._plain(message["content"])} for message in request.messages]
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        return Prompt(request, tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"]))

    def _plain(self, text: str) -> str:
        while any(token in text for token in self._special):
            for token in self._special:
                text = text.replace(token, "")
        return text

    @torch.inference_mode()
    def answer(self, prompts: Sequence[Prompt], stop: threading.Event) -> list[ChatResult]:
        """Decode one batch.

        Args:
            prompts: What to answer.
            stop: Set to end early; what is unfinished comes back as an error.
        """
        batch = _Batch(prompts, self._ends, self._tokenizer)
        device = self._model.device
        width = max(len(prompt.ids) for prompt in prompts)
        ids = torch.tensor([[self._pad] * (width - len(prompt.ids)) + list(prompt.ids) for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts], device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self._model.config)
        while not stop.is_set():
            output = self._model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            batch.take(output.logits[:, -1].float())
            keep = batch.compact()
            if not batch.places:
                break
            ids = torch.tensor([[token] for token in batch.last_tokens(self._pad)], device=device)
            if keep is not None:
                chosen = torch.tensor(keep, device=device)
                cache.batch_select_indices(chosen)
                mask, positions = mask[chosen], positions[chosen]
            mask = torch.cat([mask, mask.new_ones(len(batch.places), 1)], dim=1)
            positions = positions[:, -1:] + 1
        return [batch.result(row, stopped=stop.is_set()) for row in range(len(prompts))]


class _Batch:
    """Rows being decoded; done ones stay in their place until half of the places are done."""

    def __init__(self, prompts: Sequence[Prompt], ends: frozenset[int], tokenizer: Any) -> None:
        self._prompts = prompts
        self._ends = ends
        self._tokenizer = tokenizer
        self._draws = [derive(prompt.request.seed, "tokens") for prompt in prompts]
        self._said: list[list[int]] = [[] for _ in prompts]
        self._finish: list[str] = ["" for _ in prompts]
        self.places = list(range(len(prompts)))

    def take(self, logits: torch.Tensor) -> None:
        """Choose the next token of every row; logits (places, vocabulary) in fp32."""
        rows = self.places
        tokens = pick_tokens(
            logits,
            [self._prompts[row].sampling for row in rows],
            [self._draws[row].random() if not self._finish[row] else 0.0 for row in rows],
            [self._said[row] for row in rows],
        )
        for row, token in zip(rows, tokens, strict=True):
            if self._finish[row]:
                continue
            sampling = self._prompts[row].sampling
            if token in self._ends:
                self._finish[row] = "stop"
                continue
            self._said[row].append(token)
            if sampling.stop and any(stop in self._text(row) for stop in sampling.stop):
                self._finish[row] = "stop"
            elif len(self._said[row]) >= sampling.max_tokens:
                self._finish[row] = "length"

    def compact(self) -> list[int] | None:
        """Drop done rows when they are half of the places; return the places kept, or None when nothing changed."""
        going = [place for place, row in enumerate(self.places) if not self._finish[row]]
        if len(going) > len(self.places) // 2:
            return None
        self.places = [self.places[place] for place in going]
        return going

    def last_tokens(self, pad: int) -> list[int]:
        """Return the token each place goes on from."""
        return [pad if self._finish[row] or not self._said[row] else self._said[row][-1] for row in self.places]

    def result(self, row: int, *, stopped: bool) -> ChatResult:
        prompt, finish = self._prompts[row], self._finish[row]
        usage = Usage(len(prompt.ids), len(self._said[row]))
        if not finish:
            return ChatResult(prompt.request.key, "", "error", usage=usage, error="stopped" if stopped else "not finished")
        text = self._text(row)
        ends = [at for stop in prompt.sampling.stop if (at := text.find(stop)) >= 0]
        text = (text[: min(ends)] if ends else text).strip()
        return ChatResult(prompt.request.key, text, "length" if finish == "length" else "stop", usage=usage)

    def _text(self, row: int) -> str:
        return self._tokenizer.decode(self._said[row], skip_special_tokens=True)


class TransformersBackend:
    """Gathers requests into batches for a local model."""

    def __init__(self, config: TransformersConfig) -> None:
        """Load the model; must be called inside the event loop."""
        self._config = config
        self._model = LocalModel(config)
        self.name = f"transformers/{Path(config.model).name}@{self._model.precision}"
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
