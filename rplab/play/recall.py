"""Find what fits the words just said: SQLite FTS5 with trigrams, syllable pairs, and embeddings where there are any.

Korean glues particles onto words, so whole words seldom match. Trigrams (FTS5) find what is long enough; words of two
syllables (`비밀은` for `비밀`) are found by pairs of characters, weighted by how rare they are. The index lives in memory and
is made anew when a session opens: it costs milliseconds, and a full disk or a damaged file cannot touch it.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Vector = Sequence[float] | NDArray[np.float32]
_MAX_TERMS = 120
"""Trigrams of a query: SQLite takes more, but a long message needs no more to be recognised."""
_MAX_FOUND = 64


class Recall:
    """An index over short texts, each with a number."""

    def __init__(self) -> None:
        """Start empty."""
        self._texts: dict[int, str] = {}
        self._pairs: dict[int, frozenset[str]] = {}
        self._holders: Counter[str] = Counter()
        self._vectors: dict[int, NDArray[np.float32]] = {}
        # the trigram tokenizer finds any substring of three characters or more, in any script
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute("CREATE VIRTUAL TABLE fts USING fts5(text, tokenize='trigram')")

    def __contains__(self, number: int) -> bool:
        return number in self._texts

    def numbers(self) -> list[int]:
        """Return the numbers of all texts."""
        return list(self._texts)

    def put(self, number: int, text: str) -> None:
        """Index a text; an earlier one with its number is replaced."""
        if self._texts.get(number) == text:
            return
        if number in self._texts:
            self._holders.subtract(self._pairs[number])
            self._index.execute("DELETE FROM fts WHERE rowid = ?", (number,))
            self._vectors.pop(number, None)
        self._texts[number] = text
        self._pairs[number] = pairs_of(text)
        self._holders.update(self._pairs[number])
        self._index.execute("INSERT INTO fts(rowid, text) VALUES (?, ?)", (number, text))

    def put_vector(self, number: int, vector: Vector) -> None:
        """Add the embedding of a text (any length; only its direction counts)."""
        found = np.asarray(vector, dtype=np.float32)
        length = float(np.linalg.norm(found))
        if length > 0 and number in self._texts:
            self._vectors[number] = found / length

    def without_vector(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the texts that have no embedding yet."""
        return {number: self._texts[number] for number in numbers if number in self._texts and number not in self._vectors}

    def search(self, query: str, among: Collection[int], vector: Vector | None = None) -> dict[int, float]:
        """Return how well texts fit, 0..1, the best first; texts that share nothing with the query are left out.

        Args:
            query: What was said.
            among: Numbers that may be found: the others belong to another branch.
            vector: Embedding of the query; None leaves it to the words.
        """
        words = self._overlap(query, among)
        for number, rank in self._full_text(query, among).items():
            words[number] = max(words.get(number, 0.0), 0.5 * rank)
        if vector is not None:
            for number, cosine in self._nearest(vector, among).items():
                words[number] = max(words.get(number, 0.0), cosine)
        return dict(sorted(words.items(), key=lambda item: (-item[1], -item[0])))

    def _overlap(self, query: str, among: Collection[int]) -> dict[int, float]:
        """Share of the query's or the text's pairs, whichever is the shorter, that the other holds; rare pairs count more."""
        asked = pairs_of(query)
        weigh = self._weights(asked)
        total = sum(weigh.values())
        found: dict[int, float] = {}
        for number in among:
            shared = asked & self._pairs.get(number, frozenset())
            if shared:
                own = sum(self._weights(self._pairs[number]).values())
                found[number] = sum(weigh[pair] for pair in shared) / max(1e-9, min(total, own))
        return {number: min(1.0, value) for number, value in found.items()}

    def _weights(self, pairs: Collection[str]) -> Mapping[str, float]:
        size = len(self._texts) + 1
        return {pair: math.log(1 + size / (1 + self._holders[pair])) for pair in pairs}

    def _full_text(self, query: str, among: Collection[int]) -> dict[int, float]:
        terms = trigrams_of(query)
        if not terms:
            return {}
        match = " OR ".join(f'"{term}"' for term in terms[:_MAX_TERMS])
        rows = self._index.execute(
            "SELECT rowid, -bm25(fts) FROM fts WHERE fts MATCH ? ORDER BY 2 DESC LIMIT ?", (match, _MAX_FOUND)
        ).fetchall()
        ranks = {number: rank for number, rank in rows if number in among}
        best = max(ranks.values(), default=0.0)
        return {number: rank / best for number, rank in ranks.items()} if best > 0 else {}

    def _nearest(self, vector: Vector, among: Collection[int]) -> dict[int, float]:
        asked = np.asarray(vector, dtype=np.float32)
        length = float(np.linalg.norm(asked))
        if length == 0:
            return {}
        found = {
            number: self._vectors[number] for number in among if number in self._vectors and self._vectors[number].shape == asked.shape
        }
        return {number: max(0.0, float(one @ asked) / length) for number, one in found.items()}


def pairs_of(text: str) -> frozenset[str]:
    """Return the pairs of neighbouring characters inside words; words of one character count as they are when they are not Hangul."""
    pairs: set[str] = set()
    for word in re.findall(r"\w+", text.casefold()):
        pairs.update(word[index : index + 2] for index in range(len(word) - 1))
        if len(word) == 1 and not "가" <= word <= "힣":
            pairs.add(word)
    return frozenset(pairs)


def trigrams_of(text: str) -> list[str]:
    """Return the trigrams inside words, in order, each once."""
    grams = (word[index : index + 3] for word in re.findall(r"\w+", text.casefold()) for index in range(len(word) - 2))
    return list(dict.fromkeys(grams))
