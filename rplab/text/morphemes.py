"""Content words of Korean texts in dictionary form (Kiwi), and the worn-out phrases among them.

`숨을 조용히 골랐다` -> 숨, 조용히, 고르다. Particles, endings and auxiliary verbs are left away, so one entry of
`cliches.txt` finds every inflected form of its phrase.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

LIST = Path(__file__).with_name("cliches.txt")
_KEPT = frozenset({"NNG", "NNP", "NNB", "NR", "NP", "MM", "MAG", "XR", "SL", "SN"})
_VERBS = frozenset({"VV", "VA"})
_SUFFIXES = frozenset({"XSV", "XSA"})
_SKIPS = 1
"""Other content words that may stand between two words of a phrase (숨을 조용히 고르다)."""


@functools.cache
def load_kiwi() -> Kiwi:
    """Load Kiwi once (about 2 s and 490 MB; one thread)."""
    from kiwipiepy import Kiwi as Analyser  # heavy: only when it is needed

    return Analyser(num_workers=1)


def content_words(text: str) -> list[str]:
    """Return the content words of a text in dictionary form, in order.

    >>> content_words("사야는 숨을 조용히 골랐다.")[1:]
    ['숨', '조용히', '고르다']
    """
    words: list[str] = []
    for token in cast("list[Any]", load_kiwi().tokenize(text)):
        tag = str(token.tag).partition("-")[0]
        form = str(token.form)
        if tag in _SUFFIXES and words:
            words[-1] += form + "다"
        elif tag in _VERBS:
            words.append(form + "다")
        elif tag in _KEPT:
            words.append(form)
    return words


@functools.cache
def read_cliches() -> dict[tuple[str, ...], str]:
    """Return the shipped phrases: words -> group."""
    found: dict[tuple[str, ...], str] = {}
    group = ""
    for raw in LIST.read_text(encoding="utf-8").splitlines():
        line = raw.strip()
        if line.startswith("["):
            group = line.strip("[]")
        elif line and not line.startswith("#"):
            found[tuple(line.split())] = group
    return found


def find_cliches(words: Sequence[str]) -> set[str]:
    """Return the worn-out phrases among content words; a compound counts whether or not it was taken apart (창밖, 창 + 밖).

    >>> sorted(find_cliches(["사야", "숨", "조용히", "고르다"]))
    ['숨 고르다']
    """
    present = frozenset([*words, *(first + second for first, second in itertools.pairwise(words))])
    return {" ".join(phrase) for phrase in _candidates(present) if _stands_in(phrase, words)}


def _candidates(present: frozenset[str]) -> Iterator[tuple[str, ...]]:
    for word in sorted(present):
        for phrase in _by_first_word().get(word, ()):
            if present.issuperset(phrase):
                yield phrase


@functools.cache
def _by_first_word() -> dict[str, list[tuple[str, ...]]]:
    index: dict[str, list[tuple[str, ...]]] = {}
    for phrase in read_cliches():
        index.setdefault(phrase[0], []).append(phrase)
    return index


def _stands_in(phrase: Sequence[str], words: Sequence[str]) -> bool:
    return any(_follows(phrase, words, start) for start in range(len(words)))


def _follows(phrase: Sequence[str], words: Sequence[str], start: int) -> bool:
    """Return whether the words of a phrase follow each other from `start` on, with at most one other word in each gap."""
    at = start
    for number, wanted in enumerate(phrase):
        last = at if number == 0 else at + _SKIPS
        end = next((end for here in range(at, last + 1) if (end := _ends(wanted, words, here)) is not None), None)
        if end is None:
            return False
        at = end
    return True


def _ends(wanted: str, words: Sequence[str], at: int) -> int | None:
    """Return where the word after `wanted` stands when that stands at `at`, whole or as two."""
    if at < len(words) and words[at] == wanted:
        return at + 1
    return at + 2 if at + 1 < len(words) and words[at] + words[at + 1] == wanted else None
