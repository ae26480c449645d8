"""`rplab llm`: plain folders in, a whole folder out, errors with exit code 2."""

import io
import json

import pytest

from rplab.cli import llm


@pytest.fixture
def rplab(monkeypatch):
    """Runs `rplab llm ...` and returns the exit code."""
    import argparse
    import signal
    import sys

    from rplab.errors import LabError

    monkeypatch.setenv("RPLAB_LANG", "en")

    def run(*arguments):
        parser = argparse.ArgumentParser()
        llm.register(parser.add_subparsers(required=True))
        before = signal.getsignal(signal.SIGTERM)
        try:
            parsed = parser.parse_args(["llm", *map(str, arguments)])
            return parsed.handler(parsed)
        except LabError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        finally:
            signal.signal(signal.SIGTERM, before)

    return run


@pytest.mark.parametrize("command", ["sft", "merge", "grpo", "eval", "chat"])
def test_help_shows_an_example(rplab, capsys, command):
    with pytest.raises(SystemExit, match="0"):
        rplab(command, "--help")
    assert "example: rplab llm" in capsys.readouterr().out


@pytest.mark.slow
def test_sft_from_plain_files_then_merge_then_chat(rplab, capsys, tmp_path, toy, tiny):
    views = toy / "views" / "sft1"
    settings = ["lora.rank=4", "max_length=512", "max_steps=2", "optimiser.learning_rate=1e-3", "precision=bf16"]
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"

    data = ["--train", views / "train.jsonl", "--eval", views / "eval.jsonl"]
    code = rplab("sft", "--base", tiny, *data, "--out", adapter, *(f"--set={setting}" for setting in settings), "--json")
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["stats"]["steps"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]

    assert rplab("merge", "--base", tiny, "--adapter", adapter, "--out", merged) == 0
    assert "rel_l2" in capsys.readouterr().out

    said = ["--system", "「사야」", "--temperature", "0", "--max-new-tokens", "12"]
    assert rplab("chat", "--model", merged, *said, "--text", "비가 오네.", "--json") == 0
    from_merged = json.loads(capsys.readouterr().out)["replies"]
    assert rplab("chat", "--model", tiny, "--adapter", adapter, *said, "--text", "비가 오네.", "--json") == 0
    assert len(from_merged) == len(json.loads(capsys.readouterr().out)["replies"]) == 1


def test_chat_reads_lines_resets_and_ends(rplab, capsys, monkeypatch, tiny):
    monkeypatch.setattr("sys.stdin", io.StringIO("비가 오네.\n/reset\n비가 오네.\nexit\n같이 걸을래?\n"))

    code = rplab("chat", "--model", tiny, "--system", "「사야」", "--temperature", "0", "--max-new-tokens", "8")

    out = capsys.readouterr().out
    assert code == 0
    half = len(out) // 2
    assert out
    assert out[:half] == out[half:]  # after /reset the same line gets the same answer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sft", "--base", "nowhere", "--dataset", "{toy}", "--out", "{out}"], "no such model folder"),
        (["sft", "--base", "{tiny}", "--out", "{out}"], "give --dataset FOLDER"),
        (["sft", "--base", "{tiny}", "--dataset", "{toy}", "--out", "{out}", "--set", "learning_rate=1"], "learning_rate"),
        (["sft", "--base", "{tiny}", "--dataset", "{toy}", "--out", "{toy}"], "exists already"),
        (["merge", "--base", "{tiny}", "--adapter", "{tiny}", "--out", "{out}"], "adapter_config.json"),
        (["eval", "--dataset", "{toy}", "--out", "{out}"], "at least one of"),
        (["chat", "--store", "{out}"], "no model yet"),
        (["chat", "--model", "{tiny}", "--json"], "needs --text"),
        (["chat", "--model", "{tiny}", "--top-p", "3", "--text", "x"], "--top-p"),
    ],
)
def test_bad_usage_says_what_to_do(rplab, capsys, tmp_path, toy, tiny, arguments, message):
    places = {"toy": toy, "tiny": tiny, "out": tmp_path / "out"}

    code = rplab(*(str(argument).format(**places) for argument in arguments))

    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_a_preset_reports_without_training(rplab, capsys, toy, tiny):
    code = rplab("sft", "--base", str(tiny), "--dataset", str(toy), "--preset", "single-16gb", "--dry-run", "--json")

    assert code == 0
    report = json.loads(capsys.readouterr().out)
    assert report["dry_run"]
    assert report["stats"]["train_rows"]["kept"] == 240
    assert rplab("sft", "--base", str(tiny), "--dataset", str(toy)) != 0
    assert "--out FOLDER" in capsys.readouterr().err
