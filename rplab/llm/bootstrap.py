"""How sure is a difference? Percentile bootstrap, seeded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rplab.seeding import derive_seed

SAMPLES = 2000


def difference_interval(before: Sequence[float], after: Sequence[float], seed: int) -> tuple[float, float]:
    """Return the 95 % interval of mean(after) - mean(before), both resampled by themselves."""
    generator = np.random.default_rng(derive_seed(seed, "difference"))
    first, last = np.array(before), np.array(after)
    means_first = first[generator.integers(0, len(first), size=(SAMPLES, len(first)))].mean(axis=1)
    means_last = last[generator.integers(0, len(last), size=(SAMPLES, len(last)))].mean(axis=1)
    low, high = np.quantile(means_last - means_first, [0.025, 0.975])
    return float(low), float(high)


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
