"""State machines of a dialogue: frozen tables, guards parsed once to closures, state that is plain data.

Our own engine (about 0.8 µs a step against 35-300 µs of the libraries, spec/data.md 5), and above all: a machine is
data, so that it can be checked, simulated and drawn (`rplab.dialogue.inspect`), and its state is one string that goes
into a journal.

A step looks at the rules of the current state in file order; all conditions of a rule must hold; the first match
wins; at most one move per step. A condition on a signal that is not given does not hold.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

SignalValue: TypeAlias = "bool | int | float | str | None"
Guard: TypeAlias = Callable[[SignalValue], bool]
Flag: TypeAlias = "bool | str"

_COMPARISON = re.compile(r"(>=|<=|==|>|<)\s*(-?\d+)")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}

SCENARIO_DEFINED = "scenario_defined"
"""Value of a state flag that leaves the decision to the scenario."""


def parse_guard(expression: str, kind: Literal["number", "text", "flag"] = "number") -> Guard:
    """Turn a condition into a closure; nothing is ever evaluated as code.

    Args:
        expression: `>=1`, `==0`, `<2` for numbers; `==연애물` or `연애물` for text; `true` or `false` for flags.
        kind: What the signal holds.

    Raises:
        ValueError: The expression cannot be read.
    """
    text = expression.strip()
    if kind == "text":
        wanted = text.removeprefix("==").strip()
        return lambda value: isinstance(value, str) and value == wanted
    if kind == "flag":
        lowered = text.removeprefix("==").strip().lower()
        if lowered not in ("true", "false"):
            raise ValueError(f"Invalid FSM expr: {expression}")
        truth = lowered == "true"
        return lambda value: isinstance(value, bool) and value is truth
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise ValueError(f"Invalid FSM expr: {expression}")
    compare, limit = _OPERATORS[match[1]], int(match[2])
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and compare(value, limit)


@dataclass(frozen=True)
class Condition:
    """One condition of a rule."""

    signal: str
    expression: str
    holds: Guard


@dataclass(frozen=True)
class Rule:
    """A possible move; without conditions it always matches."""

    target: str
    conditions: tuple[Condition, ...]

    def matches(self, signals: Mapping[str, SignalValue]) -> bool:
        """Return whether every condition holds; a missing signal fails."""
        return all(condition.holds(signals.get(condition.signal)) for condition in self.conditions)

    def describe(self) -> str:
        """Return the conditions as text, for drawings and messages."""
        return " & ".join(f"{condition.signal}{_spaced(condition.expression)}" for condition in self.conditions) or "always"


def _spaced(expression: str) -> str:
    return expression if expression[:1] in "<>=" else f"=={expression}"


@dataclass(frozen=True)
class State:
    """One state of a machine."""

    name: str
    description: str
    """What is going on in this state, in the language of the dialogue: it goes into the prompt."""
    flags: Mapping[str, Flag]
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Move:
    """Outcome of a step."""

    state: str
    moved: bool
    rule: int | None = None
    """0-based index of the rule that matched in the state left; None when none did."""


@dataclass(frozen=True)
class Machine:
    """A frozen transition table; the state itself is kept by the caller as a string."""

    name: str
    initial: str
    states: Mapping[str, State]

    def step(self, state: str, signals: Mapping[str, SignalValue]) -> Move:
        """Return where one step leads; first matching rule wins.

        Raises:
            KeyError: `state` is not a state of this machine.
        """
        for index, rule in enumerate(self.states[state].rules):
            if rule.matches(signals):
                return Move(rule.target, moved=True, rule=index)
        return Move(state, moved=False)

    def flags(self, state: str, *, scenario_gate: bool, relation: str) -> dict[str, Flag]:
        """Return the flags in force in a state.

        A state that denies the staged scene is never overruled by the scenario; a state that allows it, or leaves it
        to the scenario, follows the scenario's gate. The relation label in force replaces the state's own.
        """
        flags = dict(self.states[state].flags)
        if "allow_staged_scene" in flags:
            flags["allow_staged_scene"] = flags["allow_staged_scene"] is not False and scenario_gate
        if "scene_gate" in flags:
            flags["scene_gate"] = flags["scene_gate"] is not False and scenario_gate
        if "relation_status" in flags:
            flags["relation_status"] = relation
        return flags


def derive_relation(signals: Mapping[str, SignalValue]) -> str:
    """Return the relation label that the signals amount to (spec/predecessor-data.md, 4.1)."""
    intimacy, threat = _number(signals.get("intimacy")), _number(signals.get("threat"))
    if threat >= 2 and intimacy <= 1:
        return "적대"
    if intimacy >= 3:
        return "사랑"
    return "친밀" if intimacy >= 2 else "거리감"


def _number(value: SignalValue) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
