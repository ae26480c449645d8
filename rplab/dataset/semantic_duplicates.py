"""Rows that say the same in other words: cosine similarity of embeddings, earlier row kept; order and speed change nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 512


def find_similar(vectors: NDArray[np.float32], similarity: float) -> dict[int, tuple[int, float]]:
    """Map each row that is too similar to an earlier kept one to (that one, cosine).

    Args:
        vectors: Unit vectors, shape (rows, dimensions).
        similarity: Cosine, -1..1, from which the later of two rows is a duplicate.

    Returns:
        Later row -> the first earlier row that is kept and similar enough. A duplicate never makes another row one.
    """
    copies: dict[int, tuple[int, float]] = {}
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        close = block @ vectors[: start + len(block)].T >= similarity - 1e-6
        for offset, row in enumerate(close):
            number = start + offset
            original = next((int(other) for other in np.flatnonzero(row[:number]) if int(other) not in copies), None)
            if original is not None:
                copies[number] = (original, round(float(vectors[number] @ vectors[original]), 4))
    return copies
