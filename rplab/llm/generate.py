"""Text from a local model folder: batches for stages, a stream for play.

One small token loop with a key/value cache serves both, because play must be able to stop between two tokens and because
every sampled row owns its generator: the draw then depends on the seed and the prompt, not on the batch it sat in.
Batches are static, sorted by length and padded on the left (fastest embedded choice on a CPU: spec/llm.md 5).

It does not talk to servers (rplab.backend) and never runs code from a model folder (`trust_remote_code` stays off).
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from rplab.errors import DataError, ModelError
from rplab.llm.eval_config import DecodingConfig, Precision
from rplab.llm.open_model import open_model
from rplab.llm.prefix_cache import PrefixCaches
from rplab.llm.sampling import RowSampler, TextPieces
from rplab.llm.template import control_pattern, render
from rplab.seeding import derive_seed

logger = logging.getLogger(__name__)

Prompt = str | Sequence[Mapping[str, str]]
"""Raw text, or chat messages that the tokenizer's template renders."""

_STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")
_READ_AHEAD_BLOCK = 128
"""Tokens between two looks at whether anybody wants to speak."""


@dataclass(frozen=True)
class Completion:
    """What a model answered to one prompt."""

    text: str
    """Special tokens are kept, so that a leak can be seen; the stop token itself is not part of it."""
    num_tokens: int
    """Tokens without the stop token."""
    finished: bool
    """The model ended by itself; False: it was cut at `max_new_tokens`."""
    num_prompt_tokens: int


class TextModel:
    """A causal language model with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Take over a loaded model; use `TextModel.load` to read a folder."""
        self.model = model
        self.tokenizer = tokenizer
        self.folder = folder
        self._stop_ids = _stop_ids(model, tokenizer)
        self._pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self._stop_ids)
        self._control = control_pattern(tokenizer)
        self._lock = threading.Lock()
        self._caches = PrefixCaches(model.config)
        self.num_read = 0
        """Prompt tokens that the last stream had to read."""
        self.num_reused = 0
        """Prompt tokens that it found in the cache."""

    @classmethod
    def load(cls, folder: Path, *, precision: Precision = "auto", device: str | None = None) -> TextModel:
        """Load a local Hugging Face folder.

        Args:
            folder: Directory with config.json, safetensors weights, tokenizer.json.
            precision: See `EvaluateConfig.precision`; `nf4` needs the training half (bitsandbytes).
            device: torch device; the first GPU when there is one, else the CPU.

        Raises:
            ModelError: The folder is missing, incomplete or not loadable; the message says what to do.
        """
        return cls(*open_model(folder, precision, device), folder)

    @property
    def max_positions(self) -> int:
        """Most tokens of prompt and reply together."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 0) or 1 << 30)

    def render(self, prompt: Prompt) -> str:
        """Return the text that the model reads.

        Special tokens inside message contents are taken out: a user cannot end the turn or write a system message.
        """
        if isinstance(prompt, str):
            return prompt
        messages = [{"role": message["role"], "content": _without(self._control, message["content"])} for message in prompt]
        return render(self.tokenizer, messages, reply_follows=True)

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the token ids of a prompt; messages bring their own special tokens through the template."""
        ids: list[int] = self.tokenizer(self.render(prompt), add_special_tokens=isinstance(prompt, str))["input_ids"]
        return ids

    def generate(
        self,
        prompts: Sequence[Prompt],
        decoding: DecodingConfig | None = None,
        *,
        seed: int = 42,
        batch_size: int = 16,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Answer every prompt, in the order given.

        Args:
            prompts: Messages or raw text.
            decoding: How tokens are chosen; greedy when None.
            seed: Root of the draws. Equal prompts in one call get different draws.
            batch_size: Rows decoded together; halved when the memory of the device does not suffice.
            on_done: Called with the number of prompts answered so far; may raise to stop.

        Raises:
            DataError: A prompt is empty or leaves no room for the reply.
        """
        decoding = decoding or DecodingConfig()
        encoded = [self.encode(prompt) for prompt in prompts]
        for index, ids in enumerate(encoded):
            self._check_length(index, ids, decoding)
        seeds = _row_seeds(seed, encoded)
        order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index]), index))
        results: dict[int, Completion] = {}
        while order:
            batch, rest = order[:batch_size], order[batch_size:]
            try:
                answers = self._answer([encoded[i] for i in batch], [seeds[i] for i in batch], decoding)
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    raise
                torch.cuda.empty_cache()
                batch_size = max(1, batch_size // 2)
                logger.warning("out of memory: %d prompts at a time from here on", batch_size)
                continue
            results.update(zip(batch, answers, strict=True))
            order = rest
            if on_done is not None:
                on_done(len(results))
        return [results[index] for index in range(len(encoded))]

    def stream(
        self,
        prompt: Prompt,
        decoding: DecodingConfig | None = None,
        *,
        seed: int = 42,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[str]:
        """Yield the reply piece by piece, never half a character; end when `cancelled()` turns true.

        The key/value cache of the last stream is kept: what the new prompt shares with it (the system text and the
        older turns) is not computed again. Streams of one model wait for each other.

        Raises:
            DataError: The prompt is empty or leaves no room for the reply.
        """
        decoding = decoding or DecodingConfig()
        ids = self.encode(prompt)
        self._check_length(0, ids, decoding)
        pieces = TextPieces(self.tokenizer)
        with self._lock:
            tokens = self._tokens(ids, RowSampler(decoding, derive_seed(seed, *ids)))
            for number, token in enumerate(tokens, start=1):
                if token in self._stop_ids or cancelled():
                    break
                if piece := pieces.push(token):
                    yield piece
                if number >= decoding.max_new_tokens:
                    break
        if rest := pieces.flush():
            yield rest

    def read_ahead(self, prompt: Prompt, *, cancelled: Callable[[], bool] = lambda: False) -> int:
        """Read a prompt into the stream's cache without answering; returns how many tokens were new.

        The next `stream` whose prompt begins like this one starts sooner. Stops between blocks when `cancelled()` turns true.
        """
        ids = self.encode(prompt)[: self.max_positions]
        with self._lock:
            prompt_cache = self._caches.take(ids)
            shared = len(prompt_cache.ids)
            while len(prompt_cache.ids) < len(ids) and not cancelled():
                done = len(prompt_cache.ids)
                block = ids[done : done + _READ_AHEAD_BLOCK]
                self._step(torch.tensor([block], device=self.model.device), None, None, prompt_cache.cache)
                prompt_cache.ids += block
            self._caches.put(prompt_cache)
            return len(prompt_cache.ids) - shared

    @torch.inference_mode()
    def _step(self, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor | None, cache: Any) -> torch.Tensor:
        """Return the next-token logits (rows, vocabulary) as fp32 on the CPU."""
        output = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[:, -1].float().cpu()

    def _tokens(self, ids: list[int], sampler: RowSampler) -> Iterator[int]:
        """Yield one row's tokens without end, reusing what the last stream left in the cache."""
        device = self.model.device
        known = self._caches.take(ids[:-1])
        new = ids[len(known.ids) :]
        self.num_read, self.num_reused = len(new), len(known.ids)
        try:
            while True:
                logits = self._step(torch.tensor([new], device=device), None, None, known.cache)
                known.ids += new
                token = sampler.pick(logits[0])
                new = [token]
                yield token
        finally:
            self._caches.put(known)

    def _answer(self, rows: list[list[int]], seeds: list[int], decoding: DecodingConfig) -> list[Completion]:
        """Decode one batch; rows that are done leave it as soon as half of it is done."""
        device = self.model.device
        width = max(map(len, rows))
        ids = torch.tensor([[self._pad_id] * (width - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        samplers = [RowSampler(decoding, seed) for seed in seeds]
        replies: list[list[int]] = [[] for _ in rows]
        finished = [False] * len(rows)
        active = list(range(len(rows)))  # rows in the batch, in batch order; done ones linger until the next compaction
        for _ in range(decoding.max_new_tokens):
            logits = self._step(ids, mask, positions, cache)
            tokens: list[int] = []
            for place, row in enumerate(active):
                token = self._pad_id if finished[row] else samplers[row].pick(logits[place])
                if not finished[row]:
                    finished[row] = token in self._stop_ids
                    if not finished[row]:
                        replies[row].append(token)
                tokens.append(token)
            going = [place for place, row in enumerate(active) if not finished[row]]
            if not going:
                break
            ids = torch.tensor([[token] for token in tokens], device=device)
            mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
            positions = positions[:, -1:] + 1
            if len(going) <= len(active) // 2:
                keep = torch.tensor(going, device=device)
                cache.batch_select_indices(keep)
                ids, mask, positions = ids[keep], mask[keep], positions[keep]
                active = [active[place] for place in going]
        return [
            Completion(self.tokenizer.decode(reply, skip_special_tokens=False), len(reply), done, len(row))
            for row, reply, done in zip(rows, replies, finished, strict=True)
        ]

    def _check_length(self, index: int, ids: list[int], decoding: DecodingConfig) -> None:
        if not ids:
            raise DataError(f"prompt {index + 1} is empty", remedy="Give it at least one character")
        if len(ids) + decoding.max_new_tokens > self.max_positions:
            raise DataError(
                f"prompt {index + 1} has {len(ids)} tokens; with {decoding.max_new_tokens} new ones that is more than "
                f"the {self.max_positions} positions of {self.folder}",
                remedy="Shorten the prompt (drop the oldest turns) or lower max_new_tokens",
            )


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Collect every token id that ends a turn."""
    ids: set[int] = set()
    configured = getattr(model.generation_config, "eos_token_id", None)
    for value in (tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])):
        if value is not None:
            ids.add(int(value))
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    ids.update(vocabulary[token] for token in _STOP_TOKENS if token in vocabulary)
    if not ids:
        raise ModelError(f"{tokenizer.name_or_path}: the tokenizer has no end token. Set eos_token in tokenizer_config.json")
    return frozenset(ids)


def _row_seeds(seed: int, encoded: Sequence[Sequence[int]]) -> list[int]:
    """Give every row a seed from its own tokens, and the n-th copy of a prompt one from n as well."""
    copies: dict[tuple[int, ...], int] = {}
    seeds: list[int] = []
    for ids in encoded:
        key = tuple(ids)
        copy = copies[key] = copies.get(key, -1) + 1
        seeds.append(derive_seed(seed, *(key if not copy else (*key, "copy", copy))))
    return seeds


def _without(control: re.Pattern[str], text: str) -> str:
    """Take control tokens out until none is left: taking one out can bring another together."""
    while control.search(text):
        text = control.sub("", text)
    return text
