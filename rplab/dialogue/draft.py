"""The free text of a scenario: the fields a model fills in, and what they must keep to."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from rplab.character import Card, Register
from rplab.dialogue.check_functions import has_fault, level_fault
from rplab.dialogue.turn import TurnContext, split_turn
from rplab.text.korean import find_broken_hangul, find_leaks, korean_share, name_pattern

Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]
Spoken = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=240)]


class Draft(BaseModel):
    """Free-text fields of a scenario; everything fixed (names, ages, genre, register, gate) is kept elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    title: Phrase
    driver: Phrase
    """What moves the story."""
    world: Phrase
    constraint: Phrase
    """What the world does not allow."""
    place: Phrase
    ongoing_event: Phrase
    pending_task: Phrase
    protagonist_role: Phrase
    traits: tuple[Phrase, ...] = Field(min_length=1, max_length=3)
    """Three are asked for; a card may state fewer."""
    lack: Phrase
    attachment_reason: Phrase
    player_influence: Phrase
    rise_condition: Phrase
    fall_condition: Phrase
    growth_factor: Phrase
    endings: tuple[Phrase, ...] = Field(min_length=2, max_length=3)
    speech_habit: Phrase
    dark_signal: Phrase
    last_player_turn: Spoken
    """One line: what the player did last, with the quoted words."""
    last_protagonist_turn: Spoken
    """One line: what the protagonist did last, with the quoted words in the right speech level."""

    def with_card(self, card: Card) -> Draft:
        """Return the draft with what the card fixes put in its place."""
        traits = (*card.traits, *(trait for trait in self.traits if trait not in card.traits))[:3]
        return self.model_copy(
            update={
                "protagonist_role": card.role,
                "traits": traits,
                "lack": card.lack,
                "speech_habit": card.speech_habits,
            }
        )

    def texts(self) -> dict[str, str]:
        """Return every text by field name; list items are numbered."""
        texts: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, str):
                texts[name] = value
            else:
                texts |= {f"{name}.{index}": item for index, item in enumerate(value)}
        return texts


def _schema() -> dict[str, Any]:
    schema = Draft.model_json_schema()
    for field in schema["properties"].values():
        field.pop("description", None)
    return schema


DRAFT_SCHEMA = _schema()
"""JSON schema of an answer, for backends that can hold a model to it."""

_QUOTED = re.compile(r'"([^"\n]+)"')
_ORNAMENT = re.compile(r"[*#<>《》『』{}\[\]]")
MIN_KOREAN_SHARE = 0.7


def draft_fault(draft: Draft, protagonist: str, player: str, register: Register) -> tuple[str, str] | None:
    """Return (reason code, field) of the first thing wrong with a draft, or None."""
    context = TurnContext("user", protagonist, player)
    for field, text in draft.texts().items():
        if has_fault("age_cue", split_turn(text), context):
            return "age_cue", field
        if find_leaks(text) or korean_share(text) < MIN_KOREAN_SHARE:
            return "foreign_script", field
        if find_broken_hangul(text):
            return "broken_hangul", field
        if _ORNAMENT.search(text):
            return "ornament", field
        if "\n" in text:
            return "line_break", field
    return _turn_fault("last_player_turn", draft.last_player_turn, None, protagonist) or _turn_fault(
        "last_protagonist_turn", draft.last_protagonist_turn, register, player
    )


def _turn_fault(field: str, text: str, register: Register | None, other: str) -> tuple[str, str] | None:
    """Check one of the two latest turns: one quoted line, the right speech level, nobody speaks for the other side."""
    quoted = _QUOTED.findall(text)
    if len(quoted) != 1 or text.count('"') != 2:
        return "requires_single_quote", field
    if register is not None and level_fault(quoted[0], register):
        return "speech_level", field
    leading = name_pattern(other).match(text)
    return ("role_conflict", field) if leading and leading["particle"] in ("은", "는", "이", "가") else None
