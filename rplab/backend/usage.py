"""What a run has used: tokens, money, and the hard stop at the budget."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from rplab.backend.base import ChatRequest, Usage
from rplab.backend.prices import Price
from rplab.errors import ConfigError, RefusedError
from rplab.jsonl import JsonValue

_TEMPLATE_TOKENS = 16
"""Tokens of a chat template around one message, generously."""


class Meter:
    """Adds up usage and says when the budget would be exceeded."""

    def __init__(
        self, model: str, price: Price | None, budget_usd: float | None, budget_tokens: int | None = None, thinking_tokens: int = 0
    ) -> None:
        """Start at nothing.

        Args:
            model: Name, for messages.
            price: What its tokens cost, when that is known.
            budget_usd: Most money to spend.
            budget_tokens: Most tokens to use, prompts and answers together.
            thinking_tokens: Most tokens that an answer may take beyond the ones asked for.

        Raises:
            ConfigError: A budget in money is set, and nobody knows what the model costs.
        """
        if budget_usd is not None and price is None:
            raise ConfigError(
                f"budget_usd is set, and the price of {model} is not known. "
                "Set price_input_usd and price_output_usd (USD per million tokens), or set a budget in tokens"
            )
        self._price = price
        self._budget_usd = budget_usd
        self._budget_tokens = budget_tokens
        self._thinking_tokens = thinking_tokens
        self._reserved = Usage()
        self.answers = 0
        self.usage = Usage()
        self.earlier = Usage()
        self._earlier_answers = 0
        self.tries: Counter[str] = Counter()
        """Tries by what came of them: ok, 429, 500, timeout, ..."""
        self._started = time.monotonic()

    def recall(self, usages: Iterable[Usage]) -> None:
        """Count what earlier runs of the same stage used, once, before anything is asked."""
        for usage in usages:
            self.earlier = _add(self.earlier, usage)
            self._earlier_answers += 1

    def count(self, usage: Usage) -> None:
        """Count an answer that was paid for."""
        self.answers += 1
        self.usage = _add(self.usage, usage)

    @property
    def spent_usd(self) -> float | None:
        """Money spent by this run and the earlier ones, or None when the price is not known."""
        return None if self._price is None else self._price.cost_usd(_add(self.usage, self.earlier))

    def reserve(self, request: ChatRequest) -> bool:
        """Set the most that a request can use aside; return False when that does not fit into the budget any more.

        What is open is counted at its most, so the budget holds whatever the answers turn out to be. `release` gives the
        reservation back once the answer is counted.
        """
        if self._budget_usd is None and self._budget_tokens is None:
            return True
        reserved = _add(self._reserved, self._most(request))
        then = _add(_add(self.usage, self.earlier), reserved)
        if self._budget_usd is not None and self._price is not None and self._price.cost_usd(then) > self._budget_usd:
            return False
        if self._budget_tokens is not None and then.prompt_tokens + then.completion_tokens > self._budget_tokens:
            return False
        self._reserved = reserved
        return True

    def release(self, request: ChatRequest) -> None:
        """Give back what `reserve` set aside for a request."""
        if self._budget_usd is None and self._budget_tokens is None:
            return
        most = self._most(request)
        self._reserved = Usage(self._reserved.prompt_tokens - most.prompt_tokens, self._reserved.completion_tokens - most.completion_tokens)

    def _most(self, request: ChatRequest) -> Usage:
        """Return the most that a request can use: a token a character of prompt (and the template's), and the whole answer."""
        prompt = sum(len(message["content"]) + _TEMPLATE_TOKENS for message in request.messages)
        times = 2 if self._thinking_tokens else 1  # a thinking model that came back empty is asked once more
        return Usage(prompt * times, request.sampling.max_tokens * times + self._thinking_tokens)

    def over_budget(self) -> RefusedError:
        """Return the error that ends a run at its budget."""
        used = _add(self.usage, self.earlier)
        limits = [f"${self._budget_usd:g}"] if self._budget_usd is not None else []
        limits += [f"{self._budget_tokens:,} tokens"] if self._budget_tokens is not None else []
        spent = f"${self.spent_usd:.4f} spent on " if self.spent_usd is not None else ""
        return RefusedError(
            f"the budget of {' and '.join(limits)} leaves no room for another request ({spent}{used.prompt_tokens:,} prompt and "
            f"{used.completion_tokens:,} completion tokens so far). Every answer is kept: raise the budget "
            "(--budget, or backend.budget_usd / budget_tokens) and run the same command to go on from there"
        )

    def line(self) -> str:
        """Return speed and cost in a few words, for the progress line."""
        rate = self.answers / max(time.monotonic() - self._started, 1e-9)
        spent = self.spent_usd
        money = ", cost unknown" if spent is None else f", ${spent:.4f} spent" if spent else ""
        return f"{rate:.1f} answers/s{money}"

    def stats(self) -> dict[str, JsonValue]:
        """Return everything counted, as JSON."""
        seconds = time.monotonic() - self._started
        return {
            "answers": self.answers,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "earlier_prompt_tokens": self.earlier.prompt_tokens,
            "earlier_completion_tokens": self.earlier.completion_tokens,
            "spent_usd": None if self.spent_usd is None else round(self.spent_usd, 6),
            "tries": dict(sorted(self.tries.items())),
            "seconds": round(seconds, 3),
            "answers_per_s": round(self.answers / max(seconds, 1e-9), 2),
        }


@runtime_checkable
class Metered(Protocol):
    """A backend that knows what it has used."""

    @property
    def meter(self) -> Meter:
        """Tokens, money and tries."""
        ...


def _add(a: Usage, b: Usage) -> Usage:
    return Usage(a.prompt_tokens + b.prompt_tokens, a.completion_tokens + b.completion_tokens)
