"""The planner: scenes run their course, gates are monotone, counters never run apart."""

import json
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from rplab.dialogue.pacing import Facts, advance, draw_intent, gate_of, mode_of, move_signals, scene_step, start
from rplab.dialogue.pack import load_pack
from rplab.seeding import derive

PACK = load_pack("v7")
FACTS = Facts("연애물", "사랑", gate=True, gate_condition="친밀", turns=8)


def _walk(pack, facts, index, turns):
    rng = derive(7, "walk", index)
    states = [start(pack, facts, rng)]
    for _ in range(turns):
        states.append(advance(pack, facts, states[-1], draw_intent(pack, states[-1], rng), rng))
    return states


@pytest.mark.parametrize("name", ["v5", "v6", "v7"])
def test_staged_scenes_go_forward_only_and_reach_their_last_step(name):
    pack = load_pack(name)
    last_steps = set()
    for index in range(150):
        actions = [state.action_state for state in _walk(pack, FACTS, index, 20)]
        for before, after in pairwise(actions):
            if before.startswith("SCENE_"):
                step = int(before[6:])
                assert after in (f"SCENE_{step + 1}", "AFTERMATH_SCENE_1")
                if after == "AFTERMATH_SCENE_1":
                    assert step >= pack.pacing.min_staged
                    last_steps.add(step)
            if before == "AFTERMATH_SCENE_1":
                assert after == "AFTERMATH_SCENE_2"
    assert 4 in last_steps


def test_crisis_holds_for_its_lock_and_then_ends():
    pack = load_pack("v6")
    state = replace(start(pack, replace(FACTS, genre="비극"), derive(1, "x")), action_state="CRISIS_1")
    actions = []
    for turn in range(5):
        state = advance(pack, FACTS, state, "fall", derive(1, "turn", turn))
        actions.append(state.action_state)

    assert actions[:3] == ["CRISIS_2", "CRISIS_2", "AFTERMATH_CRISIS_1"]
    assert actions[3] in ("EVENT", "CONFLICT")


def test_gate_takes_a_closer_relation_too_and_a_state_may_deny():
    state = replace(start(PACK, FACTS, derive(1, "g")), relation_state="BOND", action_state="EVENT")

    assert gate_of(PACK, FACTS, replace(state, relation="사랑")) == "open"  # closer than 친밀: equality was the fault
    assert gate_of(PACK, FACTS, replace(state, relation="친밀")) == "open"
    assert gate_of(PACK, FACTS, replace(state, relation="거리감")) == "closed"
    assert gate_of(PACK, FACTS, replace(state, relation="사랑", relation_state="TRAINING")) == "denied"
    assert gate_of(PACK, replace(FACTS, gate=False), replace(state, relation="사랑")) == "denied"


@pytest.mark.parametrize("genre", list(PACK.genres))
def test_signals_stay_in_range_and_move_by_one(genre):
    facts = replace(FACTS, genre=genre)
    states = _walk(PACK, facts, 3, 60)
    for before, after in pairwise(states):
        for name, signal in PACK.signals.items():
            assert signal.low <= after.signals[name] <= signal.high
            assert abs(after.signals[name] - before.signals[name]) <= 1


def test_judged_values_are_clamped_and_limited_to_one_step():
    state = start(PACK, FACTS, derive(1, "j"))
    moved = move_signals(PACK, FACTS, state, "rise", derive(1, "m"), judged=dict.fromkeys(PACK.signals, 99))

    assert all(moved[name] - state.signals[name] <= 1 for name in moved)


def test_a_stalled_dialogue_is_pushed_on():
    state = replace(start(PACK, replace(FACTS, gate=False), derive(1, "s")), action_state="AFTERMATH")
    before = state.signals["event"]

    after = advance(PACK, replace(FACTS, gate=False), state, "rise", derive(2, "s"), stalled=True)

    assert after.stall == 1
    assert after.signals["event"] >= before
    assert after.action_state in ("CONFLICT", "RESOLUTION")
    assert advance(PACK, FACTS, after, "rise", derive(3, "s")).stall == 0


def test_v7_enters_the_genre_at_once():
    starts = {genre: start(PACK, replace(FACTS, genre=genre, gate=False), derive(1, genre)).relation_state for genre in PACK.genres}

    assert starts == {"연애물": "FLIRT", "육성물": "TRAINING", "비극": "TRAGEDY", "심리 시뮬레이션": "PSYCHO"}


def test_state_is_plain_data():
    state = _walk(PACK, FACTS, 1, 5)[-1]

    assert json.loads(json.dumps(asdict(state)))["turn"] == 5
    assert mode_of(state) in ("normal", "staged", "crisis")
    assert 0 <= scene_step(state) <= 4
