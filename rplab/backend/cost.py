"""What a run will cost, from a pilot: a few items made for real, scaled up with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rplab.backend.base import Usage
from rplab.backend.prices import BATCH_FACTOR, Price

_T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09)
"""Student's t, two-sided 95 %, for 1 to 20 degrees of freedom; 1.96 is used above."""


@dataclass(frozen=True)
class Forecast:
    """A total and its 95 % prediction interval."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class CostEstimate:
    """Cost of a whole run, the pilot's share included."""

    num_items: int
    tokens: Forecast
    """Prompts and answers together."""
    prompt_tokens: int
    completion_tokens: int
    usd: Forecast | None
    """None when nobody knows the price."""
    batch_usd: float | None
    """The same through the Batch API, where the stage can use it."""


def estimate_cost(pilot: Sequence[Usage], num_items: int, price: Price | None) -> CostEstimate:
    """Scale the usage of pilot items (one entry per dialogue or row, all its attempts added up) to `num_items`.

    Args:
        pilot: What the first items used; they are part of the whole run.
        num_items: Items of the whole run.
        price: What tokens cost.

    Raises:
        ValueError: Fewer than two pilot items; nothing could be said about how much they vary.
    """
    if len(pilot) < 2:
        raise ValueError("a pilot needs at least 2 items")
    usd = None if price is None else forecast_total([price.cost_usd(usage) for usage in pilot], num_items)
    return CostEstimate(
        num_items=num_items,
        tokens=forecast_total([usage.prompt_tokens + usage.completion_tokens for usage in pilot], num_items),
        prompt_tokens=round(forecast_total([usage.prompt_tokens for usage in pilot], num_items).expected),
        completion_tokens=round(forecast_total([usage.completion_tokens for usage in pilot], num_items).expected),
        usd=usd,
        batch_usd=None if usd is None else usd.expected * BATCH_FACTOR,
    )


def forecast_total(pilot: Sequence[float], num_items: int) -> Forecast:
    """Forecast the sum over `num_items` items, of which the pilot's are known and the others vary as the pilot's did.

    >>> forecast_total([1.0, 1.0, 1.0], 10)
    Forecast(expected=10.0, low=10.0, high=10.0)
    """
    known = len(pilot)
    left = max(0, num_items - known)
    mean = sum(pilot) / known
    variance = sum((value - mean) ** 2 for value in pilot) / (known - 1)
    t_value = _T_95[known - 2] if known - 2 < len(_T_95) else 1.96
    spread = t_value * math.sqrt(variance) * math.sqrt(left + left**2 / known)  # the items' own scatter, and the mean's error
    total = sum(pilot) + mean * left
    return Forecast(total, max(sum(pilot), total - spread), total + spread)
