"""`rplab data translate`: lines once each, context, glossary, script checks, resuming."""

import json

import pytest

from rplab.errors import BackendError, ConfigError

FIRST = '사야는 웃는다.\n"안녕, 비가 와."'
SECOND = '사야는 걷는다.\n"가자."'


def test_each_line_is_translated_once_in_order(call, chat, write, read, endpoint, server, capsys):
    write("in.jsonl", chat(FIRST, SECOND), chat(SECOND, '"네."'), chat("사야는 대답하지 않는다."))

    assert call("translate", "in.jsonl", "out.jsonl", *endpoint, "--json") == 0

    pairs = read("out.jsonl")
    assert [(pair["input"], pair["output"]) for pair in pairs] == [
        ("안녕, 비가 와.", "こんにちは, 雨だよ."),
        ("가자.", "行こう."),
        ("네.", "はい."),
    ]
    assert all(pair["instruction"] == pairs[0]["instruction"] for pair in pairs)
    assert json.loads(capsys.readouterr().out)["stats"]["mix"] == {"line": {"speech": 3}}
    asked = [body["messages"][-1]["content"] for body in server.asked]
    assert any("앞의 대화:\n" in text and "안녕, 비가 와" in text and text.endswith("가자.") for text in asked)

    call("translate", "in.jsonl", "all.jsonl", *endpoint, "--narration", "--players")
    assert len(read("all.jsonl")) == 8


def test_what_is_no_japanese_is_asked_for_again_and_then_set_aside(call, chat, write, read, endpoint, server, capsys):
    bad = {1: "안녕", 2: "hello there こんにちは", 3: "こんにちは\nもう一行"}
    server.tamper = lambda text, number: bad.get(number, f"翻訳: 「{text}」")
    write("in.jsonl", chat('"안녕."'))

    call("translate", "in.jsonl", "out.jsonl", *endpoint, "--max-attempts", 4)
    assert [pair["output"] for pair in read("out.jsonl")] == ["こんにちは."]  # label and brackets taken off
    assert [reject["reason"] for reject in read("out.rejects.jsonl")] == [
        "hangul_in_japanese",
        "latin_in_japanese",
        "more_than_one_line",
    ]
    server.tamper = lambda *_: "안녕"
    call("translate", "in.jsonl", "none.jsonl", *endpoint, "--json")
    stats = json.loads(capsys.readouterr().out.splitlines()[-1])["stats"]
    assert (stats["planned"], stats["accepted"], stats["rejected"]) == (1, 0, {"hangul_in_japanese": 1})


def test_glossary_terms_are_shown_and_must_be_used(call, chat, write, read, endpoint, server, tmp_path):
    (tmp_path / "names.yaml").write_text("사야: サヤ\n사야카: サヤカ\n비: アメ\n", encoding="utf-8")
    (tmp_path / "names.tsv").write_text("# 이름\n사야\t紗夜\n", encoding="utf-8")
    write("in.jsonl", chat('"사야, 가자."'))

    call("translate", "in.jsonl", "out.jsonl", *endpoint, "--glossary", "names.yaml")
    call("translate", "in.jsonl", "out2.jsonl", *endpoint, "--glossary", "names.tsv", "--max-attempts", 2)

    asked = [body["messages"][-1]["content"] for body in server.asked]
    assert "사야 → サヤ" in asked[0]
    assert "サヤカ" not in asked[0]
    assert "アメ" not in asked[0]
    assert read("out.jsonl")[0]["output"] == "サヤ, 行こう."
    assert read("out2.jsonl") == []  # the server does not know that reading
    assert {reject["reason"] for reject in read("out2.rejects.jsonl")} == {"glossary"}
    assert "'紗夜'" in asked[-1]
    for name, text in (("list.yaml", "- 사야\n"), ("bad.yaml", "a: [\n"), ("odd.tsv", "사야\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="--glossary"):
            call("translate", "in.jsonl", "x.jsonl", *endpoint, "--glossary", name)


def test_a_second_run_after_a_stop_asks_only_for_what_is_missing(call, chat, write, read, endpoint, server):
    write("in.jsonl", *(chat(f'"안녕, {number}."') for number in range(30)))

    with pytest.raises(BackendError, match="budget of"):
        call("translate", "in.jsonl", "out.jsonl", *endpoint, "--in-flight", 1, "--budget", "4k-tokens")
    before = len(server.asked)
    call("translate", "in.jsonl", "out.jsonl", *endpoint)

    assert 0 < before < 30
    assert len(server.asked) == 30
    assert [pair["input"] for pair in read("out.jsonl")] == [f"안녕, {number}." for number in range(30)]
