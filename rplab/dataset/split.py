"""Train or eval, decided for whole groups: what belongs together (scenario, card, copies) is never torn apart.

Keys that occur in one row are tied together (union-find), so a dialogue that shares its book with another, or a copied
conversation under another system text, lands on one side with it. Which groups are held out is a pure function of the
seed and the group's content, not of file order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from rplab.seeding import derive_seed


class Groups:
    """Keys tied together (disjoint sets)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def tie(self, keys: Sequence[str]) -> None:
        """Put all `keys` into one group."""
        self._names.clear()
        first = ""
        for root in map(self._root, keys):
            self._parent[root] = first = first or root

    def name_of(self, key: str) -> str:
        """Return the name of a key's group: the smallest digest of its members, whatever order they came in."""
        if not self._names:
            for member in self._parent:
                root, name = self._root(member), digest(member)
                self._names[root] = min(name, self._names.get(root, name))
        return self._names[self._root(key)]

    def _root(self, key: str) -> str:
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key


def digest(text: str) -> str:
    """Return a short content hash (16 hex)."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def squash(text: str) -> str:
    """Return letters and digits only: what near copies share that differ in spaces and punctuation."""
    return "".join(char for char in text.casefold() if char.isalnum())


def choose_eval(sizes: Mapping[str, int], ratio: float, seed: int) -> set[str]:
    """Choose the groups to hold out.

    Groups are taken in the order of a seeded hash of their names until they hold `floor(rows * ratio)` rows, at least
    one row when there are two groups or more; at least one group stays in training. A group that alone would more than
    double the wanted share is passed over while smaller ones are there.

    Args:
        sizes: Group -> rows.
        ratio: Wanted share of the rows, 0 <= ratio < 1; 0 holds nothing out.
        seed: Decides the order.
    """
    if ratio <= 0 or len(sizes) < 2:
        return set()
    wanted = max(1, int(sum(sizes.values()) * ratio))
    order = sorted(sizes, key=lambda name: (derive_seed(seed, "split", name), name))
    chosen: set[str] = set()
    held = 0
    for name in order:
        if held >= wanted or len(chosen) == len(sizes) - 1:
            break
        if held + sizes[name] > 2 * wanted:
            continue
        chosen.add(name)
        held += sizes[name]
    return chosen or {min(order, key=lambda name: (sizes[name], order.index(name)))}


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Return ids in a seeded order that does not depend on the order they came in."""
    return sorted(names, key=lambda name: (derive_seed(seed, "order", name), name))
