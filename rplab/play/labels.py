"""Role labels at the start of a line (`사야:`, `USER:`, `대사:`): what they mean for the rest of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rplab.play.events import Kind

_MODEL = frozenset({"assistant", "어시스턴트", "ai", "bot", "char", "character"})
_OTHERS = frozenset({"user", "human", "system", "사용자", "유저", "시스템", "player", "플레이어"})
_KINDS: dict[str, Kind] = {
    "narration": "narration",
    "나레이션": "narration",
    "내레이션": "narration",
    "지문": "narration",
    "서술": "narration",
    "dialogue": "dialogue",
    "대사": "dialogue",
}
_MAX_CHARS = 24


@dataclass(frozen=True)
class Label:
    """A label that was found."""

    kind: Kind | None = None
    """What the line is: speech after the character's name, None after `ASSISTANT:`."""
    is_other: bool = False
    """The line belongs to somebody for whom the model must not write."""


class LabelReader:
    """Knows the labels of one scene."""

    def __init__(self, protagonist: Sequence[str], player: Sequence[str]) -> None:
        """Take the names of the character and of the other side."""
        self._player = frozenset(name.casefold() for name in player if name)
        self._protagonist = frozenset(name.casefold() for name in protagonist if name)
        self._all = (*_MODEL, *_OTHERS, *_KINDS, *self._player, *self._protagonist)

    def may_become(self, head: str) -> bool:
        """Whether the start of a line can still turn into a label and its colon."""
        start = head.lstrip().casefold()
        return len(start) < _MAX_CHARS and any(label.startswith(start.rstrip()) for label in self._all)

    def read(self, head: str) -> Label | None:
        """Return the label that `head` (without its colon) is, or None."""
        name = head.strip().casefold()
        if name in _OTHERS or name in self._player:
            return Label(is_other=True)
        if name in _KINDS:
            return Label(_KINDS[name])
        if name in self._protagonist:
            return Label("dialogue")
        return Label() if name in _MODEL else None
