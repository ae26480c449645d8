"""How sure is a mean, or a difference? Percentile bootstrap (Efron 1979), seeded.

Items (prompts, dialogues) are resampled; differences between models are paired where both saw the same items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rplab.seeding import derive_seed

SAMPLES = 2000


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


def mean_interval(values: Sequence[float], *, seed: int, samples: int = SAMPLES) -> Interval:
    """Return the mean of `values` with its 95 % interval.

    Args:
        values: One number an item; not empty.
        seed: Root seed; equal values and seed give the same interval.
        samples: Resamples.

    Raises:
        ValueError: No values.
    """
    if not values:
        raise ValueError("no values to average")
    data = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(derive_seed(seed, "mean"))
    means = data[generator.integers(0, len(data), size=(samples, len(data)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(data.mean()), float(low), float(high))


def paired_gain(before: Sequence[float], after: Sequence[float], *, seed: int, samples: int = SAMPLES) -> Interval:
    """Return mean(after - before) over the same items, with its 95 % interval."""
    return mean_interval([b - a for a, b in zip(before, after, strict=True)], seed=seed, samples=samples)


def difference_interval(before: Sequence[float], after: Sequence[float], seed: int) -> tuple[float, float]:
    """Return the 95 % interval of mean(after) - mean(before), both resampled by themselves."""
    generator = np.random.default_rng(derive_seed(seed, "difference"))
    first, last = np.array(before), np.array(after)
    means_first = first[generator.integers(0, len(first), size=(SAMPLES, len(first)))].mean(axis=1)
    means_last = last[generator.integers(0, len(last), size=(SAMPLES, len(last)))].mean(axis=1)
    low, high = np.quantile(means_last - means_first, [0.025, 0.975])
    return float(low), float(high)


def fall_per_unit(before: Sequence[Any], after: Sequence[Any], seed: int) -> Interval | None:
    """Return the fall of a loss a unit with its 95 % interval, items resampled in pairs.

    Args:
        before: (summed loss, units) of each item, None where it was not measured.
        after: The same of the other model.
        seed: Decides the resampling.

    Returns:
        None when no item was measured on both sides.
    """
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a and b and a[1] == b[1]]
    if not pairs:
        return None
    falls, units = [float(a[0]) - float(b[0]) for a, b in pairs], [float(a[1]) for a, _ in pairs]
    low, high = paired_rate_interval(falls, units, seed)
    return Interval(sum(falls) / sum(units), low, high)


def paired_rate_interval(gains: Sequence[float], weights: Sequence[float], seed: int) -> tuple[float, float]:
    """Return the 95 % interval of sum(gains) / sum(weights), items resampled with their weights.

    Args:
        gains: What each item gained, for example the fall of its summed loss.
        weights: What each item counts, for example its tokens.
        seed: Decides the resampling.
    """
    generator = np.random.default_rng(derive_seed(seed, "paired"))
    gain, weight = np.array(gains), np.array(weights, dtype=float)
    picks = generator.integers(0, len(gain), size=(SAMPLES, len(gain)))
    rates = gain[picks].sum(axis=1) / np.maximum(1.0, weight[picks].sum(axis=1))
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)
