"""Bootstrap intervals: how far a mean would wander if other prompts had been drawn.

Percentile bootstrap (Efron 1979) over prompts, seeded. Differences are paired: both models answered the same prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rplab.seeding import derive_seed


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Return the interval rounded to 6 digits."""
        return {"mean": round(self.mean, 6), "low": round(self.low, 6), "high": round(self.high, 6)}

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(values: Sequence[float], *, seed: int, samples: int = 2000) -> Interval:
    """Return the mean of `values` with its 95 % bootstrap interval.

    Args:
        values: One number a prompt; not empty.
        seed: Root seed; equal values and seed give the same interval.
        samples: Resamples.

    Raises:
        ValueError: No values.
    """
    if not values:
        raise ValueError("no values to average")
    data = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(derive_seed(seed, "bootstrap"))
    means = data[generator.integers(0, len(data), size=(samples, len(data)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(data.mean()), float(low), float(high))


def paired_gain(before: Sequence[float], after: Sequence[float], *, seed: int, samples: int = 2000) -> Interval:
    """Return mean(after - before) over the same prompts, with its 95 % interval."""
    return mean_interval([b - a for a, b in zip(before, after, strict=True)], seed=seed, samples=samples)
