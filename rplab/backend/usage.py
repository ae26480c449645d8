"""What a run has used: tokens, money, and the hard stop at the budget."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from rplab.backend.base import ChatRequest, Usage
from rplab.backend.prices import Price
from rplab.errors import BackendError, ConfigError
from rplab.jsonl import JsonValue


class Meter:
    """Adds up usage and says when the budget would be exceeded."""

    def __init__(self, model: str, price: Price | None, budget_usd: float | None) -> None:
        """Start at nothing.

        Raises:
            ConfigError: A budget is set, and nobody knows what the model costs.
        """
        if budget_usd is not None and price is None:
            raise ConfigError(
                f"budget_usd is set, and the price of {model} is not known. "
                "Set price_input_usd and price_output_usd (USD per million tokens), 0 for a model of your own"
            )
        self._price = price
        self._budget_usd = budget_usd
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

    def allows(self, request: ChatRequest, num_open: int) -> bool:
        """Return whether one more request fits into the budget beside the `num_open` ones on their way."""
        if self._budget_usd is None or self._price is None:
            return True
        spent, known = self.spent_usd or 0.0, self.answers + self._earlier_answers
        each = spent / known if known else self._price.cost_usd(_most(request))
        return spent + each * (num_open + 1) <= self._budget_usd

    def over_budget(self) -> BackendError:
        """Return the error that ends a run at its budget."""
        return BackendError(
            f"the budget of ${self._budget_usd:.2f} is used up: ${self.spent_usd or 0:.4f} spent on "
            f"{self.usage.prompt_tokens + self.earlier.prompt_tokens} prompt and "
            f"{self.usage.completion_tokens + self.earlier.completion_tokens} completion tokens. Every answer is kept: "
            "raise backend.budget_usd and run the same command to go on from there"
        )

    def line(self) -> str:
        """Return speed and cost in a few words, for the progress line."""
        rate = self.answers / max(time.monotonic() - self._started, 1e-9)
        spent = self.spent_usd
        return f"{rate:.1f} answers/s" + (f", ${spent:.4f} spent" if spent else "")

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


def _most(request: ChatRequest) -> Usage:
    """Return the most that a request can use: a token a character of prompt, and the whole answer."""
    return Usage(sum(len(message["content"]) for message in request.messages), request.sampling.max_tokens)
