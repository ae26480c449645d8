"""`2/4`: the second of four parts of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")


@dataclass(frozen=True)
class Shard:
    """One part of a run."""

    number: int
    """1-based."""
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def picks(self, index: int) -> bool:
        """Return whether the item at a 0-based index belongs to this shard."""
        return index % self.of == self.number - 1


def parse_shard(text: str) -> Shard:
    """Read `2/4`.

    Raises:
        ValueError: It is none, or its number is larger than the number of shards.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError(f"{text!r} is no shard; write the second of four as 2/4")
    return Shard(int(match[1]), int(match[2]))
