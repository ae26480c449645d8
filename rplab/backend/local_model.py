"""A local causal language model that answers batches of requests, each row with its own draws."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.cache_utils import DynamicCache
from transformers.utils import logging as hf_logging

from rplab.backend.base import ChatRequest, ChatResult, Sampling, Usage
from rplab.backend.config import TransformersConfig
from rplab.backend.constrain import Constraint, JsonConstraints
from rplab.backend.sample import pick_tokens
from rplab.errors import ModelError
from rplab.seeding import derive

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
        hf_logging.disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **arguments)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"{folder}: cannot be loaded ({str(error).strip().splitlines()[0][:300]}). Copy or download it again"
            ) from error
        for layer in model.modules():  # bitsandbytes 0.50 repacks 4-bit weights on CPUs with AVX512, and fails with narrow ones
            if hasattr(layer, "support_avx512bf16_for_cpu"):
                layer.support_avx512bf16_for_cpu = False
        self._model: Any = (model if self.precision == "nf4" else model.to(device)).eval()
        vocabulary = self._tokenizer.get_vocab()
        configured = getattr(model.generation_config, "eos_token_id", None)
        ends = {self._tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])}
        self._ends = frozenset(int(end) for end in ends if end is not None) | {
            vocabulary[name] for name in _END_TOKENS if name in vocabulary
        }
        self._special = sorted({*self._tokenizer.all_special_tokens, *_END_TOKENS, "<|im_start|>"}, key=len, reverse=True)
        self._pad = int(self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else min(self._ends, default=0))
        self._constraints: JsonConstraints | None = None
        if config.structured == "constrained":
            width = int(self._model.get_output_embeddings().weight.shape[0])
            self._constraints = JsonConstraints(self._tokenizer, width, self._ends)
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
        held = [self._constraints and self._constraints.start(prompt.request.schema) for prompt in prompts]
        batch = _Batch(prompts, self._ends, self._tokenizer, held)
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

    def __init__(self, prompts: Sequence[Prompt], ends: frozenset[int], tokenizer: Any, held: Sequence[Constraint | None]) -> None:
        self._prompts = prompts
        self._held = held
        self._ends = ends
        self._tokenizer = tokenizer
        self._draws = [derive(prompt.request.seed, "tokens") for prompt in prompts]
        self._said: list[list[int]] = [[] for _ in prompts]
        self._finish: list[str] = ["" for _ in prompts]
        self.places = list(range(len(prompts)))

    def take(self, logits: torch.Tensor) -> None:
        """Choose the next token of every row; logits (places, vocabulary) in fp32."""
        rows = self.places
        for place, row in enumerate(rows):
            if (held := self._held[row]) is not None and not self._finish[row]:
                held.mask(logits[place])
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
            held = self._held[row]
            whole = held is not None and held.take(token)
            if whole or (sampling.stop and any(stop in self._text(row) for stop in sampling.stop)):
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
