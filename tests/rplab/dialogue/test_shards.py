"""Shards merged are the run that did everything itself, byte by byte; what does not belong together is refused."""

import argparse
import json
import re

import pytest

from rplab.cli import data_generate
from rplab.errors import BackendError, ConfigError, DataError

FAULTS = ("--backend-set", "p_error=0.1", "--backend-set", "p_broken_json=0.1", "--backend-set", "p_wrong_format=0.05")


def _call(*argv):
    parser = argparse.ArgumentParser()
    data_generate.register(parser.add_subparsers(required=True))
    arguments = parser.parse_args([str(part) for part in argv])
    return arguments.handler(arguments)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty folder, so that file names are short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _same(folder, first, second):
    sides = ("jsonl", "rejects.jsonl", "partial.jsonl")
    pairs = [(folder / f"{first}.{side}", folder / f"{second}.{side}") for side in sides]
    assert [a.exists() for a, _ in pairs] == [b.exists() for _, b in pairs]
    return all(a.read_bytes() == b.read_bytes() for a, b in pairs if a.exists())


@pytest.mark.parametrize("count", [2, 5])
def test_shards_of_rows_merge_to_the_whole_run_though_rows_were_lost(folder, count):
    settings = ("--target-rows", 60, "--max-attempts", 2, *FAULTS)
    _call("singleturn", "--out", "whole.jsonl", *settings)
    for number in range(count, 0, -1):
        _call("singleturn", "--out", f"part{number}.jsonl", *settings, "--shard", f"{number}/{count}")

    _call("merge-shards", *(f"part{number}.jsonl" for number in range(1, count + 1)), "--out", "merged.jsonl", "--in-flight", 3)

    assert _same(folder, "whole", "merged")
    rows = [json.loads(line)["meta"]["index"] for line in (folder / "merged.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 60
    assert max(rows) >= 60  # some were lost, others took their place
    part = [json.loads(line)["meta"]["index"] for line in (folder / "part2.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {index % count for index in part} == {1}


def test_shards_of_scenarios_and_dialogues_merge_to_the_whole_run(folder):
    _call("scenarios", "--out", "s.jsonl", "--samples", 12, *FAULTS)
    _call("dialogues", "--out", "d.jsonl", "--scenarios", "s.jsonl", "--turns", 2, *FAULTS)
    for number in (1, 2, 3):
        _call("scenarios", "--out", f"s{number}.jsonl", "--samples", 12, *FAULTS, "--shard", f"{number}/3")
        _call("dialogues", "--out", f"d{number}.jsonl", "--scenarios", "s.jsonl", "--turns", 2, *FAULTS, "--shard", f"{number}/3")

    _call("merge-shards", "s1.jsonl", "s2.answers.jsonl", "s3.jsonl", "--out", "sm.jsonl")
    _call("merge-shards", "d1.jsonl", "d2.jsonl", "d3.jsonl", "--scenarios", "s.jsonl", "--out", "dm.jsonl")

    assert _same(folder, "s", "sm")
    assert _same(folder, "d", "dm")


def test_what_is_no_complete_set_of_shards_is_refused(folder):
    for number in (1, 2):
        _call("singleturn", "--out", f"p{number}.jsonl", "--target-rows", 8, "--shard", f"{number}/2")
    _call("singleturn", "--out", "other.jsonl", "--target-rows", 9, "--shard", "2/2")
    _call("singleturn", "--out", "third.jsonl", "--target-rows", 8, "--shard", "2/3")

    for parts, message in (
        (["p1.jsonl"], "shard 2/2 is missing"),
        (["p1.jsonl", "other.jsonl"], "differ in config"),
        (["p1.jsonl", "third.jsonl"], "third.answers.jsonl is shard 2/3"),
        (["p1.jsonl", "./p1.jsonl"], "shard 2/2 is missing"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            _call("merge-shards", *parts, "--out", "m.jsonl")
    with pytest.raises(DataError, match=r"none\.answers\.jsonl: no such file"):
        _call("merge-shards", "none.jsonl", "p1.jsonl", "--out", "m.jsonl")
    with pytest.raises(ConfigError, match="4/3"):
        _call("singleturn", "--out", "p.jsonl", "--shard", "4/3")
    answers = folder / "p2.answers.jsonl"
    answers.write_text(answers.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(DataError, match="a damaged line"):
        _call("merge-shards", "p1.jsonl", "p2.jsonl", "--out", "m.jsonl")
    assert not (folder / "m.jsonl").exists()


def test_an_estimate_runs_a_pilot_that_the_run_goes_on_from(folder, capsys):
    assert _call("singleturn", "--out", "rows.jsonl", "--target-rows", 40, "--estimate", 10, "--json", *FAULTS) == 0

    shown = json.loads(capsys.readouterr().out)
    tokens = shown["estimate"]["tokens"]
    assert shown["num_items"] >= 10
    assert tokens["low"] < tokens["expected"] < tokens["high"]
    assert not (folder / "rows.jsonl").exists()
    assert (folder / ".rows.jsonl.resume" / "singleturn.journal").read_bytes().count(b"\n") >= 10
    _call("singleturn", "--out", "rows.jsonl", "--target-rows", 40, *FAULTS)
    assert not (folder / ".rows.jsonl.resume").exists()
    capsys.readouterr()
    _call("singleturn", "--out", "fresh.jsonl", "--target-rows", 40, *FAULTS, "--json")
    assert _same(folder, "rows", "fresh")
    usage = json.loads(capsys.readouterr().out)["stats"]["usage"]["singleturn"]
    assert tokens["low"] <= usage["prompt_tokens"] + usage["completion_tokens"] <= tokens["high"]
    with pytest.raises(ConfigError, match="2 items or more"):
        _call("singleturn", "--out", "rows2.jsonl", "--estimate", 1)


@pytest.mark.parametrize(("text", "message"), [("0", "more than nothing"), ("much", "must look like"), ("5", "costs nothing")])
def test_a_budget_that_makes_no_sense_is_refused(folder, text, message):
    with pytest.raises(ConfigError, match=message):
        _call("singleturn", "--out", "rows.jsonl", "--budget", text, *(("--backend", "openai") if text != "5" else ()))


def test_a_run_without_good_answers_says_why(folder):
    with pytest.raises(BackendError, match=r"only 0 of 4 rows were good enough after .* items \(empty_answer"):
        _call("singleturn", "--out", "rows.jsonl", "--target-rows", 4, "--max-attempts", 1, "--backend-set", "p_empty=1")
