"""How many phones belong to each character: the bridge between BERT features (per character) and phones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def spread_phones(num_phones: int, num_characters: int) -> list[int]:
    """Spread the phones of a word evenly over its characters; earlier characters take what is left over.

    Example:
        >>> spread_phones(5, 2)  # 明日 = a sh i t a
        [3, 2]
    """
    if num_characters <= 0:
        return []
    share, rest = divmod(num_phones, num_characters)
    return [share + (index < rest) for index in range(num_characters)]


def intersperse(values: Sequence[int], blank: int = 0) -> list[int]:
    """Return `values` with a blank before, between and after: length n becomes 2n + 1."""
    spaced = [blank] * (2 * len(values) + 1)
    spaced[1::2] = values
    return spaced


def blank_word2ph(word2ph: Sequence[int]) -> list[int]:
    """Return `word2ph` for phones with blanks: every count doubled, the first one more."""
    doubled = [2 * count for count in word2ph]
    doubled[0] += 1
    return doubled


def expand_features(features: NDArray[np.float32], word2ph: Sequence[int]) -> NDArray[np.float32]:
    """Repeat each character's features for each of its phones.

    Args:
        features: (characters, channels), both ends included: one row for each entry of `word2ph`.
        word2ph: Phones of each character.

    Returns:
        (channels, phones), contiguous.

    Raises:
        ValueError: The two do not have the same length.
    """
    if len(features) != len(word2ph):
        raise ValueError(f"{len(features)} rows of features for {len(word2ph)} characters")
    return np.ascontiguousarray(np.repeat(features, np.asarray(word2ph), axis=0).T)
