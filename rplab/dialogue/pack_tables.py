"""The typed tables of a pack; `rplab.dialogue.pack` loads them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rplab.backend.base import Sampling
from rplab.character import Person

Chances = Annotated[tuple[float, float, float], Field(description="up, same, down; sums to 1")]
Side = Literal["user", "asst", "crisis"]


class Part(BaseModel):
    """Base of the tables: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Signal(Part):
    """An integer that the planner moves."""

    label: str
    """What it is called in prompts."""
    low: int
    high: int

    def clamp(self, value: int) -> int:
        """Return `value` within the range."""
        return max(self.low, min(self.high, value))


class StagedScene(Part):
    """A prepared scene of named steps, entered through the gate."""

    name: str
    decline: str
    """How it is turned down while the gate is closed."""
    cues: tuple[str, ...]
    """Words by which a player's turn asks for it."""


class Genre(Part):
    """One kind of story."""

    driver: str
    start: str
    """Relation state that a dialogue begins in when the pack enters the genre at once."""
    drift: dict[str, Chances]
    """Signal -> chance of up, same, down in a turn."""
    boosts: dict[str, float] = {}
    """Action state -> extra weight, for packs that diversify."""
    scene: StagedScene

    @model_validator(mode="after")
    def _sums(self) -> Genre:
        for name, chances in self.drift.items():
            if abs(sum(chances) - 1) > 1e-6:
                raise ValueError(f"drift.{name} must sum to 1, it sums to {sum(chances):g}")
        return self


class IntentSteps(Part):
    """Direction of a turn."""

    text: str
    steps: Chances


class Intent(Part):
    """How the direction of a turn is drawn."""

    rise: IntentSteps
    fall: IntentSteps
    fall_when_strained: float = Field(ge=0, le=1)
    rise_otherwise: float = Field(ge=0, le=1)


class Pacing(Part):
    """How fast a dialogue moves."""

    turns: int = Field(ge=1)
    closing_turns: int = Field(default=0, ge=0, le=16)
    """Most exchanges beyond `turns` for a staged scene or a crisis that is under way then: it is brought to its end."""
    first_signals: dict[str, int] = {}
    enter_genre_at_once: bool = True
    min_staged: int = Field(ge=1, le=4)
    max_staged: int = Field(default=4, ge=1, le=4)
    crisis_lock: int = Field(ge=0)
    """Turns that the height of a crisis lasts; 0 and 1 are the same."""
    idle_limit: int = Field(ge=1)
    always_progress_turns: int = Field(ge=0)
    stall_handling: bool = True
    stall_overlap: float = Field(default=0.6, gt=0, le=1)
    diversify: bool = False
    history: int = Field(default=4, ge=1)


class Limits(Part):
    """Attempts in all, so 1 means no second try."""

    user_attempts: int = Field(ge=1)
    protagonist_attempts: int = Field(ge=1)
    scenario_attempts: int = Field(ge=1)
    judge_attempts: int = Field(ge=1)


class Decoding(Part):
    """Sampling of one kind of call."""

    max_tokens: int = Field(ge=1)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)

    def sampling(self) -> Sampling:
        """Return it as a backend's sampling settings."""
        return Sampling(self.temperature, self.top_p, self.repetition_penalty, self.max_tokens)


class DecodingTable(Part):
    """Sampling per kind of call."""

    singleturn: Decoding
    scenario: Decoding
    user: Decoding
    protagonist: Decoding
    crisis: Decoding
    staged: Decoding
    signals: Decoding


class CastMember(Person):
    """A person of the pack's cast."""

    weight: float = Field(gt=0)

    def person(self) -> Person:
        """Return the person without the weight."""
        return Person(name=self.name, name_ja=self.name_ja, age=self.age, gender=self.gender)


class Cast(Part):
    """Who may appear."""

    protagonists: tuple[CastMember, ...] = Field(min_length=1)
    players: tuple[CastMember, ...] = Field(min_length=1)


class GenreBank(Part):
    """What single-turn scenes of a genre are drawn from."""

    direction: str
    situations: tuple[str, ...] = Field(min_length=1)
    personalities: tuple[str, ...] = Field(min_length=1)
    relationships: tuple[str, ...] = Field(min_length=1)


class SingleturnBanks(Part):
    """Banks of the single-turn rows."""

    user_formats: tuple[Literal["dialog_only", "action_plus_dialogue"], ...]
    relation_line: str
    genres: dict[str, GenreBank] = Field(min_length=1)
    locations: tuple[str, ...] = Field(min_length=1)


class Prompts(Part):
    """All words that a model reads; `{name}` and `{name:은/는}` are filled in."""

    policy: tuple[str, ...]
    protagonist: str
    player_system: str
    player: str
    modes: dict[Literal["normal", "staged", "crisis"], str]
    avoid: dict[Literal["protagonist", "player"], str]
    progress: str
    no_question: str
    gates: dict[Literal["open", "closed", "denied"], str]
    fix: str
    signals: str
    singleturn: str
    user_rules: dict[Literal["dialog_only", "action_plus_dialogue"], str]
    scenario: str


class CheckRule(Part):
    """A check that turns must pass; the code of each id is in `rplab.dialogue.check_functions`."""

    id: str
    version: int
    severity: Literal["fatal", "error", "warning"]
    policy: Literal["accept", "repair", "retry", "drop"]
    sides: tuple[Side, ...]
    tell: str = ""
    """What a model is told when it is asked again; the id when empty."""
