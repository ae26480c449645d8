"""Looking at a pack without generating anything: `check` and `simulate` (`graph.py` draws it).

`check` is exact: for every state it tries every combination of the signals that its guards read. `simulate` walks the
real planner, so its path statistics are those of the dialogues (in plan mode).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from rplab.character import load_card
from rplab.dialogue.book import card_draft
from rplab.dialogue.checks import verify_checks
from rplab.dialogue.config import ScenariosConfig, SingleturnConfig
from rplab.dialogue.machine import Machine, SignalValue, State
from rplab.dialogue.pacing import AFTER_SCENE, Facts, advance, draw_intent, is_over, start
from rplab.dialogue.pack import Pack
from rplab.dialogue.scenario import build_request as build_scenario_request
from rplab.dialogue.scenario import build_scenario, draw_frame
from rplab.dialogue.singleturn import build_request as build_row_request
from rplab.dialogue.singleturn import draw_plan
from rplab.dialogue.turns import Talk, build_judgement, build_turn
from rplab.seeding import derive

OTHER_GENRE = "(other)"


@dataclass(frozen=True)
class Remark:
    """Something that `check` found."""

    level: Literal["error", "note"]
    machine: str
    state: str
    what: str

    def line(self) -> str:
        """Return it as one line."""
        return f"{self.level}: {self.machine}.{self.state}: {self.what}"


def check_pack(pack: Pack) -> list[Remark]:
    """List what is wrong with a pack (errors) and where the order of rules decides (notes).

    Raises:
        ConfigError: A check that does not exist, or a prompt that asks for a value nobody gives.
    """
    verify_checks(pack)
    try_prompts(pack)
    starts = _entries(pack)
    return [
        remark for machine in (pack.relation_machine, pack.action_machine) for remark in check_machine(machine, pack, starts[machine.name])
    ]


def _entries(pack: Pack) -> dict[str, set[str]]:
    """Return, by machine, the states that the planner enters by itself."""
    relation = {pack.relation_machine.initial}
    if pack.pacing.enter_genre_at_once:
        relation |= {genre.start for genre in pack.genres.values()}
    action = {pack.action_machine.initial}
    if "AFTERMATH_SCENE_2" in pack.action_machine.states:
        action.add(AFTER_SCENE)
    return {pack.relation_machine.name: relation, pack.action_machine.name: action}


def reachable_states(pack: Pack) -> dict[str, set[str]]:
    """Return the states of each machine that some dialogue, of whatever length, can come to."""
    found: dict[str, set[str]] = {}
    for machine in (pack.relation_machine, pack.action_machine):
        edges = {state.name: {state.rules[index].target for index in _fire(state, pack)[0]} for state in machine.states.values()}
        found[machine.name] = reachable(edges, _entries(pack)[machine.name])
    return found


def try_prompts(pack: Pack) -> None:
    """Fill every prompt of a pack once, for every state.

    Raises:
        ConfigError: A template asks for a value that there is not.
    """
    singleturn = SingleturnConfig(pack=pack.name)
    for index in range(4):
        plan = draw_plan(singleturn, pack, tuple(pack.singleturn.genres), index)
        build_row_request(plan, 1, "no_json", 0, pack)
    frame = draw_frame(ScenariosConfig(pack=pack.name), pack, tuple(pack.genres), 0)
    build_scenario_request(frame, 1, "no_json", 0, pack)
    card = load_card("saya")
    scenario = build_scenario(frame, card_draft(card, "이야기"), ScenariosConfig(pack=pack.name), pack, "none")
    facts = Facts(frame.genre, frame.relation, frame.gate, frame.gate_condition, 1)
    talk = Talk(scenario, pack, facts, 0, player_turns=['"안녕?"'], replies=[])
    begin = start(pack, facts, derive(0, "prompts"))
    for relation_state in pack.relation_machine.states:
        for action_state in pack.action_machine.states:
            state = replace(begin, relation_state=relation_state, action_state=action_state)
            build_turn(talk, "player", state, "rise", 1, "빈 답이다", avoid=True)
            build_turn(talk, "protagonist", state, "fall", 1, "빈 답이다", avoid=True)
    build_judgement(talk, begin, "rise", 1, "빈 답이다")


def check_machine(machine: Machine, pack: Pack, entries: set[str]) -> list[Remark]:
    """Check one machine: descriptions, reachability, dead ends, rules that can never fire, overlaps."""
    remarks: list[Remark] = []
    edges: dict[str, set[str]] = {}
    for state in machine.states.values():
        if not state.description.strip():
            remarks.append(Remark("error", machine.name, state.name, "has no description; it would be missing in the prompts"))
        fired, overlaps = _fire(state, pack)
        edges[state.name] = {state.rules[index].target for index in fired}
        for index, rule in enumerate(state.rules):
            if index not in fired:
                remarks.append(
                    Remark("error", machine.name, state.name, f"rule {index + 1} ({rule.describe()} -> {rule.target}) can never fire")
                )
        for first, second in sorted(overlaps):
            what = f"rules {first + 1} and {second + 1} overlap; {state.rules[first].target} goes before {state.rules[second].target}"
            remarks.append(Remark("note", machine.name, state.name, what))
        if not edges[state.name] - {state.name}:
            remarks.append(Remark("error", machine.name, state.name, "is a dead end: no rule leads out of it"))
    for name in sorted(set(machine.states) - reachable(edges, entries)):
        remarks.append(Remark("error", machine.name, name, "cannot be reached"))
    return remarks


def reachable(edges: Mapping[str, set[str]], entries: set[str]) -> set[str]:
    """Return the states that can be reached from `entries`."""
    seen, open_states = set(entries), list(entries)
    while open_states:
        for target in edges[open_states.pop()] - seen:
            seen.add(target)
            open_states.append(target)
    return seen


def _fire(state: State, pack: Pack) -> tuple[set[int], set[tuple[int, int]]]:
    """Return which rules fire for some signals, and which pairs to different targets can hold at once."""
    fired: set[int] = set()
    overlaps: set[tuple[int, int]] = set()
    for signals in _assignments(state, pack):
        holding = [index for index, rule in enumerate(state.rules) if rule.matches(signals)]
        if not holding:
            continue
        fired.add(holding[0])
        overlaps |= {(holding[0], other) for other in holding[1:] if state.rules[other].target != state.rules[holding[0]].target}
    return fired, overlaps


def _assignments(state: State, pack: Pack) -> Iterator[dict[str, SignalValue]]:
    names = sorted({condition.signal for rule in state.rules for condition in rule.conditions})
    values: list[list[SignalValue]] = []
    for name in names:
        if name == "genre":
            values.append([*pack.genres, OTHER_GENRE])
        elif name == "scene_ready":
            values.append([False, True])
        else:
            signal = pack.signals[name]
            values.append(list(range(signal.low, signal.high + 1)))
    for combination in itertools.product(*values):
        yield dict(zip(names, combination, strict=True))


def simulate(pack: Pack, dialogues: int, turns: int | None, seed: int) -> dict[str, Any]:
    """Walk the planner and return path statistics.

    Args:
        pack: What to walk.
        dialogues: How many walks.
        turns: Exchanges of each; the pack's own pacing (with what it adds to close a scene) when None.
        seed: Root of every draw.

    Returns:
        Shares of relation and action states over all turns, the share of dialogues that met each, coverage of the
        reachable states, the commonest relation paths, and the relation labels at the end.
    """
    visits: dict[str, Counter[str]] = {"relation": Counter(), "action": Counter()}
    met: dict[str, Counter[str]] = {"relation": Counter(), "action": Counter()}
    paths, ends = Counter[str](), Counter[str]()
    genres, own = list(pack.genres), pack.pacing
    for index in range(dialogues):
        rng = derive(seed, "simulate", index)
        relation, gate, condition = rng.choice(pack.relations), rng.random() < 0.5, rng.choice(pack.relations[2:])
        facts = Facts(genres[index % len(genres)], relation, gate, condition, turns or own.turns, 0 if turns else own.closing_turns)
        state = start(pack, facts, rng)
        relation_path, action_path = [state.relation_state], [state.action_state]
        over = False
        while not over:
            after = advance(pack, facts, state, draw_intent(pack, state, rng), rng)
            over, state = is_over(facts, state, after), after
            relation_path.append(state.relation_state)
            action_path.append(state.action_state)
        for name, path in (("relation", relation_path), ("action", action_path)):
            visits[name].update(path)
            met[name].update(set(path))
        paths[" > ".join(relation_path)] += 1
        ends[state.relation] += 1
    machines = {"relation": pack.relation_machine, "action": pack.action_machine}
    return {
        "pack": pack.name,
        "dialogues": dialogues,
        "turns": turns or own.turns,
        "seed": seed,
        "states": {
            name: {
                state: {"share": round(visits[name][state] / max(1, visits[name].total()), 4), "dialogues": met[name][state]}
                for state in machine.states
            }
            for name, machine in machines.items()
        },
        "coverage": {name: round(len(visits[name]) / len(machine.states), 4) for name, machine in machines.items()},
        "distinct_paths": len(paths),
        "top_paths": dict(paths.most_common(10)),
        "end_relations": dict(ends.most_common()),
    }
