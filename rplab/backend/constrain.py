"""Holds a local model to a JSON schema: at each step only tokens are allowed that some valid answer goes on with.

The grammar work is done by llguidance (MIT; also used by vLLM and llama.cpp). A schema that it cannot read is reported
once, and the answer is then left to the prompt; whatever comes back, the caller checks it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer

logger = logging.getLogger(__name__)


class Constraint(Protocol):
    """What one answer may still say."""

    def mask(self, logits: torch.Tensor) -> None:
        """Put minus infinity on every token that may not come next; logits of one row, changed in place."""
        ...

    def take(self, token: int) -> bool:
        """Go on with a token; return whether the answer is whole."""
        ...


class JsonConstraints:
    """Makes constraints for one tokenizer; schemas are read once."""

    def __init__(self, tokenizer: Any, num_tokens: int, ends: frozenset[int]) -> None:
        """Prepare the tokenizer (about a second for a large one).

        Args:
            tokenizer: A fast tokenizer of transformers.
            num_tokens: Width of the model's logits.
            ends: Tokens that end an answer.
        """
        self._tokenizer = from_tokenizer(tokenizer, n_vocab=num_tokens, eos_token=sorted(ends))
        self._grammars: dict[str, str | None] = {}

    def start(self, schema: Mapping[str, Any] | None) -> Constraint | None:
        """Return the constraint of a new answer, or None without a schema (or with one that cannot be enforced)."""
        if schema is None:
            return None
        text = json.dumps(schema, ensure_ascii=False)  # the order of its keys is that of the answer
        if text not in self._grammars:
            self._grammars[text] = self._read(text)
        grammar = self._grammars[text]
        return None if grammar is None else _JsonConstraint(LLMatcher(self._tokenizer, grammar))

    def _read(self, text: str) -> str | None:
        grammar = LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_pattern": r"[ ]?"})
        matcher = LLMatcher(self._tokenizer, grammar)
        if matcher.is_error():
            logger.warning("a JSON schema cannot be enforced (%s); the prompt alone asks for it", matcher.get_error()[:200])
            return None
        return grammar


class _JsonConstraint:
    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def mask(self, logits: torch.Tensor) -> None:
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")[: logits.shape[-1]]
        allowed = torch.zeros(logits.shape[-1], dtype=torch.bool)
        allowed[: len(bits)] = torch.from_numpy(bits.astype(bool))
        logits.masked_fill_(~allowed.to(logits.device), -torch.inf)

    def take(self, token: int) -> bool:
        self._matcher.consume_token(token)
        return self._matcher.is_stopped() or self._matcher.is_error()
