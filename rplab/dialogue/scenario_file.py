"""A scenario as typed truth, and strict reading of files of them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rplab.character import Line, Person, Register
from rplab.dialogue.draft import Draft
from rplab.dialogue.pack import Pack
from rplab.errors import DataError
from rplab.jsonl import read_rows


class Scenario(BaseModel):
    """Where a dialogue starts: typed truth, with the book rendered from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True, use_attribute_docstrings=True)

    id: str = Field(min_length=1)
    index: int
    pack: str
    pack_version: int
    seed: int
    backend: str
    protagonist: Person
    player: Person
    register_: Register = Field(alias="register")
    """Speech level of the protagonist towards the player."""
    genre: str
    era: str
    relation: str
    """Label at the start: one of 적대, 거리감, 친밀, 사랑."""
    gate: bool
    """Whether the genre's staged scene may happen at all."""
    gate_condition: str
    """Relation label from which on it may begin."""
    start_frame: str
    place: Line
    draft: Draft
    from_card: bool
    book: str = Field(min_length=1)
    """The eight-section text."""


def read_scenarios(path: Path, pack: Pack) -> list[Scenario]:
    """Read a scenarios file strictly.

    Raises:
        DataError: With file and line: bad JSON, a missing or wrong field, another pack, an unknown genre, a doubled id.
    """
    scenarios: list[Scenario] = []
    seen: dict[str, int] = {}
    for number, row in read_rows(path):
        try:
            scenario = Scenario.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "row"
            raise DataError(
                f"{where}: {first['msg']}", file=path, line=number, remedy="Make the file again with `rplab data scenarios`"
            ) from None
        for what, value, known in (
            ("pack", scenario.pack, (pack.name,)),
            ("genre", scenario.genre, tuple(pack.genres)),
            ("relation", scenario.relation, pack.relations),
            ("gate_condition", scenario.gate_condition, pack.relations),
        ):
            if value not in known:
                remedy = f"Use one of: {', '.join(known)}" if what != "pack" else f"Give --pack {value}"
                raise DataError(f"{what}: {value!r} does not fit pack {pack.name}", file=path, line=number, remedy=remedy)
        if scenario.id in seen:
            raise DataError(f"id {scenario.id} stands on line {seen[scenario.id]} too", file=path, line=number, remedy="Delete one of them")
        seen[scenario.id] = number
        scenarios.append(scenario)
    if not scenarios:
        raise DataError("holds no scenario", file=path, remedy="Make some with `rplab data scenarios`")
    return scenarios
