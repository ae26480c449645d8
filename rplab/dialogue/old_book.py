"""Scenario books of the predecessor: prose from which its runs read their facts back.

Ours never do that (the typed scenario is the truth); this is for books that come from elsewhere: what they say about
gate and relation, whether they are complete, and where they end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rplab.character import Register
from rplab.dialogue.check_functions import level_fault
from rplab.text.korean import name_pattern

_GATE = re.compile(r"가능 여부[^\n]*?\b(True|False)\b")
_RELATION = re.compile(r"^[-\s]*관계 상태\s*[:：]\s*(적대|거리감|친밀|사랑)", re.MULTILINE)
_SECTION_7 = re.compile(r"^\s*7\.", re.MULTILINE)
_REGISTER = re.compile(r"^[-\s]*(?:기본 )?말투\s*[:：]\s*(.+)$", re.MULTILINE)
_TURN = r"^[-\s]*{who}의\s*(?:가장 )?최근 턴\s*[:：]\s*(.+)$"
_QUOTED = re.compile(r'"([^"\n]+)"')
DEFAULT_RELATION = "거리감"
SECTIONS = range(8)
KEPT_LINES = 3
"""Non-blank lines kept of section 7, its heading included (20 in v7)."""


def read_facts(book: str) -> tuple[bool, str]:
    """Return (gate, relation label) as a book states them; a closed gate and 거리감 when it does not."""
    gate = _GATE.search(book)
    section = _SECTION_7.search(book)
    relation = _RELATION.search(book, section.end() if section else len(book))
    return gate is not None and gate[1] == "True", relation[1] if relation else DEFAULT_RELATION


def book_fault(
    book: str, protagonists: Sequence[str], players: Sequence[str], *, min_chars: int = 180, check_register: bool = True
) -> str | None:
    """Return the reason code of the first thing missing in a book, or None.

    Names are counted as words of their own (마이크 is not 마이); a latest line without a recognisable speech level is
    no mismatch.

    Args:
        book: The text.
        protagonists: Names of which exactly one must occur.
        players: Names of which exactly one must occur.
        min_chars: Shortest book (180 in v7, 350 in v5 and v6).
        check_register: Whether section 6 and the protagonist's latest line must agree.
    """
    if len(book.strip()) < min_chars:
        return "too_short"
    for section in SECTIONS:
        if not re.search(rf"^\s*{section}\.", book, re.MULTILINE):
            return f"section_missing_{section}"
    for who, names in (("protagonist", protagonists), ("player", players)):
        count = sum(name_pattern(name).search(book) is not None for name in names)
        if count != 1:
            return f"{who}_count={count}"
    for who, code in (("플레이어", "user"), ("주인공", "protagonist")):
        if not re.search(_TURN.format(who=who), book, re.MULTILINE):
            return f"missing_recent_{code}"
    return "speech_style_mismatch_sec6_sec7" if check_register and _register_differs(book) else None


def _register_differs(book: str) -> bool:
    stated = _REGISTER.search(book)
    named = [register for register in Register if stated and register.value in stated[1]]
    turn = re.search(_TURN.format(who="주인공"), book, re.MULTILINE)
    line = _QUOTED.search(turn[1]) if turn else None
    return len(named) == 1 and line is not None and level_fault(line[1], named[0])


def cut_after_last_section(book: str, kept_lines: int = KEPT_LINES) -> str:
    """Cut what follows section 7: its first `kept_lines` non-blank lines stay, the heading being the first."""
    section = _SECTION_7.search(book)
    if section is None:
        return book
    kept: list[str] = []
    for line in book[section.start() :].split("\n"):
        if line.strip():
            kept.append(line)
        if len(kept) >= kept_lines:
            break
    return book[: section.start()] + "\n".join(kept)
