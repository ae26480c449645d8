"""Seeded draws of items: balanced where the mix matters, independent elsewhere, never dependent on order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from rplab.character import Person
from rplab.dialogue.pack_tables import CastMember
from rplab.seeding import derive

T = TypeVar("T")


def balanced(options: Sequence[T], seed: int, name: str, index: int) -> T:
    """Return option `index` of a stratified design: every block of `len(options)` items holds each option once.

    Each block has its own seeded order, so two factors drawn under different names do not move together.
    """
    block, place = divmod(index, len(options))
    order = list(range(len(options)))
    derive(seed, "balanced", name, block).shuffle(order)
    return options[order[place]]


def takes_share(share: float, index: int) -> bool:
    """Return whether item `index` belongs to the share; any first n items hold floor(n * share) of them."""
    return int((index + 1) * share + 1e-9) > int(index * share + 1e-9)


def pick_person(members: Sequence[CastMember], rng: random.Random, *, without: frozenset[str] = frozenset()) -> Person:
    """Draw a person by weight, avoiding names already taken."""
    free = [member for member in members if member.name not in without]
    return rng.choices(free, weights=[member.weight for member in free])[0].person()
