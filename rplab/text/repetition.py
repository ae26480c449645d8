"""How much a text repeats itself or echoes another: used by checks, rewards and data reports.

All measures look at letters and digits only (case folded), so that spaces and punctuation cannot hide an echo. They
return shares between 0 and 1. Pure counting; no model.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable

_NO_LETTER = re.compile(r"[\W_]+")
_RUN = re.compile(r"(.{1,24}?)\1+")


def fold(text: str) -> str:
    """Return the letters and digits of `text`, case folded: what the measures look at."""
    return _NO_LETTER.sub("", text.casefold())


def char_ngrams(text: str, n: int) -> Counter[str]:
    """Count the character n-grams of the folded text; a text shorter than n is one gram."""
    return Counter(_grams(text, n))


@functools.lru_cache(maxsize=4096)
def _grams(text: str, n: int) -> Counter[str]:
    """Count n-grams, remembered: a dialogue compares each turn with the same earlier ones. Not to be changed by callers."""
    folded = fold(text)
    if not folded:
        return Counter()
    return Counter([folded[at : at + n] for at in range(max(1, len(folded) - n + 1))])


def ngram_overlap(first: str, second: str, n: int = 3) -> float:
    """Return the Dice overlap (0..1) of the character n-grams of two texts; 0 when one is empty.

    >>> ngram_overlap("오늘은 같이 저녁을 먹자.", "오늘은 같이 저녁을 먹자!")
    1.0
    """
    a, b = _grams(first, n), _grams(second, n)
    return 2 * _num_shared(a, b) / (a.total() + b.total()) if a and b else 0.0


def echo_share(text: str, source: str, n: int = 4) -> float:
    """Return which share (0..1) of the text's n-grams is taken from `source`: 1 = nothing of its own."""
    grams = _grams(text, n)
    return _num_shared(grams, _grams(source, n)) / grams.total() if grams else 0.0


def _num_shared(a: Counter[str], b: Counter[str]) -> int:
    return sum(min(a[gram], b[gram]) for gram in a.keys() & b.keys())


def longest_common_run(first: str, second: str) -> int:
    """Return the length in characters (folded) of the longest stretch that both texts share."""
    a, b = fold(first), fold(second)
    best = 0
    previous = [0] * (len(b) + 1)
    for char in a:
        current = [0] * (len(b) + 1)
        for at, other in enumerate(b, start=1):
            if char == other:
                current[at] = previous[at - 1] + 1
                best = max(best, current[at])
        previous = current
    return best


def longest_run_ratio(text: str) -> float:
    """Return the share (0..1) of the text that its longest unbroken repetition takes: "측 측 측 측" is 1.

    A unit of 1-24 characters must follow itself directly; ordinary text stays near 0.
    """
    folded = fold(text)
    if not folded:
        return 0.0
    return max((len(match[0]) for match in _RUN.finditer(folded)), default=0) / len(folded)


def repeated_ngram_share(text: str, n: int = 4) -> float:
    """Return the share (0..1) of n-grams that stood in the text before: 0 = nothing said twice."""
    grams = _grams(text, n)
    return 1 - len(grams) / grams.total() if grams else 0.0


def distinct_n(texts: Iterable[str], n: int = 2) -> float:
    """Return distinct word n-grams over all word n-grams of a collection (0..1); 0 without any."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = text.split()
        grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
        total += len(grams)
        seen.update(grams)
    return len(seen) / total if total else 0.0
