"""The faults of the predecessor (spec/predecessor-data.md, section 12) that do not come back: one test each, by its number.

A fault whose test stands elsewhere is listed in `ELSEWHERE`, and that those tests exist is tested, too.
"""

import asyncio
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from rplab.backend.base import ChatResult
from rplab.backend.config import ScriptedConfig
from rplab.backend.open import open_backend
from rplab.character import Register
from rplab.dialogue.check_functions import has_fault, level_fault
from rplab.dialogue.checks import find_fault
from rplab.dialogue.config import DialoguesConfig, ScenariosConfig, SingleturnConfig
from rplab.dialogue.drive import Asker
from rplab.dialogue.generate import generate_dialogues, make_dialogue
from rplab.dialogue.journal import Journal
from rplab.dialogue.pacing import Facts, advance, draw_intent, gate_of, start
from rplab.dialogue.pack import load_pack
from rplab.dialogue.scenario import generate_scenarios
from rplab.dialogue.scenario_file import read_scenarios
from rplab.dialogue.singleturn import draw_plan
from rplab.dialogue.turn import TurnContext, mend, split_turn
from rplab.dialogue.turns import side_of
from rplab.errors import StorageError
from rplab.seeding import derive
from rplab.text.korean import attach, replace_name

TESTS = Path(__file__).parent.parent
ELSEWHERE = {
    5: ("dialogue/test_dialogues.py", "test_state_signals_gate_and_history_reach_the_prompts"),
    10: ("dialogue/test_dialogues.py", "test_what_cannot_be_finished_is_partial_and_never_mixed_in"),
    13: ("dataset/test_normalise_properties.py", "test_no_word_is_lost"),
    14: ("dataset/test_preprocess.py", "test_command_trims_with_a_real_tokenizer_and_counts"),
    15: ("dataset/test_data_commands.py", "test_grpo_counts_tokens_through_the_chat_template"),
    16: ("dataset/test_data_commands.py", "test_translation_checks_scripts"),
    18: ("dialogue/test_data_generate_cli.py", "test_sigkill_at_random_moments_changes_nothing"),
    20: ("dataset/test_rewrite.py", "test_a_stopped_run_asks_only_for_what_is_missing_and_ends_the_same"),
    21: ("backend/test_openai.py", "test_passing_failures_are_tried_again_until_an_answer_comes"),
    23: ("backend/test_transformers_local.py", "test_one_by_one_or_in_batches_the_same_answers_come"),
}
CONTEXT = TurnContext("asst", "사야", "소마", Register.CASUAL)


@pytest.mark.parametrize(("file", "name"), ELSEWHERE.values(), ids=[f"fault_{number:02}" for number in ELSEWHERE])
def test_the_test_that_stands_elsewhere_is_there(file, name):
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module", params=["v5", "v7"])
def scenarios(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    generate_scenarios(ScenariosConfig(pack=request.param, count=12), {}, _context(folder))
    return load_pack(request.param), read_scenarios(folder / "scenarios.jsonl", load_pack(request.param))


def _context(folder):
    from rplab.stage import StageContext

    return StageContext(out=folder, resume=folder / "resume")


def _make(scenario, pack, backend, tmp_path, **settings):
    with Journal(tmp_path / "j") as journal:
        asker = Asker(backend, journal, _context(tmp_path))
        return asyncio.run(make_dialogue(scenario, asker, DialoguesConfig(pack=pack.name, **settings), pack))


class _Spoilt:
    """The embedded backend; requests whose key fits get another answer. Keeps every request."""

    name = "spoilt/1"

    def __init__(self, pattern="(?!)", text=""):
        self._backend, self._pattern, self._text = open_backend(ScriptedConfig()), re.compile(pattern), text
        self.requests = []

    async def complete(self, request):
        self.requests.append(request)
        return ChatResult(request.key, self._text) if self._pattern.search(request.key) else await self._backend.complete(request)


@pytest.mark.parametrize("name", ["v5", "v6", "v7"])
def test_fault_01_a_staged_scene_counts_on_and_never_falls_back(name):
    pack, facts = load_pack(name), Facts("연애물", "사랑", gate=True, gate_condition="친밀", turns=20)
    seen = set()
    for index in range(60):
        rng = derive(1, "fault", index)
        state, actions = start(pack, facts, rng), []
        for _ in range(20):
            actions.append(state.action_state)
            state = advance(pack, facts, state, draw_intent(pack, state, rng), rng)
        seen.update(actions)
        assert not any(before.startswith("AFTERMATH_SCENE") and after.startswith("SCENE") for before, after in pairwise(actions))
        assert not any(before == after for before, after in pairwise(actions) if before.startswith(("SCENE", "AFTERMATH_SCENE")))
    assert {"SCENE_4", "AFTERMATH_SCENE_2"} <= seen


def test_fault_02_second_turns_are_not_refused_for_want_of_a_package(scenarios, tmp_path):
    pack, rows = scenarios
    outcomes = [_make(row, pack, _Spoilt(), tmp_path / str(at), turns=3) for at, row in enumerate(rows)]

    assert all(outcome.status == "accepted" for outcome in outcomes)
    assert sum(len(outcome.rejects) for outcome in outcomes) <= 2


def test_fault_03_what_was_said_before_is_remembered_and_an_empty_turn_is_only_empty():
    rules, said = load_pack("v5").checks_for("asst"), '사야는 창가에 기대어 선다.\n"오늘은 바람이 참 시원하게 불어."'

    finding, _ = find_fault(said.replace("선다", "앉는다"), replace(CONTEXT, own=(said,)), rules)
    assert finding is not None
    assert finding.code == "asst_repetition"
    assert find_fault("", CONTEXT, rules)[0].code == "asst_empty"


def test_fault_04_the_action_that_was_chosen_is_the_one_in_the_prompts(scenarios, tmp_path):
    pack, rows = scenarios
    backend = _Spoilt()
    outcome = _make(rows[0], pack, backend, tmp_path)

    turns = outcome.row["turns"]
    for before, after in pairwise(turns):
        assert (before["next"]["state"], before["next"]["action"]) == (after["state"], after["action"])
    for request in backend.requests:
        turn = turns[request.slots.turn]
        assert request.slots.action == turn["action"]
        assert pack.action_machine.states[turn["action"]].description in request.messages[-1]["content"]


def test_fault_06_a_state_that_denies_wins_and_a_closer_relation_counts():
    pack, facts = load_pack("v7"), Facts("연애물", "사랑", gate=True, gate_condition="친밀", turns=3)
    state = replace(start(pack, facts, derive(1, "x")), relation_state="BOND", action_state="EVENT", relation="사랑")

    assert gate_of(pack, facts, state) == "open"
    for denying in (name for name, state_ in pack.relation_machine.states.items() if state_.flags["allow_staged_scene"] is False):
        assert gate_of(pack, facts, replace(state, relation_state=denying)) == "denied"


def test_fault_07_a_crisis_has_rules_and_sampling_of_its_own(tmp_path):
    pack = load_pack("v6")
    state = replace(start(pack, Facts("비극", "친밀", gate=False, gate_condition="친밀", turns=3), derive(1, "x")), action_state="CRISIS_1")

    assert side_of("protagonist", state) == "crisis"
    assert pack.checks_for("crisis")
    assert pack.decoding.crisis != pack.decoding.protagonist


def test_fault_08_every_turn_has_its_attempts_for_itself(scenarios, tmp_path):
    pack, rows = scenarios
    backend = _Spoilt(r"/a[01]$", "한 줄뿐이다")
    turns = 8
    outcome = _make(rows[1], pack, backend, tmp_path, turns=turns)

    assert outcome.status == "accepted"
    assert len(outcome.rejects) >= 2 * 2 * turns > pack.limits.protagonist_attempts


def test_fault_09_a_model_that_says_nothing_is_asked_a_bounded_number_of_times(scenarios, tmp_path):
    pack, rows = scenarios
    for number, signals in enumerate(("plan", "judge")):
        backend = _Spoilt("", "")
        outcome = _make(rows[2], pack, backend, tmp_path / str(number), signals=signals)

        assert (outcome.status, outcome.reason) == ("failed", "user_empty_answer")
        assert len(backend.requests) == pack.limits.user_attempts
        assert len({request.seed for request in backend.requests}) == len(backend.requests)  # never the same call again


def test_fault_11_everyday_words_times_and_names_come_through():
    for line in ("시험의 평가 기준을 그래프로 그렸어.", "노드를 검증하는 수업이었어.", "12:30에 만나자.", "소마법사 이야기야."):
        text = f'사야는 공책을 펼친다.\n"{line}"'
        assert mend(text) == text
        assert find_fault(text, CONTEXT, load_pack("v7").checks_for("asst"))[0] is None
    assert replace_name("소마법사와 소마는 친구다.", "소마", "하야토") == "소마법사와 하야토는 친구다."
    assert [attach(name, "은") for name in ("사야", "하늘")] == ["사야는", "하늘은"]
    assert attach("카즈키", "이") == "카즈키가"


def test_fault_12_names_are_words_and_common_endings_have_a_level():
    turn = split_turn('소마는 마이크를 든다.\n"회사야말로 내 집이지."')
    for name in ("마이", "사야"):
        assert not has_fault("role_conflict", turn, TurnContext("user", name, "소마"))
    assert not any(level_fault(line, Register.CASUAL) for line in ("같이 가자.", "나도 좋아.", "먼저 갈게."))
    assert not any(level_fault(line, Register.POLITE) for line in ("먼저 갈게요.", "그렇죠.", "같이 갑시다."))
    assert not level_fault("정말?", Register.POLITE)  # a fragment has no level and is no reason to refuse


def test_fault_17_an_item_is_the_same_wherever_a_run_begins():
    config, pack = SingleturnConfig(), load_pack("v7")
    genres = tuple(pack.singleturn.genres)
    first = [draw_plan(config, pack, genres, index) for index in range(40)]

    assert [draw_plan(config, pack, genres, index) for index in reversed(range(40))] == first[::-1]
    assert len({json.dumps(str(plan.scene)) for plan in first}) == 40


def test_fault_19_two_runs_cannot_write_one_output(tmp_path):
    with Journal(tmp_path / "j"), pytest.raises(StorageError, match="another process"):
        Journal(tmp_path / "j")


def test_fault_22_every_row_says_what_it_was_made_with(scenarios, tmp_path):
    pack, rows = scenarios
    meta = _make(rows[3], pack, _Spoilt(), tmp_path).row["meta"]

    assert {"seed", "pack", "pack_version", "backend", "attempts", "signals"} <= set(meta)
    assert meta["backend"] == "spoilt/1"


def test_fault_24_the_packs_are_data_for_one_engine():
    packs = [load_pack(name) for name in ("v5", "v6", "v7")]

    assert len({tuple(pack.relation_machine.states) for pack in packs}) > 1
    assert packs[0].prompts == packs[1].prompts == packs[2].prompts  # shared files are there once
    assert packs[0].singleturn == packs[2].singleturn


def test_fault_25_a_pack_loads_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert load_pack("v6").name == "v6"


def test_fault_26_a_run_says_what_its_rows_are_like(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "d").mkdir()
    generate_scenarios(ScenariosConfig(count=8), {}, _context(tmp_path / "s"))
    stats = generate_dialogues(DialoguesConfig(turns=1), {"scenarios": tmp_path / "s"}, _context(tmp_path / "d"))

    assert {"genre", "register", "state", "action", "mode", "relation"} <= set(stats["mix"])
    assert stats["planned"] == stats["accepted"] + sum(stats["rejected"].values()) + sum(stats["failed"].values())
    assert (tmp_path / "d" / "report.md").is_file()
