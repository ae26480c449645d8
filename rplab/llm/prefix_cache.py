"""Key/value caches of the latest prompts: what a new prompt shares with one of them is not read again.

Two are kept, because play asks its model two kinds of things in turn: the conversation, and between two turns what is worth
remembering of it. With one cache the second kind would throw the first away, and the player who types meanwhile would wait
for the whole conversation to be read anew.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers.cache_utils import DynamicCache

_KEPT = 2
_LITTLE = 64
"""A cache that would lose no more tokens than this is cut back and used; of one that would lose more, a copy is."""


@dataclass(eq=False)
class CachedPrompt:
    """Tokens that were read, and what the model made of them."""

    ids: list[int]
    cache: Any


class PrefixCaches:
    """The latest prompts, least recently used first. Not for several threads at once."""

    def __init__(self, config: Any) -> None:
        """Start empty.

        Args:
            config: Of the model, for new caches.
        """
        self._config = config
        self._prompts: list[CachedPrompt] = []

    def take(self, ids: Sequence[int]) -> CachedPrompt:
        """Return a cache whose tokens are the longest known beginning of `ids`; it is the caller's until `put`."""
        shared, best = max(
            ((shared_prefix(prompt.ids, ids), prompt) for prompt in self._prompts), key=lambda pair: pair[0], default=(0, None)
        )
        if best is None or shared == 0:
            return CachedPrompt([], _new_cache(self._config))
        if len(best.ids) - shared <= _LITTLE:
            self._prompts.remove(best)
        else:
            best = CachedPrompt(best.ids, copy.deepcopy(best.cache))
        if not _cut_back(best.cache, shared):
            return CachedPrompt([], _new_cache(self._config))
        return CachedPrompt(list(best.ids[:shared]), best.cache)

    def put(self, prompt: CachedPrompt) -> None:
        """Keep a cache, unless a stop in the middle left it out of step with its tokens."""
        if not prompt.ids or prompt.cache.get_seq_length() != len(prompt.ids):
            return
        self._prompts.append(prompt)
        del self._prompts[:-_KEPT]


def shared_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two prompts have in common at their beginning."""
    shared = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        shared += 1
    return shared


def _cut_back(cache: Any, length: int) -> bool:
    """Cut a cache back to `length` tokens; False when its layers cannot forget."""
    surplus = cache.get_seq_length() - length
    try:
        if surplus > 0:
            cache.crop(-surplus)
    except (RuntimeError, NotImplementedError, AttributeError):
        return False
    return True


def _new_cache(config: Any) -> DynamicCache:
    """Return an empty key/value cache that can be cut back to a shared beginning where the architecture allows it.

    A cache made from the config forgets what has left a sliding window and cannot be cut back; a plain one keeps all, and the masks
    do the sliding. Layers with another kind of state (convolutions, linear attention) need the one made from the config.
    """
    layers = getattr(config.get_text_config(), "layer_types", None) or ()
    attends = all(kind in {"full_attention", "sliding_attention", "chunked_attention"} for kind in layers)
    return DynamicCache() if attends else DynamicCache(config=config)
