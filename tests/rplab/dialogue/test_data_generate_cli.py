"""`rplab data singleturn|scenarios|dialogues|pack`, and what SIGKILL does to them."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from rplab.cli import data_generate, data_pack
from rplab.errors import ConfigError, DataError


def _call(*argv):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    data_generate.register(commands)
    data_pack.register(commands)
    arguments = parser.parse_args([str(part) for part in argv])
    return arguments.handler(arguments)


def test_singleturn_makes_the_file_and_says_what_it_did(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"

    assert _call("singleturn", "--out", out, "--target-rows", 12, "--card", "saya", "--backend-set", "p_empty=0.3", "--json") == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown["stats"]["accepted"] == len(out.read_text(encoding="utf-8").splitlines()) == 12
    assert shown["side_files"] == [str(tmp_path / "rows.rejects.jsonl")]
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["rows.jsonl", "rows.rejects.jsonl"]


def test_scenarios_then_dialogues(tmp_path, capsys):
    scenarios, out = tmp_path / "s.jsonl", tmp_path / "d.jsonl"

    assert _call("scenarios", "--pack", "v7", "--samples", 6, "--out", scenarios) == 0
    assert _call("dialogues", "--pack", "v7", "--scenarios", scenarios, "--out", out, "--turns", 2) == 0

    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [len(row["turns"]) for row in rows] == [2] * 6
    assert "planned 6 = accepted 6 + rejected 0 + failed 0" in capsys.readouterr().out


def test_bad_input_is_a_clear_error_and_leaves_nothing(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "x"}\n', encoding="utf-8")
    out = tmp_path / "d.jsonl"

    with pytest.raises(DataError, match=f"{bad}:1: "):
        _call("dialogues", "--scenarios", bad, "--out", out)
    with pytest.raises(DataError, match="no such file"):
        _call("dialogues", "--scenarios", tmp_path / "none.jsonl", "--out", out)
    with pytest.raises(ConfigError, match="no bundled card"):
        _call("singleturn", "--out", out, "--card", "nobody")
    with pytest.raises(ConfigError, match="latency_ms"):
        _call("singleturn", "--out", out, "--backend-set", "latency_ms=soon")
    with pytest.raises(ConfigError, match="is a directory"):
        _call("singleturn", "--out", tmp_path)
    with pytest.raises(ConfigError, match="must look like"):
        _call("singleturn", "--out", out, "--backend-set", "latency")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl"]


def test_pack_commands(capsys):
    assert _call("pack", "check", "v7", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert _call("pack", "check", "v6") == 0
    assert "12 relation states, 14 action states, 0 errors" in capsys.readouterr().out
    assert _call("pack", "simulate", "v7", "--dialogues", 200) == 0
    assert "coverage 100%" in capsys.readouterr().out
    assert _call("pack", "graph", "v7", "--machine", "action") == 0
    assert capsys.readouterr().out.startswith("stateDiagram-v2\n    [*] --> EVENT")


PROGRAM = """
import argparse, os, sys
from rplab.backend.scripted.model import ScriptedBackend
from rplab.cli import data_generate
from rplab.text import speech_level
speech_level._level_by_morphemes = lambda clause, trails_off: speech_level.Level.UNKNOWN
calls = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
before = ScriptedBackend.complete
async def complete(self, request):
    os.write(calls, (request.key + "\\n").encode())
    return await before(self, request)
ScriptedBackend.complete = complete
parser = argparse.ArgumentParser()
data_generate.register(parser.add_subparsers(required=True))
arguments = parser.parse_args(sys.argv[2:])
sys.exit(arguments.handler(arguments))
"""
"""The command with every request noted down before it is sent, and without Kiwi (seconds to load in each process)."""

IN_FLIGHT = 16


def _start(calls, *argv, latency_ms=20):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(calls),
        *map(str, argv),
        "--in-flight",
        str(IN_FLIGHT),
        "--backend-set",
        f"latency_ms={latency_ms}",
    ]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _sent(calls):
    return calls.read_bytes().count(b"\n") if calls.exists() else 0


def _wait_for(process, calls, sent):
    """Wait until the process has sent that many requests."""
    while _sent(calls) < sent:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def _kill_often(calls, out, kills, rng, *argv):
    """Run the command, SIGKILL it `kills` times while it sends requests, let it finish; return the requests sent."""
    for _ in range(kills):
        enough = _sent(calls) + rng.randint(1, 90)
        process = _start(calls, *argv)
        _wait_for(process, calls, enough)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = _start(calls, *argv)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    assert not out.with_name(f".{out.name}.resume").exists()
    return calls.read_text(encoding="utf-8").split()


@pytest.mark.parametrize("command", ["singleturn", "dialogues"])
def test_sigkill_at_random_moments_changes_nothing(tmp_path, command):
    rng = random.Random(command)
    faults = ("--backend-set", "p_empty=0.05", "--backend-set", "p_error=0.05")
    if command == "singleturn":
        argv = ("singleturn", "--target-rows", 300, *faults)
    else:
        assert _call("scenarios", "--samples", 48, "--out", tmp_path / "s.jsonl") == 0
        argv = ("dialogues", "--scenarios", tmp_path / "s.jsonl", *faults)
    whole = tmp_path / "whole.jsonl"
    _kill_often(tmp_path / "calls_whole", whole, 0, rng, *argv, "--out", whole)

    out, kills = tmp_path / "killed.jsonl", 2
    sent = _kill_often(tmp_path / "calls", out, kills, rng, *argv, "--out", out)

    assert out.read_bytes() == whole.read_bytes()
    assert out.with_name("killed.rejects.jsonl").read_bytes() == whole.with_name("whole.rejects.jsonl").read_bytes()
    again = Counter(sent).total() - len(set(sent))
    assert again <= kills * IN_FLIGHT


def test_sigterm_stops_cleanly_and_resumes(tmp_path):
    out = tmp_path / "rows.jsonl"
    argv = ("singleturn", "--target-rows", 300, "--out", out)
    process = _start(tmp_path / "calls", *argv)
    _wait_for(process, tmp_path / "calls", 30)
    process.terminate()
    _, errors = process.communicate(timeout=30)

    assert process.returncode != 0
    assert b"StageInterrupted" in errors  # main.py turns it into exit 130
    assert not out.exists()
    assert _call(*argv) == 0
    assert not list(tmp_path.glob(".*.resume"))


def test_two_commands_on_one_output_do_not_mix(tmp_path):
    out = tmp_path / "rows.jsonl"
    argv = ("singleturn", "--target-rows", 300, "--out", out)
    first = _start(tmp_path / "calls", *argv, latency_ms=250)
    _wait_for(first, tmp_path / "calls", 1)
    second = _start(tmp_path / "calls2", *argv)
    _, errors = second.communicate(timeout=60)
    first.communicate(timeout=60)

    assert (first.returncode, second.returncode) == (0, 1)
    assert b"another process is writing this output" in errors
    assert len(out.read_text(encoding="utf-8").splitlines()) == 300


def test_a_finished_run_asks_nothing_again_unless_forced(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    argv = ("singleturn", "--target-rows", 20, "--backend-set", "p_empty=0.2", "--out", out)
    _finish(tmp_path / "first", *argv)
    made, rejects = out.read_bytes(), out.with_name("rows.rejects.jsonl").read_bytes()

    _finish(tmp_path / "again", *argv)
    assert _sent(tmp_path / "again") == 0
    assert (out.read_bytes(), out.with_name("rows.rejects.jsonl").read_bytes()) == (made, rejects)
    capsys.readouterr()
    assert _call(*argv, "--json") == 0
    assert json.loads(capsys.readouterr().out)["before"] is True

    _finish(tmp_path / "forced", *argv, "--force")
    assert _sent(tmp_path / "forced") == _sent(tmp_path / "first")
    assert out.read_bytes() == made
    _finish(tmp_path / "other seed", *argv, "--seed", 7)
    assert _sent(tmp_path / "other seed") > 0
    assert out.read_bytes() != made

    out.write_bytes(out.read_bytes()[:-20])  # somebody changed the file: it is made again
    _finish(tmp_path / "damaged", *argv, "--seed", 7)
    assert _sent(tmp_path / "damaged") > 0


def _finish(calls, *argv):
    process = _start(calls, *argv, latency_ms=0)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
