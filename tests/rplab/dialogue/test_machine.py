"""Machines: the golden traces of the predecessor, and what our own engine promises."""

import json
from pathlib import Path

import pytest

from rplab.dialogue.machine import Condition, Machine, Rule, State, derive_relation, parse_guard
from rplab.dialogue.old_book import read_facts
from rplab.dialogue.pack import PACKS, load_machine, load_pack
from rplab.errors import ConfigError

GOLDEN = Path(__file__).parents[2] / "golden" / "fsm_traces.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
SIGNALS = load_pack("v7").signals


def _machine(yaml_name: str) -> Machine:
    version, _, kind = yaml_name.partition("/")
    return load_machine(PACKS / version / f"{'relation' if kind.startswith('state') else 'action'}.yaml", SIGNALS)


@pytest.mark.parametrize("case", [case for case in CASES if "trace" in case], ids=lambda case: case["id"])
def test_trace_matches_the_golden_one(case):
    machine = _machine(case["yaml"])
    gate, relation = read_facts(case["lore"])
    state = machine.initial
    for row in case["trace"]:
        if row["step"] == 0:
            assert (state, machine.flags(state, scenario_gate=gate, relation=relation)) == (row["state"], row["flags"])
            continue
        move = machine.step(state, row["signals"])
        state = move.state
        assert (move.moved, state, derive_relation(row["signals"])) == (row["moved"], row["state"], row["relation_status"])


@pytest.mark.parametrize("case", [case for case in CASES if "/parse_" in case["id"]], ids=lambda case: case["id"])
def test_facts_of_an_old_book_match_the_golden_ones(case):
    gate, relation = read_facts(case["lore"])
    machine = _machine("v5/state_fsm.yaml")
    assert machine.flags(machine.initial, scenario_gate=gate, relation=relation) == case["flags"]


@pytest.mark.parametrize("case", [case for case in CASES if "/expr_" in case["id"]], ids=lambda case: case["id"])
def test_guard_matches_the_golden_one(case):
    if case["error"]:
        with pytest.raises(ValueError, match="Invalid FSM expr: 1"):
            parse_guard(case["expr"])
    else:
        assert parse_guard(case["expr"])(case["value"]) is case["output"]


def test_guard_is_never_evaluated_as_code():
    for expression in ("__import__('os')", ">=1 or True", ">=x", "", ">= 1; 2"):
        with pytest.raises(ValueError, match="Invalid FSM expr"):
            parse_guard(expression)


def test_number_guard_does_not_take_a_flag_or_text():
    guard = parse_guard(">=1")

    assert not guard(True)
    assert not guard("3")


def test_first_matching_rule_wins_and_moves_once():
    always = Rule("B", ())
    guarded = Rule("C", (Condition("x", ">=1", parse_guard(">=1")),))
    machine = Machine("m", "A", {name: State(name, name, {}, (guarded, always)) for name in "ABC"})

    assert machine.step("A", {"x": 1}).state == "C"
    assert machine.step("A", {"x": 0}).state == "B"


def test_a_states_denial_wins_over_the_scenario():
    machine = load_pack("v7").relation_machine

    assert machine.flags("TRAINING", scenario_gate=True, relation="사랑")["allow_staged_scene"] is False
    assert machine.flags("BOND", scenario_gate=True, relation="친밀")["allow_staged_scene"] is True
    assert machine.flags("BOND", scenario_gate=False, relation="친밀")["allow_staged_scene"] is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: m\ninitial: X\nstates: {A: {description: a}}\n", "initial: X is no state"),
        ("name: m\ninitial: A\nstates: {A: {rules: [{to: B}]}}\n", "B is no state"),
        ("name: m\ninitial: A\nstates: {A: {rules: [{to: A, when: {mood: '>=1'}}]}}\n", "mood is no signal"),
        ("name: m\ninitial: A\nstates: {A: {rules: [{to: A, when: {probe: 'much'}}]}}\n", "Invalid FSM expr: much"),
        ("name: m\ninitial: A\nstates: {A: {rules: [{target: A}]}}\n", "a rule is written"),
        ("name: m\nstates: {}\n", "initial"),
    ],
)
def test_bad_machine_file_names_file_and_place(tmp_path, text, message):
    path = tmp_path / "relation.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=message) as error:
        load_machine(path, SIGNALS)
    assert str(path) in str(error.value)
