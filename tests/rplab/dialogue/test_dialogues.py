"""Stages `scenarios` and `dialogues`."""

import asyncio
import json

import pytest

from rplab.backend.base import ChatResult
from rplab.backend.config import ScriptedConfig
from rplab.character import Register, load_card
from rplab.dialogue.book import card_book
from rplab.dialogue.checks import find_fault
from rplab.dialogue.config import DialoguesConfig, ScenariosConfig
from rplab.dialogue.drive import Asker
from rplab.dialogue.generate import generate_dialogues, make_dialogue
from rplab.dialogue.journal import Journal
from rplab.dialogue.pack import load_pack
from rplab.dialogue.scenario import generate_scenarios
from rplab.dialogue.scenario_file import Scenario, read_scenarios
from rplab.dialogue.turn import TurnContext
from rplab.errors import DataError
from rplab.stage import StageContext

CARD = load_card("saya")
PACK = load_pack("v7")
FAULTS = {"p_error": 0.05, "p_empty": 0.05, "p_truncated": 0.05, "p_broken_json": 0.05, "p_wrong_format": 0.05, "p_script_leak": 0.05}


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenarios")
    context = StageContext(out=folder, resume=folder.with_suffix(".resume"))
    generate_scenarios(ScenariosConfig(card=CARD, count=48), {}, context)
    return folder / "scenarios.jsonl"


def test_scenarios_are_balanced_typed_and_complete(scenarios):
    read = read_scenarios(scenarios, PACK)

    assert len(read) == len({scenario.id for scenario in read}) == 48
    for name, size in (("genre", 12), ("relation", 12), ("era", 12), ("gate", 24)):
        values = [getattr(scenario, name) for scenario in read]
        assert {values.count(value) for value in set(values)} == {size}
    assert sum(scenario.from_card for scenario in read) == 24
    for scenario in read:
        book = scenario.book
        assert [line[0] for line in book.split("\n") if line[1:3] == ". " and line[0].isdigit()] == list("01234567")
        for label in ("플레이어의 가장 최근 턴: ", "주인공의 가장 최근 턴: ", f"관계 상태: {scenario.relation}"):
            assert label in book
        assert f"{scenario.protagonist.age}세" in book
        assert f"{scenario.player.age}세" in book
        if scenario.from_card:
            assert scenario.draft.protagonist_role == CARD.role


def test_dialogues_have_the_agreed_shape_and_good_turns(scenarios, new_context, rows_of):
    context = new_context("d")

    stats = generate_dialogues(DialoguesConfig(), {"scenarios": scenarios.parent}, context)

    rows = rows_of(context.out / "dialogues.jsonl")
    assert len(rows) == stats["accepted"] == stats["planned"] == 48
    assert len({row["id"] for row in rows}) == 48
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["system"] + ["user", "assistant"] * len(row["turns"])
        assert len(row["turns"]) == 3 or row["turns"][2]["mode"] != "normal"
        meta = row["meta"]
        for turn, message in zip(row["turns"], row["messages"][2::2], strict=True):
            side = "crisis" if turn["mode"] == "crisis" else "asst"
            context_of_turn = TurnContext(side, meta["protagonist"], meta["player"], Register(meta["register"]))
            assert find_fault(message["content"], context_of_turn, PACK.checks_for(side))[0] is None
            assert set(turn["signals"]) == set(PACK.signals)
            assert turn["japanese"]
        assert meta["finish"] == "complete"
    replies = [message["content"] for row in rows for message in row["messages"][2::2]]
    assert len(set(replies)) >= 0.98 * len(replies)


def test_a_scene_under_way_is_brought_to_its_end_unless_a_number_of_turns_is_asked_for(scenarios, new_context, rows_of):
    own, three = new_context("own"), new_context("three")
    generate_dialogues(DialoguesConfig(), {"scenarios": scenarios}, own)
    generate_dialogues(DialoguesConfig(turns=3), {"scenarios": scenarios}, three)

    rows = rows_of(own.out / "dialogues.jsonl")
    assert {len(row["turns"]) for row in rows} > {3}
    for row in rows:
        modes = [turn["mode"] for turn in row["turns"]]
        assert len(modes) <= PACK.pacing.turns + PACK.pacing.closing_turns
        if len(modes) > 3:
            assert modes[-1] == "normal" or len(modes) == 7
            assert "normal" not in modes[2:-1]
    assert {len(row["turns"]) for row in rows_of(three.out / "dialogues.jsonl")} == {3}


@pytest.mark.parametrize("signals", ["plan", "judge"])
@pytest.mark.parametrize("faults", [{}, FAULTS], ids=["clean", "faults"])
def test_one_or_many_in_flight_give_the_same_bytes(scenarios, new_context, files_of, signals, faults):
    results = []
    for in_flight in (1, 64):
        context = new_context(f"d{in_flight}")
        config = DialoguesConfig(in_flight=in_flight, signals=signals, backend=ScriptedConfig(**faults), turns=2)
        results.append((generate_dialogues(config, {"scenarios": scenarios}, context), files_of(context.out)))

    assert results[0] == results[1]


def test_plan_mode_asks_no_judge(scenarios, new_context):
    stats = {}
    for signals in ("plan", "judge"):
        stats[signals] = generate_dialogues(DialoguesConfig(signals=signals, turns=2), {"scenarios": scenarios}, new_context(signals))

    assert stats["plan"]["attempts"] == 48 * 4 + sum(stats["plan"]["refused_attempts"].values())
    assert stats["judge"]["attempts"] == 48 * 6 + sum(stats["judge"]["refused_attempts"].values())


def test_what_cannot_be_finished_is_partial_and_never_mixed_in(scenarios, new_context, rows_of):
    backend = ScriptedConfig(p_empty=0.5, p_error=0.3)
    context = new_context("d")

    stats = generate_dialogues(DialoguesConfig(backend=backend), {"scenarios": scenarios}, context)

    rows, partial = rows_of(context.out / "dialogues.jsonl"), rows_of(context.out / "partial.jsonl")
    lost = sum(stats["rejected"].values()) + sum(stats["failed"].values())
    assert stats["planned"] == 48 == len(rows) + lost
    assert len(partial) == lost > 0
    assert all(row["meta"]["exchanges"] >= 3 for row in rows)
    for row in partial:
        assert row["meta"]["finish"].endswith(("empty_answer", "backend_error"))
        assert len(row["messages"]) == 1 + 2 * row["meta"]["exchanges"]
        assert len(row["turns"]) == row["meta"]["exchanges"] < 7
    assert not {row["id"] for row in rows} & {row["id"] for row in partial}
    assert all(message["content"].strip() for row in (*rows, *partial) for message in row["messages"])


class _Recorder:
    """Answers from the embedded backend and keeps the requests; `answers` overrides by key."""

    name = "recorder/1"

    def __init__(self, answers=None):
        from rplab.backend.open import open_backend

        self._backend = open_backend(ScriptedConfig())
        self._answers = answers or {}
        self.requests = []

    async def complete(self, request):
        self.requests.append(request)
        for end, text in self._answers.items():
            if request.key.endswith(end):
                return ChatResult(request.key, text)
        return await self._backend.complete(request)

    async def aclose(self):
        await self._backend.aclose()


def _one(scenario: Scenario, backend, new_context, **settings):
    context = new_context("one")
    with Journal(context.resume / "j") as journal:
        return asyncio.run(make_dialogue(scenario, Asker(backend, journal, context), DialoguesConfig(**settings), PACK))


def test_state_signals_gate_and_history_reach_the_prompts(scenarios, new_context):
    scenario = read_scenarios(scenarios, PACK)[0]
    backend = _Recorder()

    outcome = _one(scenario, backend, new_context, turns=3)

    for request in backend.requests:
        text = request.messages[-1]["content"]
        slots = request.slots
        assert PACK.relation_machine.states[slots.state].description in text
        assert PACK.action_machine.states[slots.action].description in text
        assert f"관계: {slots.relation}" in text
        if slots.speaker == "protagonist":
            assert request.messages[0]["content"] == scenario.book
            assert "장면 허용: " in text
            for signal in PACK.signals.values():
                assert f"{signal.label} " in text
            roles = [message["role"] for message in request.messages]
            assert roles == ["system"] + ["user", "assistant"] * (slots.turn) + ["user"]
        else:
            assert request.messages[0]["content"] != scenario.book  # the player has a prompt of its own
            assert scenario.draft.last_protagonist_turn in text or slots.turn
    assert outcome.row["turns"][0]["attempts"] == {"player": 1, "protagonist": 1}


def test_a_closed_scene_that_is_asked_for_is_to_be_avoided(scenarios, new_context):
    scenario = next(s for s in read_scenarios(scenarios, PACK) if s.genre == "연애물" and not s.gate)
    asked = f'{scenario.player.name}는 손을 내민다.\n"오늘은 꼭 고백하고 싶은 말이 있어."'
    backend = _Recorder({"/t0/player/a0": asked})

    outcome = _one(scenario, backend, new_context, turns=1)

    (request,) = [r for r in backend.requests if r.slots.speaker == "protagonist"]
    assert "'고백' 이야기는 지금 허용되지 않는다" in request.messages[-1]["content"]
    assert request.slots.avoid == "고백"
    assert outcome.row["turns"][0]["avoid"] is True


def test_a_bad_turn_is_asked_again_with_the_reason(scenarios, new_context):
    scenario = read_scenarios(scenarios, PACK)[0]
    name = scenario.protagonist.name
    backend = _Recorder({"/t0/protagonist/a0": f'{name}는 창을 닫습니다.\n"이제 들어가자."'})

    outcome = _one(scenario, backend, new_context, turns=1)

    second = next(r for r in backend.requests if r.key.endswith("/t0/protagonist/a1"))
    assert "고칠 점: 서술은 -다로 끝낸다" in second.messages[-1]["content"]
    assert outcome.row["turns"][0]["attempts"]["protagonist"] == 2
    assert [(reject.reason, reject.final) for reject in outcome.rejects] == [("asst_narr_formal", False)]


def test_an_age_cue_ends_the_dialogue_and_its_text_is_not_kept(scenarios, new_context):
    scenario = read_scenarios(scenarios, PACK)[0]
    name = scenario.player.name
    backend = _Recorder({"/t1/player/a0": f'{name}는 웃는다.\n"나는 아직 고등학생이야."'})

    outcome = _one(scenario, backend, new_context)

    assert (outcome.row, outcome.status, outcome.reason) == (None, "rejected", "user_age_cue")
    assert outcome.rejects[-1].text == ""
    assert outcome.partial["meta"]["exchanges"] == 1
    assert "고등학생" not in json.dumps(outcome.partial, ensure_ascii=False)


def test_labels_and_curly_quotes_are_mended_not_refused(scenarios, new_context):
    scenario = read_scenarios(scenarios, PACK)[0]
    name = scenario.player.name
    backend = _Recorder({"/t0/player/a0": f"서술 {name}는 문을 열고 들어선다.\n“오늘은 바람이 무척 차갑다.”"})

    outcome = _one(scenario, backend, new_context, turns=1)

    assert outcome.row["messages"][1]["content"] == f'{name}는 문을 열고 들어선다.\n"오늘은 바람이 무척 차갑다."'
    assert outcome.row["turns"][0]["repaired"] is True


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda row: row.pop("genre"), "genre: Field required"),
        (lambda row: row.update(genre="공포물"), "genre: '공포물' does not fit pack v7"),
        (lambda row: row.update(pack="v6"), "Give --pack v6"),
        (lambda row: row["player"].update(age=15), "player.age"),
        (lambda row: row["draft"].update(title=3), "draft.title"),
    ],
)
def test_a_bad_scenarios_file_names_file_and_line(scenarios, tmp_path, damage, message):
    lines = scenarios.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[2])
    damage(row)
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join([*lines[:2], json.dumps(row, ensure_ascii=False), *lines[3:]]), encoding="utf-8")

    with pytest.raises(DataError, match=message) as error:
        read_scenarios(path, PACK)
    assert str(error.value).startswith(f"{path}:3: ")
    assert error.value.exit_code == 2


def test_a_doubled_or_missing_scenario_is_an_error(scenarios, tmp_path):
    line = scenarios.read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "twice.jsonl"
    path.write_text(f"{line}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"twice\.jsonl:2: id"):
        read_scenarios(path, PACK)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no scenario"):
        read_scenarios(path, PACK)


@pytest.mark.parametrize("pack_name", ["v5", "v6"])
def test_the_long_packs_run_on_the_same_engine(new_context, pack_name):
    generate_scenarios(ScenariosConfig(pack=pack_name, count=10), {}, new_context("s"))

    stats = generate_dialogues(DialoguesConfig(pack=pack_name), {"scenarios": new_context("s").out}, new_context("d"))

    assert stats["planned"] == stats["accepted"] == 10
    assert stats["exchanges"] == 80


def test_card_book_holds_what_the_card_says():
    book = card_book(CARD, PACK)

    for part in (CARD.role, CARD.lack, CARD.speech_habits, "24세", "26세", "말투: 반말"):
        assert part in book
