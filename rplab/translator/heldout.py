"""The shipped held-out set: 212 Korean dialogue lines with Japanese references that we wrote, never part of any training view.

A data set's own evaluation side comes from the same generator as its training side; this one does not, so it says how
well a translator does on speech that nobody generated. Torch-free.

To add a line: put it under its kind in `heldout.yaml`; the test checks script, names, numbers and politeness of every pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).parent / "heldout.yaml"


@dataclass(frozen=True)
class HeldOutLine:
    """One line of the set."""

    kind: str
    """casual, polite, formal, names, numbers, quotes or long."""
    source: str
    """Korean."""
    reference: str
    """Japanese."""


@cache
def load_heldout() -> tuple[tuple[HeldOutLine, ...], dict[str, str]]:
    """Return the lines, and the names in them with their kana."""
    data: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    lines = tuple(HeldOutLine(kind, korean, japanese) for kind, pairs in data["pairs"].items() for korean, japanese in pairs)
    return lines, dict(data["glossary"])
