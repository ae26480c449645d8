"""Stage `singleturn`: the rows wanted, each checked, the same whatever the order."""

import threading

import pytest

from rplab.backend.config import ScriptedConfig
from rplab.character import Register, load_card
from rplab.dialogue.config import SingleturnConfig
from rplab.dialogue.pack import load_pack
from rplab.dialogue.payload import Expected, payload_fault
from rplab.dialogue.singleturn import build_request, draw_plan, generate_singleturn
from rplab.dialogue.singleturn_text import card_system_text
from rplab.errors import BackendError, ConfigError, StageInterrupted

CARD = load_card("saya")
PACK = load_pack("v7")
GENRES = tuple(PACK.singleturn.genres)


def test_every_row_is_good_and_accounted_for(new_context, rows_of):
    context = new_context("st")

    stats = generate_singleturn(SingleturnConfig(card=CARD, target_rows=120), {}, context)

    rows = rows_of(context.out / "rows.jsonl")
    assert len(rows) == stats["accepted"] == 120
    assert stats["planned"] == stats["accepted"] + sum(stats["rejected"].values()) + sum(stats["failed"].values())
    assert len({row["meta"]["id"] for row in rows}) == 120
    assert set(stats["mix"]["genre"]) == set(GENRES)
    for row in rows:
        meta = row["meta"]
        expected = Expected(meta["protagonist"], meta["player"], meta["user_format"], Register(meta["register"]))
        payload = {name: row[name] for name in ("user", "assistant_raw", "scene")}
        assert payload_fault(payload, expected) is None
        assert set(row) == {"system", "user", "assistant_raw", "scene", "meta"}
    assert sum(row["meta"]["from_card"] for row in rows) == 60


@pytest.mark.parametrize("faults", [{}, {"p_empty": 0.1, "p_broken_json": 0.1, "p_error": 0.05, "p_truncated": 0.05, "p_script_leak": 0.1}])
def test_one_or_many_in_flight_give_the_same_bytes(new_context, files_of, faults):
    backend = ScriptedConfig(**faults)
    results = []
    for in_flight in (1, 64):
        context = new_context(f"st{in_flight}")
        stats = generate_singleturn(SingleturnConfig(card=CARD, target_rows=60, in_flight=in_flight, backend=backend), {}, context)
        results.append((stats, files_of(context.out)))

    assert results[0] == results[1]
    if faults:
        assert results[0][0]["refused_attempts"]


def test_nothing_empty_or_damaged_is_kept_under_faults(new_context, rows_of):
    backend = ScriptedConfig(p_error=0.1, p_empty=0.1, p_truncated=0.1, p_broken_json=0.1, p_wrong_format=0.1, p_script_leak=0.1)
    context = new_context("st")

    stats = generate_singleturn(SingleturnConfig(target_rows=80, max_attempts=2, backend=backend), {}, context)

    rows, rejects = rows_of(context.out / "rows.jsonl"), rows_of(context.out / "rejects.jsonl")
    assert len(rows) == 80
    assert all(row["user"].strip() and row["assistant_raw"].strip() for row in rows)
    lost = sum(stats["rejected"].values()) + sum(stats["failed"].values())
    assert stats["planned"] == 80 + lost
    assert lost > 0
    assert sum(reject["final"] for reject in rejects) == lost
    assert {"backend_error", "empty_answer", "cut_by_length", "no_json"} <= set(stats["refused_attempts"])
    assert all(reject["reason"] and reject["key"] for reject in rejects)


def test_a_hopeless_backend_fails_loudly(new_context):
    context = new_context("st")
    config = SingleturnConfig(target_rows=10, max_attempts=2, backend=ScriptedConfig(p_empty=1.0))

    with pytest.raises(BackendError, match=r"only 0 of 10 rows were good enough.*empty_answer"):
        generate_singleturn(config, {}, context)


def test_rows_differ_between_seeds(new_context, rows_of):
    texts = []
    for seed in (1, 2):
        context = new_context(f"s{seed}")
        generate_singleturn(SingleturnConfig(target_rows=20, seed=seed), {}, context)
        texts.append({row["assistant_raw"] for row in rows_of(context.out / "rows.jsonl")})

    assert len(texts[0] & texts[1]) < 3


def test_the_next_attempt_is_told_what_was_wrong():
    plan = draw_plan(SingleturnConfig(), PACK, GENRES, 0)

    first = build_request(plan, 0, "", 42, PACK)
    second = build_request(plan, 1, "assistant_speech_level", 42, PACK)

    assert first.key != second.key
    assert first.seed != second.seed
    assert "고칠 점" not in first.messages[-1]["content"]
    assert "고칠 점: 정해진 말투를 지킨다" in second.messages[-1]["content"]


def test_system_text_states_names_ages_register_and_situation():
    text = card_system_text(CARD, PACK)

    for part in ("사야 (24세, 여성)", "카즈키 (26세, 남성)", "말투: 반말", CARD.situation, "당신은 사야다. 카즈키는 플레이어이다."):
        assert part in text
    assert [line[0] for line in text.split("\n") if line[1:3] == ". "] == list("01234567")


def test_particles_fit_any_name():
    card = CARD.model_copy(update={"name": "하늘", "player": CARD.player.model_copy(update={"name": "은별"})})
    text = card_system_text(card, PACK)

    assert "당신은 하늘이다. 은별은 플레이어이다." in text
    assert "하늘로 시작하는" in text


def test_unknown_genre_is_refused(new_context):
    with pytest.raises(ConfigError, match="has no 공포물"):
        generate_singleturn(SingleturnConfig(target_rows=1, genres=("공포물",)), {}, new_context("st"))


def test_a_stop_keeps_what_was_answered(new_context, files_of):
    stop = threading.Event()
    seen = []

    def report(progress):
        seen.append(progress)
        stop.set()

    config = SingleturnConfig(target_rows=60, in_flight=2, backend=ScriptedConfig(latency_ms=20))
    context = new_context("st", report=report, stop=stop)
    with pytest.raises(StageInterrupted):
        generate_singleturn(config, {}, context)
    assert not (context.out / "rows.jsonl").exists()
    answered = (context.resume / "singleturn.journal").read_bytes().count(b"\n")
    assert answered > 10

    stats = generate_singleturn(config, {}, new_context("st"))
    whole = new_context("whole")
    assert stats == generate_singleturn(config, {}, whole)
    assert files_of(context.out) == files_of(whole.out)
