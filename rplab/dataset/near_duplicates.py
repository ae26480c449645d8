"""Near copies among texts: MinHash (rensa) over character 3-grams, candidates checked by their true Jaccard similarity.

64 hash functions in 16 bands of 4: pairs with similarity 0.85 are found with probability 0.9999; false candidates are
sorted out by the check, so the version of the hash family hardly matters. 5,500 texts take about a second of CPU.
Source of the method: Broder, "On the resemblance and containment of documents" (1997); rensa (MIT) computes the minima.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence

from rensa import RMinHash  # pyright: ignore[reportMissingTypeStubs, reportAttributeAccessIssue, reportUnknownVariableType]

from rplab.dataset.split import squash

_FUNCTIONS = 64
_ROWS_PER_BAND = 4
_SEED = 42
_REPRESENTATIVES = 8
"""Earlier rows of a bucket that a row is compared with."""


def find_near_duplicates(texts: Sequence[str], similarity: float) -> dict[int, int]:
    """Map each text that is a near copy of an earlier one to (the first found of) those.

    Args:
        texts: In order; the first of a family is its original.
        similarity: Jaccard similarity of the 3-gram sets, 0..1, from which texts count as near copies.
    """
    shingles = [_shingles(text) for text in texts]
    buckets: dict[tuple[int, ...], list[int]] = defaultdict(list)
    copies: dict[int, int] = {}
    for number, (own, signature) in enumerate(zip(shingles, _signatures(shingles), strict=True)):
        if not own:
            continue
        bands = [(at, *signature[at : at + _ROWS_PER_BAND]) for at in range(0, _FUNCTIONS, _ROWS_PER_BAND)]
        candidates = sorted({other for key in bands for other in buckets[key]})
        original = next((other for other in candidates if _jaccard(own, shingles[other]) >= similarity), None)
        if original is not None:
            copies[number] = original
            continue
        for key in bands:
            if len(buckets[key]) < _REPRESENTATIVES:
                buckets[key].append(number)
    return copies


def _shingles(text: str) -> frozenset[int]:
    folded = squash(text)
    return frozenset(zlib.crc32(folded[at : at + 3].encode()) for at in range(max(1, len(folded) - 2))) if folded else frozenset()


def _signatures(shingles: Sequence[frozenset[int]]) -> list[list[int]]:
    """Return the 64 minima of each set."""
    matrix = RMinHash.digest_matrix_from_token_hash_sets([sorted(own) for own in shingles], _FUNCTIONS, _SEED)  # pyright: ignore
    return matrix.to_rows()  # pyright: ignore


def _jaccard(first: frozenset[int], second: frozenset[int]) -> float:
    return len(first & second) / len(first | second)
