"""Packs: a dialogue recipe as data, loaded once into typed, frozen tables.

A pack is a folder of YAML: `pack.yaml` (signals, genres, pacing, limits, decoding), `relation.yaml` and `action.yaml`
(state machines), `cast.yaml`, `frames.yaml`, `singleturn.yaml` (banks), `prompts.yaml` (all words a model reads) and
`checks.yaml`. A pack with `base: other` takes the files that it does not have from that pack.

To add a pack: copy a folder, change it, and run `rplab data pack check NAME`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from rplab.backend.base import Sampling
from rplab.character import Person, read_yaml
from rplab.dialogue.machine import Condition, Flag, Machine, Rule, State, parse_guard
from rplab.errors import ConfigError

PACKS = Path(__file__).parent / "packs"
FILES = ("relation", "action", "cast", "frames", "singleturn", "prompts", "checks")

Chances = Annotated[tuple[float, float, float], Field(description="up, same, down; sums to 1")]
Side = Literal["user", "asst", "crisis"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Signal(_Part):
    """An integer that the planner moves."""

    label: str
    """What it is called in prompts."""
    low: int
    high: int

    def clamp(self, value: int) -> int:
        """Return `value` within the range."""
        return max(self.low, min(self.high, value))


class StagedScene(_Part):
    """A prepared scene of named steps, entered through the gate."""

    name: str
    decline: str
    """How it is turned down while the gate is closed."""
    cues: tuple[str, ...]
    """Words by which a player's turn asks for it."""


class Genre(_Part):
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


class IntentSteps(_Part):
    """Direction of a turn."""

    text: str
    steps: Chances


class Intent(_Part):
    """How the direction of a turn is drawn."""

    rise: IntentSteps
    fall: IntentSteps
    fall_when_strained: float = Field(ge=0, le=1)
    rise_otherwise: float = Field(ge=0, le=1)


class Pacing(_Part):
    """How fast a dialogue moves."""

    turns: int = Field(ge=1)
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


class Limits(_Part):
    """Attempts in all, so 1 means no second try."""

    user_attempts: int = Field(ge=1)
    protagonist_attempts: int = Field(ge=1)
    scenario_attempts: int = Field(ge=1)
    judge_attempts: int = Field(ge=1)


class Decoding(_Part):
    """Sampling of one kind of call."""

    max_tokens: int = Field(ge=1)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)

    def sampling(self) -> Sampling:
        """Return it as a backend's sampling settings."""
        return Sampling(self.temperature, self.top_p, self.repetition_penalty, self.max_tokens)


class DecodingTable(_Part):
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


class Cast(_Part):
    """Who may appear."""

    protagonists: tuple[CastMember, ...] = Field(min_length=1)
    players: tuple[CastMember, ...] = Field(min_length=1)


class GenreBank(_Part):
    """What single-turn scenes of a genre are drawn from."""

    direction: str
    situations: tuple[str, ...] = Field(min_length=1)
    personalities: tuple[str, ...] = Field(min_length=1)
    relationships: tuple[str, ...] = Field(min_length=1)


class SingleturnBanks(_Part):
    """Banks of the single-turn rows."""

    user_formats: tuple[Literal["dialog_only", "action_plus_dialogue"], ...]
    relation_line: str
    genres: dict[str, GenreBank] = Field(min_length=1)
    locations: tuple[str, ...] = Field(min_length=1)


class Prompts(_Part):
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


class CheckRule(_Part):
    """A check that turns must pass; the code of each id is in `rplab.dialogue.check_functions`."""

    id: str
    version: int
    severity: Literal["fatal", "error", "warning"]
    policy: Literal["accept", "repair", "retry", "drop"]
    sides: tuple[Side, ...]
    tell: str = ""
    """What a model is told when it is asked again; the id when empty."""


class _PackFile(_Part):
    name: str
    version: int
    description: str
    base: str = ""
    signals: dict[str, Signal]
    relations: tuple[str, ...]
    eras: dict[str, str]
    genres: dict[str, Genre]
    intent: Intent
    pacing: Pacing
    limits: Limits
    decoding: DecodingTable


class _StateFile(_Part):
    description: str = ""
    flags: dict[str, Flag] = {}
    rules: tuple[dict[str, Any], ...] = ()


class _MachineFile(_Part):
    name: str
    initial: str
    states: dict[str, _StateFile]


@dataclass(frozen=True)
class Pack:
    """A loaded pack."""

    name: str
    version: int
    description: str
    signals: Mapping[str, Signal]
    relations: tuple[str, ...]
    eras: Mapping[str, str]
    genres: Mapping[str, Genre]
    intent: Intent
    pacing: Pacing
    limits: Limits
    decoding: DecodingTable
    relation_machine: Machine
    action_machine: Machine
    cast: Cast
    frames: Mapping[str, tuple[str, ...]]
    singleturn: SingleturnBanks
    prompts: Prompts
    checks: tuple[CheckRule, ...]

    def checks_for(self, side: Side) -> tuple[CheckRule, ...]:
        """Return the checks of one side, in order."""
        return tuple(rule for rule in self.checks if side in rule.sides)


def pack_names() -> list[str]:
    """Return the packs that ship."""
    return sorted(path.parent.name for path in PACKS.glob("*/pack.yaml"))


def load_pack(reference: str) -> Pack:
    """Load a shipped pack by name, or a pack folder by path.

    Raises:
        ConfigError: No such pack, or a file of it is wrong (names file, key and what to do).
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", reference):
        folder = PACKS / reference
        if not (folder / "pack.yaml").is_file():
            raise ConfigError(f"no pack is called {reference!r}. Use one of: {', '.join(pack_names())}; or give the path of a pack folder")
    else:
        folder = Path(reference)
        if not (folder / "pack.yaml").is_file():
            raise ConfigError(f"{folder}: no pack.yaml there. Give a pack's name ({', '.join(pack_names())}) or its folder")
    return _load(folder.absolute())


@functools.lru_cache(maxsize=8)
def _load(folder: Path) -> Pack:
    head = _parse(_PackFile, folder / "pack.yaml")
    paths = {name: _find(folder, head.base, name) for name in FILES}
    pack = Pack(
        name=head.name,
        version=head.version,
        description=head.description,
        signals=head.signals,
        relations=head.relations,
        eras=head.eras,
        genres=head.genres,
        intent=head.intent,
        pacing=head.pacing,
        limits=head.limits,
        decoding=head.decoding,
        relation_machine=load_machine(paths["relation"], head.signals),
        action_machine=load_machine(paths["action"], head.signals),
        cast=_parse(Cast, paths["cast"]),
        frames=_parse(dict[str, tuple[str, ...]], paths["frames"]),
        singleturn=_parse(SingleturnBanks, paths["singleturn"]),
        prompts=_parse(Prompts, paths["prompts"]),
        checks=_parse(tuple[CheckRule, ...], paths["checks"]),
    )
    _cross_check(pack, paths, folder / "pack.yaml")
    return pack


def _find(folder: Path, base: str, name: str) -> Path:
    """Return the file of that name in the pack, or in the pack that it is based on."""
    own = folder / f"{name}.yaml"
    if own.is_file() or not base:
        return own
    parent = PACKS / base
    return _find(parent, _parse(_PackFile, parent / "pack.yaml").base, name)


_Parsed = TypeVar("_Parsed")


def _parse(kind: type[_Parsed], path: Path) -> _Parsed:
    try:
        return TypeAdapter(kind).validate_python(read_yaml(path))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()[:5])
        raise ConfigError(f"{path}: {problems}. Correct the file; the shipped packs show the layout") from None


def load_machine(path: Path, signals: Mapping[str, Signal]) -> Machine:
    """Load a state machine; guards are parsed here, so a bad one is found before anything runs."""
    raw = _parse(_MachineFile, path)
    if raw.initial not in raw.states:
        raise ConfigError(f"{path}: initial: {raw.initial} is no state of this machine. Use one of: {', '.join(raw.states)}")
    states = {
        name: State(name, state.description, state.flags, tuple(_rule(path, name, rule, raw, signals) for rule in state.rules))
        for name, state in raw.states.items()
    }
    return Machine(raw.name, raw.initial, states)


def _rule(path: Path, state: str, rule: dict[str, Any], machine: _MachineFile, signals: Mapping[str, Signal]) -> Rule:
    where = f"{path}: states.{state}.rules"
    target, when = rule.get("to"), rule.get("when", {})
    if set(rule) - {"to", "when"} or not isinstance(when, dict):
        raise ConfigError(f"{where}: a rule is written {{to: STATE, when: {{signal: condition}}}}, this one is {rule}")
    if target not in machine.states:
        raise ConfigError(f"{where}: {target} is no state of this machine. Use one of: {', '.join(machine.states)}")
    conditions: list[Condition] = []
    for signal, expression in when.items():
        kind = "text" if signal == "genre" else "flag" if signal == "scene_ready" else "number"
        if kind == "number" and signal not in signals:
            raise ConfigError(f"{where}: {signal} is no signal. Use one of: {', '.join(signals)}, genre, scene_ready")
        try:
            conditions.append(Condition(str(signal), str(expression), parse_guard(str(expression), kind)))
        except ValueError as error:
            raise ConfigError(f"{where}: {signal}: {error}. Write a comparison such as '>=1'") from None
    return Rule(str(target), tuple(conditions))


def _cross_check(pack: Pack, paths: Mapping[str, Path], head: Path) -> None:
    """Names that one file uses and another defines."""
    for name, genre in pack.genres.items():
        if genre.start not in pack.relation_machine.states:
            raise ConfigError(f"{head}: genres.{name}.start: {genre.start} is no state of {paths['relation']}")
        if unknown := set(genre.drift) - set(pack.signals):
            raise ConfigError(f"{head}: genres.{name}.drift: {', '.join(sorted(unknown))} is no signal of this pack")
        if not pack.frames.get(name):
            raise ConfigError(f"{paths['frames']}: {name}: no start frame for this genre. Add at least one")
    if unknown := set(pack.singleturn.genres) - set(pack.genres):
        raise ConfigError(f"{paths['singleturn']}: genres.{', '.join(sorted(unknown))} is not a genre of {head}")
    if unknown := set(pack.pacing.first_signals) - set(pack.signals):
        raise ConfigError(f"{head}: pacing.first_signals: {', '.join(sorted(unknown))} is no signal of this pack")
