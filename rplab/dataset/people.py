"""Who talks in a conversation, and their names put in place of 주인공 and 플레이어 with particles that fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rplab.dataset.names import find_names, person_name
from rplab.text.korean import attach, name_pattern

_SECTION = r"(?ms)^\s*{number}\s*[.)]\s*[^\n]*\n(?P<body>.*?)(?=^\s*\d+\s*[.)]\s|\Z)"
_NAME_FIELD = re.compile(r"이름\s*[:：]\s*[「『\[]?([가-힣A-Za-z]{1,12})")
_GENDER = re.compile(r"(?P<female>여성|여자|여인)|(?P<male>남성|남자|사내)")
_COPULAS = frozenset({"이다", "다", "이에요", "예요", "이었다", "였다", "이었어요", "였어요", "이며", "이고", "이지만", "이야"})
_PRONOUNS = {"여성": "그녀", "남성": "그"}


@dataclass(frozen=True)
class People:
    """What is known about the two who talk; empty strings where nothing is."""

    protagonist: str
    player: str
    gender: str
    """여성 or 남성 of the protagonist."""


def find_people(meta: Any, book: str) -> People:
    """Return who talks: from metadata, else from sections 3 and 4 of a scenario book, else from the system text.

    Args:
        meta: The row's metadata; anything that is no mapping is ignored.
        book: The first system turn.
    """
    fields: Mapping[str, Any] = meta if isinstance(meta, Mapping) else {}
    own, other = _section(book, 3), _section(book, 4)
    found = find_names(fields, [book])
    protagonist = person_name(fields.get("protagonist")) or _named(own) or _stated_protagonist(book, found.protagonists)
    person = fields.get("protagonist")
    gender = _gender(str(person.get("gender"))) if isinstance(person, Mapping) else ""
    return People(protagonist, person_name(fields.get("player")) or _named(other) or found.player or "", gender or _gender(own))


def _stated_protagonist(book: str, candidates: Sequence[str]) -> str:
    """Return the first candidate that the system text really mentions."""
    return next((name for name in candidates[:1] if name_pattern(name).search(book)), "")


def _section(book: str, number: int) -> str:
    match = re.search(_SECTION.format(number=number), book)
    return match["body"] if match else ""


def _named(section: str) -> str:
    match = _NAME_FIELD.search(section)
    return match[1] if match else ""


def _gender(text: str) -> str:
    """Return 여성 or 남성 when a text says one of them first; an empty string otherwise."""
    match = _GENDER.search(text)
    return "" if match is None else "여성" if match["female"] else "남성"


def _defines(match: re.Match[str], name: str) -> bool:
    """Return whether the text behind a role word gives its name: `플레이어: 하야토`, `플레이어는 하야토다`."""
    return (
        bool(name)
        and re.match(rf"\s*[:：]?\s*[「『\[]?{re.escape(name)}(?:[」』\]]|이?다\b|입니다|[\s,(（]*$|\s*[(（,])", _rest_of_line(match))
        is not None
    )


def _rest_of_line(match: re.Match[str]) -> str:
    return match.string[match.end() :].partition("\n")[0]


def name_people(text: str, people: People, *, pronoun: bool) -> str:
    """Replace 주인공 and 플레이어 by names with fitting particles.

    Args:
        text: Any text.
        people: Who they are; a word stays when its person has no name.
        pronoun: Write 그녀 or 그 for 주인공 where a particle follows and the gender is known.
    """

    def fitted(match: re.Match[str], name: str, by_particle: str) -> str:
        if match["title"] or match["particle"] in _COPULAS or _defines(match, name):
            return match[0]  # 주인공들 is not the one person; 하야토는 플레이어이다 says who it is
        if match["particle"]:
            return attach(by_particle or name, match["particle"]) if by_particle or name else match[0]
        return name or match[0]

    short = _PRONOUNS.get(people.gender, "") if pronoun else ""
    text = name_pattern("주인공").sub(lambda match: fitted(match, people.protagonist, short), text)
    return name_pattern("플레이어").sub(lambda match: fitted(match, people.player, ""), text)
