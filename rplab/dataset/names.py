"""Who speaks in a row: the names that its metadata, its system text or the predecessor's cast give.

Typed fields come first. Prose is only looked at for rows of other origin that have none (predecessor files).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rplab.text.korean import name_pattern

CAST_PLAYERS = ("하야토", "소마", "카즈키")
"""Players of the predecessor, in the order in which its normaliser draws them."""
CAST_PROTAGONISTS = ("사야", "마이", "코하루")
PLAYER_WORDS = ("플레이어", "유저", "사용자", "user", "User", "USER", "player", "Player", "당신")
PROTAGONIST_WORDS = ("주인공", "assistant", "Assistant", "ASSISTANT", "캐릭터", "char", "Char")

_PLAYER_LINE = re.compile(r"플레이어[^\n:：]{0,12}[:：][ \t]*(?:이름[ \t]*[:：]?[ \t]*)?[「\[]?([가-힣A-Za-z]{1,12})(?=[」\],.(\s/]|$)")
_ROLE = re.compile(r"당신은 (?:이제 )?[「『\[]?([가-힣A-Za-z]{1,12}?)[」』\]]?(?:이)?다[.\s]")


@dataclass(frozen=True)
class Names:
    """The names known for one row."""

    protagonists: tuple[str, ...]
    players: tuple[str, ...]
    player: str | None
    """The player, when the row says who it is."""


def person_name(value: Any) -> str | None:
    """Return the name in a metadata field that holds a name or a person (`{"name": ...}`)."""
    if isinstance(value, Mapping):
        value = value.get("name")
    return value.strip() if isinstance(value, str) and re.fullmatch(r'\s*[^"\n:*{}\s][^"\n:*{}]{0,19}', value) else None


def find_names(meta: Any, system_texts: Sequence[str]) -> Names:
    """Collect the names of a row.

    Args:
        meta: The row's `meta`; anything that is not a mapping is ignored.
        system_texts: Its system turns.
    """
    fields: Mapping[str, Any] = meta if isinstance(meta, Mapping) else {}
    scene = fields.get("scene")
    speaker = scene.get("speaker") if isinstance(scene, Mapping) else None
    text = "\n".join(system_texts)
    said_role = _ROLE.search(text)
    protagonist = person_name(fields.get("protagonist")) or person_name(speaker) or (said_role[1] if said_role else None)
    player = person_name(fields.get("player")) or _player_in(text, protagonist)
    return Names(
        protagonists=tuple(dict.fromkeys([*([protagonist] if protagonist else []), *(n for n in CAST_PROTAGONISTS if n != player)])),
        players=tuple(dict.fromkeys([*([player] if player else []), *(n for n in CAST_PLAYERS if n != protagonist)])),
        player=player,
    )


def _player_in(text: str, protagonist: str | None) -> str | None:
    """Return the player that a system text names: the one known player in it, else the one written after its label."""
    present = [name for name in CAST_PLAYERS if name != protagonist and name_pattern(name).search(text)]
    if len(present) == 1:
        return present[0]
    labelled = {name for name in _PLAYER_LINE.findall(text) if name not in (*PLAYER_WORDS, "이름")}
    return labelled.pop() if len(labelled) == 1 else None
