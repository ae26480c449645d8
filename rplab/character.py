"""Typed character cards: the one source of truth about who speaks, to whom, and how.

Everything downstream (prompts, checks, rewards, play) reads these fields; nothing is ever parsed back out of prose.
Every person states an adult age.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from rplab.errors import ConfigError

MIN_AGE = 20
"""Adult age in years that every character must state."""

BUNDLED = Path(__file__).parent / "cards"

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20, pattern=r"^[^\"\n:*{}]+$")]


class Register(StrEnum):
    """Speech level of a character's spoken lines."""

    POLITE = "존댓말"
    CASUAL = "반말"


class Person(BaseModel):
    """Somebody in the story."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Name
    """Korean name, as it stands in the text."""
    name_ja: Name
    """The same name in kana, as it is spoken in Japanese."""
    age: int = Field(ge=MIN_AGE, le=10_000)
    """Years; an adult age must be stated."""
    gender: str = Field(default="여성", max_length=20)

    @field_validator("name_ja")
    @classmethod
    def _kana(cls, value: str) -> str:
        if not re.fullmatch(r"[ぁ-ゖァ-ヺー・\s]+", value):
            raise ValueError("must be written in kana, for example サヤ")
        return value


LoreKey = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class LoreEntry(BaseModel):
    """Something about the world that is told when one of its keys comes up."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    keys: tuple[LoreKey, ...] = Field(default=(), max_length=50)
    """Plain words; never patterns. One of them must come up."""
    content: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
    secondary_keys: tuple[LoreKey, ...] = Field(default=(), max_length=50)
    """When there are any, one of them must come up as well."""
    constant: bool = False
    """Always told, whatever comes up."""
    priority: int = Field(default=0, ge=-(2**31), le=2**31)
    """Where the budget does not suffice, entries of higher priority stay."""
    scan_depth: int | None = Field(default=None, ge=0, le=1000)
    """How many of the latest messages are looked at; None leaves it to the settings of play."""

    @model_validator(mode="after")
    def _has_keys(self) -> LoreEntry:
        if not self.keys and not self.constant:
            raise ValueError("needs at least one key, or `constant: true`")
        return self


class Card(Person):
    """The character that is made, and the player it talks to."""

    register_: Register = Field(alias="register", default=Register.CASUAL)
    """Speech level towards the player."""
    role: Line
    """What the character does for a living or in the story."""
    traits: tuple[Line, ...] = Field(min_length=1, max_length=6)
    """Core personality, a few words each."""
    lack: Line = "마음을 터놓을 상대가 없다"
    """What the character misses."""
    speech_habits: Line = "짧고 또렷하게 말한다"
    world: Line
    """Era and place in a sentence or two."""
    situation: Line
    """Where a conversation starts."""
    relationship: Line
    """Who the player is to the character."""
    player: Person
    greeting: str = Field(default="", max_length=600)
    """First reply shown by play: narration line, then a quoted line. Empty: the model speaks first when asked."""
    lore: tuple[LoreEntry, ...] = Field(default=(), max_length=500)
    """Lorebook of an imported card."""
    carried: str = Field(default="", max_length=2**21, repr=False)
    """JSON of an imported card's own fields, kept for export; nothing here reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True, use_attribute_docstrings=True)


def load_card(reference: str, base: Path | None = None) -> Card:
    """Load a bundled card by name (`saya`) or a YAML file by path.

    Args:
        reference: Bundled name or path.
        base: Directory that a relative path starts from; the working directory when None.

    Raises:
        ConfigError: No such card, bad YAML, a missing or wrong field (with file, field and remedy).
    """
    if re.fullmatch(r"[a-z0-9_-]+", reference):
        path = BUNDLED / f"{reference}.yaml"
        if not path.is_file():
            names = ", ".join(sorted(p.stem for p in BUNDLED.glob("*.yaml")))
            raise ConfigError(f"no bundled card is called {reference!r}. Use one of: {names}; or give the path of a YAML file")
    else:
        path = (base or Path()) / reference
    return parse_card(read_yaml(path), path)


def parse_card(data: Any, path: Path) -> Card:
    """Validate a card that was read from `path`."""
    try:
        return Card.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(item) for item in error.errors())
        raise ConfigError(f"{path}: {problems}") from None


def _explain(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "card"
    if field.endswith("age"):
        given = "is missing" if item["type"] == "missing" else f"is {item['input']!r}"
        return f"{field} {given}; state an adult age as a whole number of years, {MIN_AGE} or more, for example `age: 24`"
    if item["type"] == "missing":
        return f"{field} is missing; add it"
    if item["type"] == "extra_forbidden":
        return f"{field} is not a card field; remove it or check the spelling"
    return f"{field}: {item['msg']}"


def read_yaml(path: Path) -> Any:
    """Read a YAML file safely.

    Raises:
        ConfigError: Missing file, bad encoding or bad YAML, with the line.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Check the path") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"{path}: not a UTF-8 text file ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}). Repair the file") from None
