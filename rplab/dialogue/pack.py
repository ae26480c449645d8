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
from typing import Any, Literal, TypeVar, get_args

from pydantic import Field, TypeAdapter, ValidationError

from rplab.character import read_yaml
from rplab.dialogue.machine import Condition, Flag, Machine, Rule, State, parse_guard
from rplab.dialogue.pack_tables import (
    Cast,
    CheckRule,
    DecodingTable,
    Genre,
    Intent,
    Limits,
    Pacing,
    Part,
    Prompts,
    Side,
    Signal,
    SingleturnBanks,
)
from rplab.errors import ConfigError

PACKS = Path(__file__).parent / "packs"
FILES = ("relation", "action", "cast", "frames", "singleturn", "prompts", "checks")


class _PackFile(Part):
    name: str
    version: int
    description: str
    base: str = ""
    signals: dict[str, Signal]
    relations: tuple[str, ...]
    book_omits: tuple[Literal["constraint", "attachment_reason", "player_influence", "growth_factor", "endings"], ...] = ()
    eras: dict[str, str]
    genres: dict[str, Genre]
    intent: Intent
    pacing: Pacing
    limits: Limits
    decoding: DecodingTable


class _StateFile(Part):
    description: str = ""
    flags: dict[str, Flag] = Field(default_factory=dict[str, Flag])
    rules: tuple[dict[str, Any], ...] = ()


class _MachineFile(Part):
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
    book_omits: tuple[str, ...]
    """Draft fields that the book's text leaves out."""
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
        return self._checks_by_side[side]

    @functools.cached_property
    def _checks_by_side(self) -> dict[Side, tuple[CheckRule, ...]]:
        sides: tuple[Side, ...] = get_args(Side)
        return {side: tuple(rule for rule in self.checks if side in rule.sides) for side in sides}


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
        book_omits=head.book_omits,
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
