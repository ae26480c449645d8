"""The scripted backend as a user of the protocol sees it."""

import asyncio
import json
import re
from collections import Counter

import pytest
from kiwipiepy import Kiwi

from rplab.backend.base import ChatRequest, ScenarioSlots, SignalSlots, SingleTurnSlots, TurnSlots
from rplab.backend.config import ScriptedConfig
from rplab.backend.open import open_backend
from rplab.character import Person, Register
from rplab.errors import BackendError
from rplab.seeding import derive

GENRES = ("연애물", "비극", "육성물", "성장물", "심리 시뮬레이션")
ERAS = ("판타지", "현대", "공상과학", "디지털 세계")
RELATIONS = ("적대", "거리감", "친밀", "사랑")
ACTIONS = (
    *("EVENT", "CONFLICT", "RESOLUTION", "AFTERMATH", "IDLE", "SCENE_1", "SCENE_2", "SCENE_3", "SCENE_4"),
    *("AFTERMATH_SCENE_1", "AFTERMATH_SCENE_2", "CRISIS_1", "CRISIS_2", "AFTERMATH_CRISIS_1"),
)
PROTAGONISTS = [Person(name=n, name_ja=j, age=24) for n, j in (("사야", "サヤ"), ("마이", "マイ"), ("코하루", "コハル"))]
PLAYERS = [Person(name=n, name_ja=j, age=27, gender="남성") for n, j in (("하야토", "ハヤト"), ("카즈키", "カズキ"), ("소마", "ソウマ"))]
LOCATIONS = ("비 오는 항구의 헌책방", "우주 정거장의 관측실", "이름 없는 언덕 너머", "가상 공간의 하얀 회랑", "강가의 벚나무 길")
SITUATIONS = ("갑작스러운 비에 우산 하나를 함께 쓴다", "연습에서 같은 실수를 세 번 되풀이했다", "말이 끊겼다")

HANGUL = re.compile("[가-힣ㄱ-ㅎㅏ-ㅣ]")
JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
POLITE = re.compile(r"(?:요|죠|니다|니까)[.?!]$")


def single(index):
    rng = derive(index, "slots")
    slots = SingleTurnSlots(
        protagonist=rng.choice(PROTAGONISTS),
        player=rng.choice(PLAYERS),
        register=rng.choice(list(Register)),
        genre=rng.choice(GENRES),
        user_format=rng.choice(["dialog_only", "action_plus_dialogue"]),
        situation=rng.choice(SITUATIONS),
        location=rng.choice(LOCATIONS),
        personality=rng.choice(["다정하고 세심하다", "차분하다", "지기 싫어한다"]),
        relationship=rng.choice(["오래 좋아해 온 사이", "다툰 뒤 다시 말을 튼 사이", "함께 훈련하는 동료"]),
    )
    return ChatRequest(key=f"row-{index}", messages=(), seed=rng.getrandbits(48), slots=slots)


def turn(index, recent=(), **changes):
    rng = derive(index, "turn")
    values = {
        "speaker": rng.choice(["player", "protagonist"]),
        "protagonist": rng.choice(PROTAGONISTS),
        "player": rng.choice(PLAYERS),
        "register": rng.choice(list(Register)),
        "genre": rng.choice(GENRES),
        "era": rng.choice(ERAS),
        "place": rng.choice(LOCATIONS),
        "relation": rng.choice(RELATIONS),
        "state": "BOND",
        "action": rng.choice(ACTIONS),
        "intent": rng.choice(["rise", "fall"]),
        "turn": 1,
        "recent": recent,
    }
    return ChatRequest(key=f"turn-{index}", messages=(), seed=rng.getrandbits(48), slots=TurnSlots(**(values | changes)))


def scenario(index):
    rng = derive(index, "scenario")
    slots = ScenarioSlots(
        protagonist=rng.choice(PROTAGONISTS),
        player=rng.choice(PLAYERS),
        register=rng.choice(list(Register)),
        genre=rng.choice(GENRES),
        era=rng.choice(ERAS),
        relation=rng.choice(RELATIONS),
        start_frame="전하지 못한 편지가 상대의 손에 들어갔다",
    )
    return ChatRequest(key=f"scenario-{index}", messages=(), seed=rng.getrandbits(48), slots=slots)


def answer(requests, config=None, in_flight=1):
    """Answer requests with at most `in_flight` open at once, in order of the requests."""

    async def run():
        backend = open_backend(config or ScriptedConfig())
        gate = asyncio.Semaphore(in_flight)

        async def one(request):
            async with gate:
                return await backend.complete(request)

        try:
            return await asyncio.gather(*map(one, requests))
        finally:
            await backend.aclose()

    return asyncio.run(run())


def sentences(speech):
    return re.split(r"(?<=[.?!])\s+", speech)


def quoted(text):
    return text.rsplit("\n", 1)[-1].strip('"')


@pytest.fixture(scope="module")
def rows():
    requests = [single(i) for i in range(3000)]
    return [(request.slots, json.loads(result.text), result) for request, result in zip(requests, answer(requests), strict=True)]


@pytest.fixture(scope="module")
def turns():
    requests = [turn(i, recent=(f'"{quoted(answer([turn(i + 10**6)])[0].text)}"',) if i % 10 == 0 else ()) for i in range(5000)]
    return [(request.slots, result) for request, result in zip(requests, answer(requests), strict=True)]


def test_equal_requests_get_equal_answers_however_many_are_in_flight():
    requests = [make(i) for i in range(60) for make in (single, turn, scenario)]
    alone = answer(requests)
    assert alone == answer(requests, in_flight=64)
    assert alone == answer(requests[::-1], ScriptedConfig(latency_ms=1), in_flight=64)[::-1]


def test_single_turn_rows_keep_the_row_rules(rows):
    for slots, row, result in rows:
        assert set(row) == {"user", "assistant_raw", "scene"}
        narration, speech = row["assistant_raw"].split("\n")
        assert re.match(rf"{slots.protagonist.name}[은는] ", narration)
        assert narration.endswith("다.")
        assert row["scene"]["speaker"] == slots.protagonist.name
        assert row["scene"]["narration"]["ko"] == narration
        assert f'"{row["scene"]["dialogue"]["ko"]}"' == speech
        assert result.japanese == row["scene"]["dialogue"]["jp"]
        lines = row["user"].split("\n")
        assert len(lines) == (1 if slots.user_format == "dialog_only" else 2)
        assert lines[-1].startswith('"')
        assert slots.player.name not in lines[-1]
        assert row["user"].count('"') == row["assistant_raw"].count('"') == 2
        assert not re.search(r"[*:()：]", row["user"] + row["assistant_raw"])
        assert not re.search(rf"{slots.player.name}(?: 씨)?(?:은|는|이|가|을|를|에게)[ .]", row["assistant_raw"])


def test_both_languages_stay_in_their_scripts(rows, turns):
    for _, row, _ in rows:
        assert not JAPANESE.search(row["user"] + row["assistant_raw"])
        for part in ("narration", "dialogue"):
            assert not HANGUL.search(row["scene"][part]["jp"])
            assert JAPANESE.search(row["scene"][part]["jp"])
    for _, result in turns:
        assert not JAPANESE.search(result.text)
        assert result.japanese
        assert not HANGUL.search(result.japanese)


def test_japanese_names_are_in_kana(rows):
    for slots, row, _ in rows:
        assert row["scene"]["narration"]["jp"].startswith(f"{slots.protagonist.name_ja}は")


def test_rows_do_not_repeat(rows):
    counts = Counter(row["assistant_raw"] for _, row, _ in rows)
    assert 1 - len(counts) / len(rows) < 0.02
    spoken = Counter(row["scene"]["dialogue"]["ko"] for _, row, _ in rows)
    assert 1 - len(spoken) / len(rows) < 0.05


def test_turns_do_not_repeat(turns):
    assert 1 - len({result.text for _, result in turns}) / len(turns) < 0.01


def test_turns_have_the_shape_of_a_turn(turns):
    for slots, result in turns:
        lines = result.text.split("\n")
        name = (slots.player if slots.speaker == "player" else slots.protagonist).name
        assert 1 <= len(lines) <= 2
        assert len(lines) == 2 or slots.speaker == "player"
        assert len(lines) == 1 or re.match(rf"{name}[은는] .+다\.$", lines[0])
        assert re.fullmatch(r'"[^"]+[.?!]"', lines[-1])
        assert not re.search(r"[*:()：]", result.text)
        assert len(quoted(result.text)) <= 60


def test_speech_level_holds_in_every_sentence(rows):
    kiwi = Kiwi()
    wrong, total = [], 0
    for slots, row, _ in rows[:1000]:
        for speech in (quoted(row["user"]), row["scene"]["dialogue"]["ko"]):
            for sentence in sentences(speech):
                total += 1
                words = [token for token in kiwi.tokenize(sentence) if not token.tag.startswith("S")]
                ends = words[-1].tag in ("EF", "JX", "IC") if words else False
                if not ends or bool(POLITE.search(sentence)) is not (slots.register is Register.POLITE):
                    wrong.append(sentence)
    assert len(wrong) <= 0.01 * total, wrong[:20]


def test_japanese_follows_the_speech_level(rows):
    for slots, row, _ in rows:
        for sentence in re.findall(r"[^。？]+[。？]", row["scene"]["dialogue"]["jp"]):
            polite = bool(
                re.search(r"(?:です|ます|ました|ません|でした|ましょう|ください)[かねよ]*[。？]$", sentence) or "ございます" in sentence
            )
            assert polite is (slots.register is Register.POLITE), sentence


def test_an_answer_takes_up_the_word_of_the_question():
    words = ("우산", "검술", "노을", "외로움", "약속")
    for index in range(200):
        word = words[index % 5]
        reply = answer([turn(index, recent=(f'하야토는 고개를 든다.\n"{word} 이야기를 해 줘."',), speaker="protagonist", action="EVENT")])[
            0
        ]
        assert word in quoted(reply.text)


def test_a_turn_does_not_repeat_the_line_before_it():
    for index in range(150):
        recent = ()
        for number in range(6):
            speaker = ("player", "protagonist")[number % 2]
            reply = answer([turn(index * 10 + number, recent=recent, speaker=speaker, register=Register.CASUAL, genre="연애물")])[0]
            assert quoted(reply.text) not in {quoted(text) for text in recent}
            recent = (*recent, reply.text)


def test_a_topic_to_avoid_is_turned_down():
    for index in range(100):
        reply = answer([turn(index, recent=('"고백해도 돼?"',), speaker="protagonist", avoid="고백", register=Register.CASUAL)])[0]
        assert re.search(r"싶지 않아|수 없어|여기까지만|어려워", reply.text)


def test_scenarios_carry_all_fields_in_korean():
    texts = {
        "title",
        "driver",
        "world",
        "constraint",
        "place",
        "ongoing_event",
        "pending_task",
        "protagonist_role",
        "lack",
        "attachment_reason",
    }
    texts |= {"player_influence", "rise_condition", "fall_condition", "growth_factor", "speech_habit", "dark_signal"}
    texts |= {"last_player_turn", "last_protagonist_turn"}
    requests = [scenario(i) for i in range(500)]
    seen = set()
    for request, result in zip(requests, answer(requests), strict=True):
        draft = json.loads(result.text)
        assert set(draft) == texts | {"traits", "endings"}
        assert len(set(draft["traits"])) == 3
        assert 2 <= len(draft["endings"]) <= 3
        assert not JAPANESE.search(result.text)
        assert draft["last_player_turn"].count('"') == 2
        speech = re.search(r'"([^"]+)"', draft["last_protagonist_turn"])[1]
        polite = request.slots.register is Register.POLITE
        assert all(bool(POLITE.search(sentence)) is polite for sentence in sentences(speech))
        seen.add(result.text)
    assert len(seen) > 495


def test_signals_move_by_one_within_their_range():
    highest = {"mental_instability": 3, "intimacy": 3, "threat": 2, "pressure": 3, "probe": 3, "resolve": 1, "event": 3}
    moved = Counter()
    for index in range(500):
        rng = derive(index, "signals")
        given = {name: rng.randint(0, top) for name, top in highest.items()}
        slots = SignalSlots(rng.choice(GENRES), rng.choice(RELATIONS), "BOND", rng.choice(ACTIONS), "rise" if index % 2 else "fall", given)
        result = answer([ChatRequest(key="s", messages=(), seed=index, slots=slots)])[0]
        signals = json.loads(result.text)
        assert set(signals) == set(highest)
        for name, value in signals.items():
            assert 0 <= value <= highest[name]
            assert abs(value - given[name]) <= 1
        moved[index % 2] += signals["intimacy"] - given["intimacy"]
    assert moved[1] > 0 > moved[0]


def test_a_request_without_slots_is_refused_with_a_remedy():
    with pytest.raises(BackendError, match="slots"):
        answer([ChatRequest(key="free", messages=({"role": "user", "content": "안녕"},), seed=1)])


@pytest.mark.parametrize("fault", ["p_error", "p_empty", "p_truncated", "p_broken_json", "p_wrong_format", "p_script_leak"])
def test_faults_strike_the_given_share_and_the_same_requests_each_time(fault):
    requests = [single(i) for i in range(400)]
    clean, config = answer(requests), ScriptedConfig.model_validate({fault: 0.25})
    spoiled = answer(requests, config)
    assert spoiled == answer(requests, config, in_flight=16)
    struck = [result for before, result in zip(clean, spoiled, strict=True) if result != before]
    assert 60 <= len(struck) <= 140
    for result in struck:
        assert _shows(fault, result)


def _shows(fault, result):
    if fault == "p_error":
        return result.finish_reason == "error" and result.error and not result.text
    if fault == "p_empty":
        return not result.text
    if fault == "p_truncated":
        return result.finish_reason == "length"
    if fault == "p_script_leak":
        korean = json.loads(result.text)
        return bool(JAPANESE.search(json.dumps([korean["user"], korean["assistant_raw"], korean["scene"]], ensure_ascii=False)))
    with pytest.raises(json.JSONDecodeError):
        json.loads(result.text)
    return True


def test_latency_is_waited_for():
    async def run():
        backend = open_backend(ScriptedConfig(latency_ms=30))
        loop = asyncio.get_running_loop()
        start = loop.time()
        await backend.complete(turn(1))
        return loop.time() - start

    assert asyncio.run(run()) >= 0.03


def test_the_config_refuses_shares_outside_0_to_1_and_unknown_keys():
    for bad in ({"p_error": 1.5}, {"p_eror": 0.1}, {"kind": "other"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ScriptedConfig.model_validate(bad)
