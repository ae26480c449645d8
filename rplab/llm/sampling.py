"""Choosing one token from logits, and turning tokens into text as they come."""

from __future__ import annotations

from typing import Any

import torch

from rplab.llm.eval_config import DecodingConfig


class RowSampler:
    """Picks the tokens of one row; owns its generator, so that other rows change nothing."""

    def __init__(self, decoding: DecodingConfig, seed: int) -> None:
        """Start a row."""
        self._decoding = decoding
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        self._said: list[int] = []

    def pick(self, logits: torch.Tensor) -> int:
        """Return the next token id.

        Args:
            logits: fp32 on the CPU, shape (vocabulary,).
        """
        decoding = self._decoding
        if decoding.repetition_penalty != 1.0 and self._said:
            said = torch.tensor(sorted(set(self._said)))
            values = logits[said]
            logits = logits.clone()
            logits[said] = torch.where(values > 0, values / decoding.repetition_penalty, values * decoding.repetition_penalty)
        token = int(logits.argmax()) if decoding.temperature == 0 else self._draw(logits / decoding.temperature)
        self._said.append(token)
        return token

    def _draw(self, logits: torch.Tensor) -> int:
        decoding = self._decoding
        if 0 < decoding.top_k < logits.numel():
            least = logits.topk(decoding.top_k).values[-1]
            logits = logits.masked_fill(logits < least, float("-inf"))
        probabilities = logits.softmax(-1)
        if decoding.top_p < 1.0:
            ordered, places = probabilities.sort(descending=True, stable=True)
            outside = ordered.cumsum(-1) - ordered >= decoding.top_p
            probabilities = probabilities.index_fill(0, places[outside], 0.0)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


class TextPieces:
    """Turns a stream of tokens into text that only ever grows by whole characters.

    A Korean syllable is often two byte-level tokens; what ends in the middle of one is held back.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Start an empty text."""
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._given = ""

    def push(self, token: int) -> str:
        """Take the next token and return the new text, which may be empty."""
        self._tokens.append(token)
        text: str = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        if text.endswith("\ufffd") or not text.startswith(self._given):
            return ""
        return self._give(text)

    def flush(self) -> str:
        """Return what was held back, without a broken last character."""
        text: str = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        return self._give(text.rstrip("\ufffd")) if text.startswith(self._given) else ""

    def _give(self, text: str) -> str:
        piece, self._given = text[len(self._given) :], max(text, self._given, key=len)
        return piece
