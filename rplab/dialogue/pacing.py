"""The planner: how a dialogue moves, turn by turn, without a word of text.

Everything here is pure: state in, state out, randomness from the generator that is passed in. All counters live in
the one `DialogueState`, which is plain data, and there is one action state: the overrides for staged scenes, crises
and stalls move the same state that the machine moves (in the predecessor the two ran apart, so that scenes fell back
to their first step and the last one could not be reached).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rplab.dialogue.machine import SignalValue, derive_relation
from rplab.dialogue.pack import Pack

Intent = Literal["rise", "fall"]
Mode = Literal["normal", "staged", "crisis"]
Gate = Literal["open", "closed", "denied"]

HISTORY = 6
"""Action states remembered."""
_CRISIS_ACTIONS = ("CRISIS_1", "CRISIS_2", "AFTERMATH_CRISIS_1")
_NORMAL_ACTIONS = ("IDLE", "EVENT", "CONFLICT", "RESOLUTION", "AFTERMATH")
AFTER_SCENE = "IDLE"
"""Action state that follows a staged scene and its aftermath."""


@dataclass(frozen=True)
class Facts:
    """What the planner knows of a scenario."""

    genre: str
    relation: str
    """Label the dialogue starts with."""
    gate: bool
    """Whether the scenario allows its staged scene at all."""
    gate_condition: str
    """Relation label from which on it may begin."""
    turns: int
    """Exchanges."""
    closing_turns: int = 0
    """Most exchanges beyond them, for a staged scene or a crisis that is under way then."""


@dataclass(frozen=True)
class DialogueState:
    """Where a dialogue stands before a turn."""

    turn: int
    relation_state: str
    action_state: str
    relation: str
    """Relation label in force."""
    signals: Mapping[str, int]
    scene_length: int = 0
    """Steps of the staged scene under way; 0 outside."""
    crisis_lock: int = 0
    """Turns that the height of a crisis still lasts."""
    stall: int = 0
    """Turns in a row that brought nothing new."""
    idle: int = 0
    """Turns in a row spent in IDLE."""
    actions: tuple[str, ...] = ()
    """Latest action states, oldest first."""


def start(pack: Pack, facts: Facts, rng: random.Random) -> DialogueState:
    """Return the state before the first turn."""
    signals = {name: signal.clamp(0) for name, signal in pack.signals.items()}
    signals["intimacy"] = pack.signals["intimacy"].clamp(pack.relations.index(facts.relation))
    for name, value in pack.pacing.first_signals.items():
        signals[name] = pack.signals[name].clamp(value)
    at_once = pack.pacing.enter_genre_at_once
    relation_state = pack.genres[facts.genre].start if at_once else pack.relation_machine.initial
    state = DialogueState(0, relation_state, pack.action_machine.initial, facts.relation, signals)
    if at_once and gate_of(pack, facts, state) == "open" and "SCENE_1" in pack.action_machine.states:
        state = _enter_scene(pack, replace(state, action_state="SCENE_1"), rng)
    return replace(state, actions=(state.action_state,))


def mode_of(state: DialogueState) -> Mode:
    """Return which kind of turn comes next; a staged scene goes before a crisis."""
    if scene_step(state) or state.action_state.startswith("AFTERMATH_SCENE"):
        return "staged"
    if state.action_state in _CRISIS_ACTIONS or state.relation_state == "CRISIS" or state.crisis_lock > 0:
        return "crisis"
    return "normal"


def is_over(facts: Facts, spoken: DialogueState, after: DialogueState) -> bool:
    """Return whether a dialogue ends with the exchange that was spoken in `spoken` and led to `after`.

    A pack may let a staged scene or a crisis come to its end: then the last exchange is an ordinary one again.
    """
    beyond = after.turn - facts.turns
    return beyond >= 0 and (mode_of(spoken) == "normal" or beyond >= facts.closing_turns)


def scene_step(state: DialogueState) -> int:
    """Return the 1-based step of the staged scene, or 0 outside."""
    return int(state.action_state[6:]) if state.action_state.startswith("SCENE_") else 0


def gate_of(pack: Pack, facts: Facts, state: DialogueState) -> Gate:
    """Return whether the staged scene may begin: a state's denial always wins, closeness counts upwards."""
    flags = pack.relation_machine.flags(state.relation_state, scenario_gate=facts.gate, relation=state.relation)
    if not flags.get("allow_staged_scene") or pack.action_machine.states[state.action_state].flags.get("allow_staged_scene") is False:
        return "denied"
    close_enough = pack.relations.index(state.relation) >= pack.relations.index(facts.gate_condition)
    return "open" if close_enough else "closed"


def must_progress(pack: Pack, facts: Facts, state: DialogueState) -> bool:
    """Return whether the next turn has to bring something new."""
    pacing = pack.pacing
    return state.stall >= 1 or state.idle >= pacing.idle_limit or facts.turns <= pacing.always_progress_turns


def draw_intent(pack: Pack, state: DialogueState, rng: random.Random) -> Intent:
    """Draw whether the next turn brings the two closer."""
    if mode_of(state) == "staged":
        return "rise"
    signals = state.signals
    strained = state.relation_state == "CRISIS" or signals["threat"] >= 1 or signals["pressure"] >= 2 or signals["mental_instability"] >= 2
    if strained:
        return "fall" if rng.random() < pack.intent.fall_when_strained else "rise"
    return "rise" if rng.random() < pack.intent.rise_otherwise else "fall"


def move_signals(
    pack: Pack, facts: Facts, state: DialogueState, intent: Intent, rng: random.Random, judged: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return the signals after a turn.

    Args:
        pack: Ranges, drifts, intent steps.
        facts: Gives the genre.
        state: Before the turn.
        intent: Direction of the turn; intimacy walks by it.
        rng: Source of the drift.
        judged: Values that a judge read off the exchange; the last values when None (plan mode).
    """
    drift = pack.genres[facts.genre].drift
    moved: dict[str, int] = {}
    for name, signal in pack.signals.items():
        last = state.signals[name]
        if name == "intimacy":
            step = _step(getattr(pack.intent, intent).steps, rng)
            base = last
        else:
            step = _step(drift[name], rng) if name in drift else 0
            base = last if judged is None else signal.clamp(judged.get(name, last))
        value = signal.clamp(base + step)
        moved[name] = max(last - 1, min(last + 1, value))
    return moved


def _step(chances: tuple[float, float, float], rng: random.Random) -> int:
    up, same, _ = chances
    point = rng.random()
    return 1 if point < up else 0 if point < up + same else -1


def advance(
    pack: Pack,
    facts: Facts,
    state: DialogueState,
    intent: Intent,
    rng: random.Random,
    *,
    stalled: bool = False,
    judged: Mapping[str, int] | None = None,
) -> DialogueState:
    """Return the state after a turn: signals move, both machines step, overrides have their say."""
    signals = move_signals(pack, facts, state, intent, rng, judged)
    stall = state.stall + 1 if stalled and pack.pacing.stall_handling else 0
    if stall:
        name = "event" if signals["event"] < pack.signals["event"].high else "pressure"
        signals[name] = pack.signals[name].clamp(signals[name] + 1)
    inputs: dict[str, SignalValue] = {**_pushed(signals, stall), "genre": facts.genre}
    relation_state = pack.relation_machine.step(state.relation_state, inputs).state
    after = replace(
        state, turn=state.turn + 1, relation_state=relation_state, relation=derive_relation(signals), signals=signals, stall=stall
    )
    after = _step_action(pack, facts, after, inputs, rng)
    idle = state.idle + 1 if after.action_state == "IDLE" else 0
    return replace(after, idle=idle, actions=(*state.actions, after.action_state)[-HISTORY:])


def _pushed(signals: Mapping[str, int], stall: int) -> dict[str, int]:
    """Raise what the machines see by how long the dialogue has stalled."""
    pushed = dict(signals)
    floors = {"event": (0, 1, 2, 2), "probe": (0, 1, 1, 1), "pressure": (0, 0, 1, 1), "resolve": (0, 0, 0, 1)}
    for name, levels in floors.items():
        if name in pushed:
            pushed[name] = max(pushed[name], levels[min(stall, 3)])
    return pushed


def _step_action(pack: Pack, facts: Facts, state: DialogueState, inputs: Mapping[str, SignalValue], rng: random.Random) -> DialogueState:
    """Step the action machine; staged scenes and crises follow their own clocks on the same state."""
    action, machine = state.action_state, pack.action_machine
    step = scene_step(state)
    if step and step >= state.scene_length:
        return replace(state, action_state="AFTERMATH_SCENE_1", scene_length=0)
    if action == "AFTERMATH_SCENE_2":
        return replace(state, action_state=AFTER_SCENE)
    if action == "CRISIS_2" and state.crisis_lock > 0:
        return replace(state, crisis_lock=state.crisis_lock - 1)
    if action == "AFTERMATH_CRISIS_1":
        return replace(state, action_state="EVENT" if state.signals["pressure"] <= 1 else "CONFLICT")
    ready = gate_of(pack, facts, state) == "open"
    chosen = machine.step(action, {**inputs, "scene_ready": ready}).state
    if chosen == "SCENE_1":
        return _enter_scene(pack, replace(state, action_state=chosen), rng)
    if chosen == "CRISIS_2":
        return replace(state, action_state=chosen, crisis_lock=max(0, pack.pacing.crisis_lock - 1))
    if chosen in _NORMAL_ACTIONS:
        if pack.pacing.diversify and action in _NORMAL_ACTIONS:
            chosen = _diversify(pack, facts, state, chosen, rng)
        chosen = _unstick(pack, state, chosen)
        if ready and pack.pacing.diversify and "SCENE_1" in machine.states:
            return _enter_scene(pack, replace(state, action_state="SCENE_1"), rng)
    return replace(state, action_state=chosen)


def _enter_scene(pack: Pack, state: DialogueState, rng: random.Random) -> DialogueState:
    return replace(state, scene_length=rng.randint(pack.pacing.min_staged, pack.pacing.max_staged))


def _unstick(pack: Pack, state: DialogueState, action: str) -> str:
    """Leave an action state in which the dialogue idles or stalls."""
    stall = state.stall
    if action == "IDLE" and state.idle >= pack.pacing.idle_limit:
        return "EVENT"
    if not stall:
        return action
    if action in ("IDLE", "AFTERMATH"):
        return "CONFLICT" if stall >= 2 else "EVENT"
    if action == "EVENT":
        return "CONFLICT" if stall < 2 and state.signals["pressure"] >= 1 else "RESOLUTION"
    if action == "CONFLICT":
        return "RESOLUTION"
    return "AFTERMATH" if stall >= 2 else action


def _diversify(pack: Pack, facts: Facts, state: DialogueState, chosen: str, rng: random.Random) -> str:
    """Draw the next ordinary action by weight: rarely used ones come up more often (v5 and v6)."""
    recent = state.actions[-4:]
    weights: dict[str, float] = {}
    for action in _NORMAL_ACTIONS:
        weight = 1.0 - 0.25 * recent.count(action) + (0.5 if action not in state.actions else 0.0)
        weight += (0.1 if action == chosen else 0.0) + pack.genres[facts.genre].boosts.get(action, 0.0)
        thrice = recent[-2:] == (action, action)
        weights[action] = 0.0 if thrice else max(weight, 0.05)
    return rng.choices(list(weights), weights=list(weights.values()))[0]
