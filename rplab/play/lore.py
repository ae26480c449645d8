"""The lorebook: what the world holds, told when somebody mentions it.

Keys are plain words, never patterns. A key of Latin letters must stand as a word of its own (`art` is not in `start`);
Korean and Japanese keys are found inside words, since particles and endings grow onto them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rplab.character import LoreEntry


@dataclass(frozen=True)
class LoreHit:
    """An entry that was brought up."""

    entry: LoreEntry
    key: str
    """The key that was found; empty for an entry that is always told."""


def find_lore(entries: Sequence[LoreEntry], messages: Sequence[str], *, depth: int) -> list[LoreHit]:
    """Return the entries that the latest messages bring up, the most important first.

    Args:
        entries: The lorebook.
        messages: What was said, oldest first.
        depth: How many of the latest messages are looked at, unless the entry says otherwise.
    """
    hits: list[LoreHit] = []
    for entry in entries:
        reach = depth if entry.scan_depth is None else entry.scan_depth
        text = "\n".join(messages[-reach:] if reach else ()).casefold()
        if entry.constant:
            hits.append(LoreHit(entry, ""))
        elif (key := _find(entry.keys, text)) and (not entry.secondary_keys or _find(entry.secondary_keys, text)):
            hits.append(LoreHit(entry, key))
    return sorted(hits, key=lambda hit: (not hit.entry.constant, -hit.entry.priority))


def fit_lore(hits: Sequence[LoreHit], cost: Callable[[str], int], budget: int) -> list[LoreHit]:
    """Return the hits that fit, the most important first; one that does not fit makes way for smaller ones behind it."""
    kept: list[LoreHit] = []
    for hit in hits:
        tokens = cost(hit.entry.content)
        if tokens <= budget:
            kept.append(hit)
            budget -= tokens
    return kept


def _find(keys: Sequence[str], text: str) -> str:
    return next((key for key in keys if _stands_in(key.casefold(), text)), "")


def _stands_in(key: str, text: str) -> bool:
    if not key.isascii():
        return key in text
    return re.search(rf"(?<![0-9a-z]){re.escape(key)}(?![0-9a-z])", text) is not None
