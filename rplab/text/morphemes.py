"""Content words of Korean texts in dictionary form (Kiwi), and the worn-out phrases among them.

`숨을 조용히 골랐다` -> 숨, 조용히, 고르다. Particles, endings and auxiliary verbs are left away, so one entry of
`cliches.txt` finds every inflected form of its phrase.
"""

from __future__ import annotations

import functools
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
    """Return the worn-out phrases among content words.

    >>> sorted(find_cliches(["사야", "숨", "조용히", "고르다"]))
    ['숨 고르다']
    """
    return {" ".join(phrase) for phrase in _candidates(frozenset(words)) if _stands_in(phrase, words)}


def _candidates(words: frozenset[str]) -> Iterator[tuple[str, ...]]:
    for word in sorted(words):
        for phrase in _by_first_word().get(word, ()):
            if words.issuperset(phrase):
                yield phrase


@functools.cache
def _by_first_word() -> dict[str, list[tuple[str, ...]]]:
    index: dict[str, list[tuple[str, ...]]] = {}
    for phrase in read_cliches():
        index.setdefault(phrase[0], []).append(phrase)
    return index


def _stands_in(phrase: Sequence[str], words: Sequence[str]) -> bool:
    for start, word in enumerate(words):
        if word != phrase[0]:
            continue
        at = start
        for wanted in phrase[1:]:
            following = words[at + 1 : at + 2 + _SKIPS]
            if wanted not in following:
                break
            at += 1 + following.index(wanted)
        else:
            return True
    return False
