"""`rplab data judge`: flaws, scores, reasons, strictness, resuming; the Batch API does the same."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.annotate.config import JudgeConfig
from rplab.annotate.rubric import load_rubric
from rplab.annotate.verdict import NotAVerdict, read_verdict, schema_of
from rplab.errors import BackendError, ConfigError, DataError
from rplab.stage import Stage, stage_key

GOOD = '사야는 웃는다.\n"어서 와."'
ASSISTANT = '사야는 웃는다.\n"저는 AI라서 잘 몰라요."'
DULL = '사야는 앉는다.\n"지루해."'
FLOWERY = '사야는 창밖을 본다.\n"별빛이 예쁘다."'


def test_judging_keeps_drops_and_counts_every_row(call, chat, write, read, endpoint, capsys):
    write("in.jsonl", chat(GOOD, id="a"), chat(ASSISTANT), chat(GOOD, DULL), chat(FLOWERY, meta={"genre": "일상"}), chat())

    assert call("judge", "in.jsonl", "out.jsonl", *endpoint, "--json") == 0

    stats = json.loads(capsys.readouterr().out)["stats"]
    assert (stats["planned"], stats["accepted"], stats["failed"]) == (5, 2, {})
    assert stats["rejected"] == {"judge_assistant_voice": 1, "judge_score": 1, "no_reply": 1}
    assert stats["mix"]["flaw"] == {"assistant_voice": 1, "emotion": 1, "logic": 1, "flow": 1, "cliche": 1}
    kept = read("out.jsonl")
    assert [row["messages"][2]["content"] for row in kept] == [GOOD, FLOWERY]
    assert kept[0]["id"] == "a"
    assert kept[0]["meta"]["judge"]["score"] == 100
    assert kept[1]["meta"] == {
        "genre": "일상",
        "judge": {"flaws": ["cliche"], "model": "openai/mock", "rubric": "flaws", "rubric_version": 1, "score": 100.0},
    }
    out = read("out.judged_out.jsonl")
    assert [(row["line"], row["reason"]) for row in out] == [(2, "judge_assistant_voice"), (3, "judge_score"), (5, "no_reply")]
    assert out[1]["judge"]["score"] == 100 - 5 * (12 - 0.3 * 2)
    assert {flaw["quote"] for flaw in out[1]["judge"]["flaws"]} == {"지루"}
    assert len({row["id"] for row in read("out.verdicts.jsonl")}) == 4


def test_an_answer_that_is_no_verdict_is_asked_for_again_with_the_reason(call, chat, write, read, endpoint, server):
    bad = [
        "좋은 대화입니다.",
        '{"flaws": [{"type": "flow", "turn": 1, "severity": 2, "quote": "그런 말은 없다", "why": "x"}]}',
        '{"flaws": [{"type": "flow", "turn": 9, "severity": 2, "quote": "어서", "why": "x"}]}',
    ]
    server.tamper = lambda text, number: bad[number - 1] if number <= len(bad) else text
    write("in.jsonl", chat(GOOD))

    call("judge", "in.jsonl", "out.jsonl", *endpoint, "--max-attempts", 4)

    assert len(read("out.jsonl")) == 1
    told = [body["messages"][-1]["content"] for body in server.asked]
    assert ["지난 답의 잘못" in text for text in told] == [False, True, True, True]
    assert "그대로 옮긴" in told[2]
    assert "1부터 1까지" in told[3]


def test_what_cannot_be_judged_fails_and_is_not_passed_on(call, chat, write, read, endpoint, server, capsys):
    server.tamper = lambda *_: "{"
    write("in.jsonl", chat(GOOD))

    call("judge", "in.jsonl", "out.jsonl", *endpoint, "--max-attempts", 2, "--json")

    assert json.loads(capsys.readouterr().out)["stats"]["failed"] == {"verdict_no_json": 1}
    assert read("out.jsonl") == []
    assert read("out.judged_out.jsonl")[0]["judge"]["answers"][0]["text"] == "{"


def test_bad_input_is_named_before_anything_is_asked(call, chat, write, endpoint, server, tmp_path):
    write("in.jsonl", chat(GOOD), {"messages": [{"role": "narrator", "content": "x"}]})

    with pytest.raises(DataError, match=r"in\.jsonl:2: messages with role"):
        call("judge", "in.jsonl", "out.jsonl", *endpoint)
    with pytest.raises(ConfigError, match="understands no text"):
        call("judge", "in.jsonl", "out.jsonl", "--backend", "scripted")
    with pytest.raises(ConfigError, match="no rubric is called 'mine'"):
        call("judge", "in.jsonl", "out.jsonl", *endpoint, "--rubric", "mine")
    assert server.asked == []
    assert not (tmp_path / "out.jsonl").exists()


def test_a_rubric_of_ones_own_decides_and_its_content_is_part_of_the_key(call, chat, write, read, endpoint, tmp_path):
    mine = tmp_path / "mine.yaml"
    text = load_rubric("flaws").model_dump(mode="json")
    mine.write_text(json.dumps({**text, "name": "mine", "drop_from": 5, "min_score": 10}, ensure_ascii=False), encoding="utf-8")
    write("in.jsonl", chat(DULL))
    stage, config = Stage("judge", 1, "x:y", JudgeConfig), JudgeConfig(rubric=str(mine))

    call("judge", "in.jsonl", "out.jsonl", *endpoint, "--rubric", "mine.yaml")
    before = stage_key(stage, config, {})
    mine.write_text(mine.read_text(encoding="utf-8").replace('"min_score": 10', '"min_score": 60'), encoding="utf-8")

    assert read("out.jsonl")[0]["meta"]["judge"]["rubric"] == "mine"
    assert stage_key(stage, config, {}) != before
    mine.write_text(mine.read_text(encoding="utf-8").replace('"flow"', '"logic"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="same id"):
        load_rubric(str(mine))


def test_a_killed_run_asks_no_verdict_twice_and_ends_the_same(chat, write, endpoint, server, tmp_path):
    write("in.jsonl", *(chat(f'사야는 {number}번 웃는다.\n"지루해."' if number % 7 == 0 else GOOD + str(number)) for number in range(150)))
    slow = server.reply
    server.reply = lambda body: (time.sleep(0.004), slow(body))[1]

    def start(name):
        command = [sys.executable, "-m", "rplab.cli.main", "data", "judge", "in.jsonl", name, *endpoint, "--in-flight", "4"]
        return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)

    run = start("out.jsonl")
    while len(server.asked) < 60 and run.poll() is None:
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -9
    assert start("out.jsonl").wait() == 0
    assert len(server.asked) <= 150 + 4
    assert start("fresh.jsonl").wait() == 0

    for side in ("", ".judged_out", ".verdicts"):
        assert (tmp_path / f"out{side}.jsonl").read_bytes() == (tmp_path / f"fresh{side}.jsonl").read_bytes()


def test_the_batch_api_judges_for_half_the_price(call, chat, write, read, endpoint, server, capsys):
    write("in.jsonl", *(chat(GOOD + str(number)) for number in range(8)), chat(ASSISTANT))
    command = ("judge", "in.jsonl", "out.jsonl", *endpoint)

    call("batch", "submit", "job", "--", *command)
    call("batch", "submit", "job", "--", *command)  # nothing is submitted twice
    assert len(server.batches) == 1
    with pytest.raises(BackendError, match="have not ended"):
        call("batch", "collect", "job")
    call("batch", "status", "job")
    assert "completed" in capsys.readouterr().out
    asked = len(server.asked)
    call("batch", "collect", "job")

    assert len(server.asked) == asked == 9  # every answer came from the batch
    assert "9 answers taken, 0 asked for online" in capsys.readouterr().out
    assert len(read("out.jsonl")) == 8
    call("judge", "in.jsonl", "online.jsonl", *endpoint)
    assert read("online.jsonl") == read("out.jsonl")


def test_a_submission_killed_in_the_middle_is_found_again(call, chat, write, endpoint, server, tmp_path):
    write("in.jsonl", chat(GOOD))
    command = ("judge", "in.jsonl", "out.jsonl", *endpoint)
    call("batch", "submit", "job", "--", *command)
    path = tmp_path / "job" / "job.json"
    job = json.loads(path.read_text(encoding="utf-8"))
    job["parts"][0].update(batch=None, status="submitting")
    path.write_text(json.dumps(job), encoding="utf-8")

    call("batch", "submit", "job", "--", *command)

    assert len(server.batches) == 1
    assert json.loads(path.read_text(encoding="utf-8"))["parts"][0]["batch"] == "batch-0"
    write("in.jsonl", chat(DULL))
    with pytest.raises(ConfigError, match="holds a batch job of other settings"):
        call("batch", "submit", "job", "--", *command)
    with pytest.raises(ConfigError, match="inputs have changed"):
        call("batch", "collect", "job", "--partial")
    with pytest.raises(ConfigError, match="suits commands with one answer"):
        call("batch", "submit", "job2", "--", "dialogues", "--scenarios", "s", "--out", "d")
    with pytest.raises(ConfigError, match="no batch job here"):
        call("batch", "status", "job3")


def test_judging_stops_at_its_budget_and_says_what_it_would_cost(call, chat, write, endpoint, capsys):
    write("in.jsonl", *(chat(f"{number} {GOOD * (1 + number % 3)}") for number in range(40)))

    call("judge", "in.jsonl", "out.jsonl", *endpoint, "--estimate", 6, "--json", "--backend-set", "price_input_usd=1")
    shown = json.loads(capsys.readouterr().out)
    with pytest.raises(BackendError, match="budget of 20,000 tokens"):
        call("judge", "in.jsonl", "out.jsonl", *endpoint, "--budget", "20k-tokens")

    assert shown["estimate"]["num_items"] == 40
    assert 0 < shown["estimate"]["usd"]["low"] <= shown["estimate"]["usd"]["expected"] <= shown["estimate"]["usd"]["high"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
RUBRIC = load_rubric("flaws")


@settings(deadline=None)
@given(st.text() | JSON)
def test_any_answer_is_a_verdict_or_is_refused(answer):
    text = answer if isinstance(answer, str) else json.dumps({"flaws": answer})
    try:
        verdict = read_verdict(text, [GOOD], RUBRIC, 60)
    except NotAVerdict:
        return
    assert 0 <= verdict.score <= 100
    assert verdict.flaws == () or schema_of(RUBRIC)["properties"]
