"""What a run will cost, from a pilot: a few dialogues generated for real, scaled up with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rplab.backend.base import Usage
from rplab.backend.prices import BATCH_FACTOR, Price

_T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09)
"""Student's t, two-sided 95 %, for 1 to 20 degrees of freedom; 1.96 is used above."""


@dataclass(frozen=True)
class CostEstimate:
    """Cost of a whole run."""

    num_items: int
    mean_usd: float
    low_usd: float
    high_usd: float
    prompt_tokens: int
    completion_tokens: int
    batch_usd: float
    """The same through the Batch API, where the stage can use it."""


def estimate_cost(pilot: Sequence[Usage], num_items: int, price: Price) -> CostEstimate:
    """Scale the usage of pilot items (one entry per dialogue or row, all its attempts added up) to `num_items`.

    The interval is the 95 % prediction interval of the total for items that vary as the pilot's did.

    Raises:
        ValueError: Fewer than two pilot items; nothing could be said about how much they vary.
    """
    if len(pilot) < 2:
        raise ValueError("a pilot needs at least 2 items")
    costs = [price.cost_usd(usage) for usage in pilot]
    mean = sum(costs) / len(costs)
    variance = sum((cost - mean) ** 2 for cost in costs) / (len(costs) - 1)
    t_value = _T_95[len(costs) - 2] if len(costs) - 2 < len(_T_95) else 1.96
    spread = t_value * math.sqrt(variance) * math.sqrt(num_items + num_items**2 / len(costs))
    total = mean * num_items
    return CostEstimate(
        num_items=num_items,
        mean_usd=total,
        low_usd=max(0.0, total - spread),
        high_usd=total + spread,
        prompt_tokens=round(sum(usage.prompt_tokens for usage in pilot) / len(pilot) * num_items),
        completion_tokens=round(sum(usage.completion_tokens for usage in pilot) / len(pilot) * num_items),
        batch_usd=total * BATCH_FACTOR,
    )
