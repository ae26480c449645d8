"""What a user does wrong is told with file, line, what and what to do: exit 2; a full disk: exit 1, nothing half done."""

import json
import os
import subprocess
import sys

import pytest

from rplab.character import BUNDLED
from rplab.cli.main import main


def run(capsys, *arguments):
    """Exit code and stderr of a command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    return code, capsys.readouterr().err


GOOD = {"messages": [{"role": "user", "content": '"안녕?"'}, {"role": "assistant", "content": '사야는 웃는다.\n"응."'}]}


@pytest.mark.parametrize("command", ["normalise", "convert"])
def test_broken_line_stops_with_file_and_line_and_keeps_the_old_output(capsys, tmp_path, command):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    row = GOOD if command == "normalise" else {"system": "s", "user": "u", "assistant_raw": 'a\n"b"'}
    source.write_text(json.dumps(row) + '\n{"messages": [\n', encoding="utf-8")
    target.write_text("old")

    code, told = run(capsys, "data", command, source, target)

    assert code == 2
    assert f"{source}:2: not valid JSON" in told
    assert target.read_text() == "old"


def test_wrong_type_names_the_line_and_the_field(capsys, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(GOOD) + '\n{"messages": "안녕"}\n', encoding="utf-8")

    code, told = run(capsys, "data", "normalise", source, tmp_path / "out.jsonl")

    assert code == 2
    assert "in.jsonl:2:" in told
    assert "messages" in told


def test_missing_input_file(capsys, tmp_path):
    code, told = run(capsys, "data", "normalise", tmp_path / "nowhere.jsonl", tmp_path / "out.jsonl")

    assert code == 2
    assert "nowhere.jsonl: no such file" in told


def test_unknown_profile_key_names_file_key_and_nearest(capsys, tmp_path):
    code, told = run(capsys, "run", "--profile", "smoke", "--store", tmp_path, "--set", "data.dialogues.turnz=4")

    assert code == 2
    assert "smoke.yaml: unknown key data.dialogues.turnz; did you mean 'turns'" in told
    assert not any(tmp_path.iterdir())


def test_card_without_an_age(capsys, tmp_path):
    card = tmp_path / "card.yaml"
    lines = (BUNDLED / "saya.yaml").read_text(encoding="utf-8").splitlines()
    card.write_text("\n".join(line for line in lines if line != "age: 24"), encoding="utf-8")

    code, told = run(capsys, "run", "--store", tmp_path / "store", "--set", f"card={card}")

    assert code == 2
    assert f"{card}: age is missing; state an adult age" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["translate", "--model", "nowhere/model", "--text", "안녕"],
        ["run", "--set", "llm.base.source=nowhere/model", "--only", "base"],
    ],
    ids=["translate", "base"],
)
def test_missing_model_folder(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "run":
        small = ["data.singleturn.target_rows=8", "data.scenarios.count=4", "data.dialogues.turns=1"]
        arguments = [*arguments, *(part for value in small for part in ("--set", value))]
        for stage in ("singleturn", "normalise", "scenarios", "dialogues", "dataset"):
            assert run(capsys, "run", *(a for value in small for a in ("--set", value)), "--only", stage)[0] == 0

    code, told = run(capsys, *arguments)

    assert code == 2
    assert "nowhere/model" in told


def test_play_without_a_character_says_what_to_run(capsys, tmp_path):
    code, told = run(capsys, "play", "--store", tmp_path, "--text", "안녕")

    assert code == 2
    assert "rplab run" in told


def test_unknown_stage_and_missing_inputs_of_only(capsys, tmp_path):
    assert run(capsys, "run", "--store", tmp_path, "--only", "sft9")[0] == 2
    code, told = run(capsys, "run", "--store", tmp_path, "--only", "sft2")

    assert code == 2
    assert "--only sft2: its input 'singleturn' is not in" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_is_exit_1_with_the_remedy_and_nothing_half_published(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("this machine cannot mount a small disk")
    try:
        command = [sys.executable, "-m", "rplab.cli.main", "run", "--store", str(disk / "store"), "--only", "singleturn"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        published = [path for path in (disk / "store" / "singleturn").iterdir() if not path.name.startswith(".")]
    finally:
        subprocess.run(["umount", disk], check=True)

    assert result.returncode == 1, result.stderr
    assert "the disk is full" in result.stderr
    assert "run the same command again" in result.stderr
    assert published == []
    assert "Traceback" not in result.stderr
