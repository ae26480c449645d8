"""How varied a collection of texts is: the measures that Shaib et al. (2024) found to say different things.

Compression ratio (the cheap stand-in for Self-BLEU), self-repetition of word n-grams, distinct n-grams, and the phrases
that stand in more texts than chance would put there. All of them depend on length: compare collections of like length.
Source: Shaib, Barrow, Sun, Siu, Wallace, Nenkova, "Standardizing the Measurement of Text Diversity" (arXiv 2403.00553).
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_WORD = re.compile(r"[가-힣A-Za-z0-9]+")
_MIN_TEXTS = 3
"""Texts that a phrase must stand in to be listed."""


class Phrase(NamedTuple):
    """A phrase and how often it stands in a collection."""

    text: str
    texts: int
    share: float
    """Of all texts, 0..1."""
    lift: float
    """Times more often than its words would meet by chance."""


def words_of(text: str, names: Sequence[str] = ()) -> list[str]:
    """Return the words of a text without punctuation; a word that starts with one of `names` becomes `<name>`.

    >>> words_of("사야는 웃는다.", ["사야"])
    ['<name>', '웃는다']
    """
    return ["<name>" if names and word.startswith(tuple(names)) else word for word in _WORD.findall(text)]


def compression_ratio(texts: Sequence[str]) -> float:
    """Return original bytes over compressed bytes (zlib 9); higher = more of the same. 0 without texts."""
    raw = "\n".join(texts).encode()
    return len(raw) / len(zlib.compress(raw, 9)) if raw else 0.0


def self_repetition(texts: Sequence[Sequence[str]], n: int = 4) -> float:
    """Return the share (0..1) of texts (as words) that share a run of n words with another one."""
    holders: Counter[tuple[str, ...]] = Counter()
    grams = [set(_ngrams(words, n)) for words in texts]
    for own in grams:
        holders.update(own)
    return sum(any(holders[gram] > 1 for gram in own) for own in grams) / len(texts) if texts else 0.0


def distinct_ngrams(texts: Iterable[Sequence[str]], n: int) -> float:
    """Return different word n-grams over all of them (0..1); 0 without any."""
    counts = Counter(gram for words in texts for gram in _ngrams(words, n))
    return len(counts) / counts.total() if counts else 0.0


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def overused_phrases(texts: Sequence[Sequence[str]], top: int = 20) -> list[Phrase]:
    """Return the word pairs that stand in the most texts, most frequent first; pairs of lift below 2 are left out.

    Args:
        texts: Each as its words.
        top: How many.
    """
    singles: Counter[str] = Counter()
    pairs: Counter[tuple[str, ...]] = Counter()
    for words in texts:
        singles.update(set(words))
        pairs.update(set(_ngrams(words, 2)))
    number = len(texts)
    found: list[Phrase] = []
    for pair, count in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        if count < _MIN_TEXTS or len(found) == top:
            break
        lift = count * number / (singles[pair[0]] * singles[pair[1]])
        if lift >= 2 and "<name>" not in pair:
            found.append(Phrase(" ".join(pair), count, round(count / number, 4), round(lift, 1)))
    return found


def top_shares(keys: Iterable[str], top: int = 8) -> list[tuple[str, float]]:
    """Return the most frequent keys with their shares (0..1)."""
    counts = Counter(keys)
    total = counts.total()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]
    return [(key, round(count / total, 4)) for key, count in ordered]
