"""Random numbers that do not depend on order or worker count.

Nothing in the lab uses a global generator. Each item derives its own seed from the run's root seed and the item's
names, so that generating it first, last, alone or on another machine gives the same item.
"""

from __future__ import annotations

import hashlib
import random


def derive_seed(root: int, *names: str | int) -> int:
    """Return a 63-bit seed that is a pure function of `root` and `names`."""
    text = "\x1f".join([str(root), *(str(name) for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def derive(root: int, *names: str | int) -> random.Random:
    """Return a generator of its own for the item called `names`."""
    return random.Random(derive_seed(root, *names))


def content_id(kind: str, *parts: str | int) -> str:
    """Return a readable, stable identifier `<kind>-<16 hex>` of what an item is made from."""
    text = "\x1f".join([kind, *(str(part) for part in parts)])
    return f"{kind}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
