"""Packs: shipped ones are sound, broken ones say where."""

import shutil
from xml.etree import ElementTree

import pytest
import yaml

from rplab.character import MIN_AGE
from rplab.dialogue.check_functions import has_fault
from rplab.dialogue.graph import mermaid, svg
from rplab.dialogue.inspect import check_pack, reachable_states, simulate
from rplab.dialogue.pack import PACKS, load_pack, pack_names
from rplab.dialogue.turn import TurnContext, split_turn
from rplab.errors import ConfigError


@pytest.mark.parametrize("name", ["v5", "v6", "v7"])
def test_shipped_pack_has_no_errors(name):
    pack = load_pack(name)

    assert [remark.line() for remark in check_pack(pack) if remark.level == "error"] == []
    assert name in pack_names()


@pytest.mark.parametrize("name", ["v5", "v6", "v7"])
def test_shipped_pack_is_for_adults_and_general(name):
    pack = load_pack(name)

    assert all(person.age >= MIN_AGE for person in (*pack.cast.protagonists, *pack.cast.players))
    context = TurnContext("user", "사야", "소마")
    for frames in pack.frames.values():
        assert len(set(frames)) == 16
        assert not any(has_fault("age_cue", split_turn(frame), context) for frame in frames)


def test_banks_have_the_sizes_of_the_predecessor():
    banks = load_pack("v7").singleturn

    sizes = {genre: len(set(bank.situations)) for genre, bank in banks.genres.items()}
    assert sizes == {"심리 시뮬레이션": 13, "연애물": 12, "육성물": 12, "비극": 12}
    assert all(len(set(bank.personalities)) == len(set(bank.relationships)) == 8 for bank in banks.genres.values())
    assert len(set(banks.locations)) == 48


def _copy(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(PACKS / "v7", folder)
    return folder


def _edit(path, change):
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")


def test_check_finds_every_kind_of_error(tmp_path):
    folder = _copy(tmp_path)

    def damage(data):
        data["states"]["ISLAND"] = {"description": "", "rules": [{"to": "BOND"}]}
        data["states"]["CRISIS"]["rules"] = [{"to": "CRISIS"}]
        data["states"]["BOND"]["rules"].insert(0, {"to": "FRACTURE"})

    _edit(folder / "relation.yaml", damage)
    lines = "\n".join(remark.line() for remark in check_pack(load_pack(str(folder))) if remark.level == "error")

    assert "relation.ISLAND: has no description" in lines
    assert "relation.ISLAND: cannot be reached" in lines
    assert "relation.CRISIS: is a dead end" in lines
    assert "relation.BOND: rule 2 (intimacy>=1 -> DEPENDENCY) can never fire" in lines


def test_check_notes_overlapping_rules():
    notes = [remark.line() for remark in check_pack(load_pack("v7")) if remark.level == "note"]

    assert any("relation.FLIRT: rules 1 and 2 overlap; BOND goes before FRACTURE" in line for line in notes)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("pack.yaml", lambda data: data["pacing"].update(turnz=3), "pacing.turnz"),
        ("pack.yaml", lambda data: data["genres"]["비극"]["drift"].update(threat=[0.5, 0.5, 0.5]), "drift.threat must sum to 1"),
        ("pack.yaml", lambda data: data["genres"]["비극"].update(start="NOWHERE"), "NOWHERE is no state"),
        ("cast.yaml", lambda data: data["players"][0].update(age=17), "players.0.age"),
        ("cast.yaml", lambda data: data["players"][0].pop("age"), "players.0.age"),
        ("frames.yaml", lambda data: data.pop("비극"), "비극: no start frame"),
        ("checks.yaml", lambda data: data[0].update(policy="shrug"), "0.policy"),
        ("prompts.yaml", lambda data: data.pop("player"), "player"),
    ],
)
def test_bad_pack_names_file_and_key(tmp_path, file, change, message):
    folder = _copy(tmp_path)
    _edit(folder / file, change)

    with pytest.raises(ConfigError, match=message) as error:
        load_pack(str(folder))
    assert file in str(error.value)


def test_unknown_check_is_named(tmp_path):
    folder = _copy(tmp_path)
    _edit(folder / "checks.yaml", lambda data: data[0].update(id="sparkle"))

    with pytest.raises(ConfigError, match="sparkle is no check"):
        check_pack(load_pack(str(folder)))


def test_a_prompt_that_asks_for_an_unknown_value_is_found(tmp_path):
    folder = _copy(tmp_path)
    _edit(folder / "prompts.yaml", lambda data: data.update(player="{player}의 {weather} 차례"))

    with pytest.raises(ConfigError, match="no value is called 'weather'"):
        check_pack(load_pack(str(folder)))


def test_unknown_pack_lists_the_known_ones():
    with pytest.raises(ConfigError, match="v5, v6, v7"):
        load_pack("v9")


@pytest.mark.parametrize("name", ["v5", "v6", "v7"])
def test_simulation_visits_nearly_everything_and_is_reproducible(name):
    pack = load_pack(name)

    first = simulate(pack, 600, 8, seed=1)

    assert first == simulate(pack, 600, 8, seed=1)
    assert min(first["coverage"].values()) >= 0.95
    assert first["distinct_paths"] > 50


def test_graph_is_a_mermaid_diagram():
    text = mermaid(load_pack("v7").relation_machine)

    assert text.startswith("stateDiagram-v2\n    [*] --> INTERACTION\n")
    assert "    FLIRT --> BOND: 1. intimacy>=1\n" in text


@pytest.mark.parametrize("name", ["v5", "v6", "v7"])
def test_svg_shows_every_state_and_every_rule(name):
    pack = load_pack(name)
    machines = [pack.relation_machine, pack.action_machine]

    root = ElementTree.fromstring(svg(machines))

    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    arrows = [element for element in root.iter("{http://www.w3.org/2000/svg}path") if element.get("class") == "move"]
    assert {state for machine in machines for state in machine.states} <= set(texts)
    assert len(arrows) == sum(len(state.rules) for machine in machines for state in machine.states.values())
    width, height = float(root.get("width")), float(root.get("height"))
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        if (box.get("class") or "").startswith("state"):
            assert 0 <= float(box.get("x")) <= width - float(box.get("width"))
            assert 0 <= float(box.get("y")) <= height - float(box.get("height"))


@pytest.mark.parametrize("name", ["v5", "v6", "v7"])
def test_every_state_is_reachable_and_visited_with_the_packs_own_pacing(name):
    pack = load_pack(name)
    reached = reachable_states(pack)
    visited = simulate(pack, 1500, None, seed=2)["states"]

    for machine in (pack.relation_machine, pack.action_machine):
        assert reached[machine.name] == set(machine.states)
        assert all(numbers["dialogues"] for numbers in visited[machine.name].values())
