"""Conversations on disk: a tree from which nothing is lost, whatever happens to the process, the disk or the file."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.errors import ConfigError, StorageError
from rplab.play.archive import Archive
from rplab.play.chronicle import OutcomeLine, TurnOutcome
from rplab.play.history import Exchange
from rplab.play.prompt import World
from rplab.play.sessions import list_sessions, open_session
from rplab.play.timeline import Timeline
from rplab.play.tree import ROOT, Node, Tree

ROOT_FOLDER = Path(__file__).parents[3]
WORLD = World("너는 사야다.", "사야", "카즈키")


def start(folder=None, name="one"):
    return Timeline(WORLD, open_session(folder, name, "사야") if folder else None)


def say(timeline, *texts):
    return [timeline.commit(text, f"{text}!", complete=True) for text in texts]


def test_replies_drawn_again_edits_and_branches_stay_in_the_tree(tmp_path):
    timeline = start(tmp_path)
    first, second = say(timeline, "안녕", "뭐 해?")
    timeline.goto(first)
    third = timeline.commit("뭐 해?", "책을 읽어.", complete=True)
    written = timeline.write_reply("아무것도 안 해.").id
    timeline.name_place("갈림길")
    timeline.goto(second)
    (fourth,) = say(timeline, "잘 자")
    timeline.close()

    again = start(tmp_path)

    assert [node.id for node in again.tree.path()] == [first, second, fourth]
    assert again.tree.swipes(second) == [second, third, written]
    assert again.tree[written].origin == "written"
    assert again.tree.names == {"갈림길": written}
    assert again.tree.tips() == [third, written, fourth]
    assert again.attempt == 0
    again.close()


def test_outcome_of_a_turn_comes_back_and_the_model_sees_what_was_heard(tmp_path):
    timeline = start(tmp_path)
    (node,) = say(timeline, "안녕")
    line = OutcomeLine("왔구나.", "来たんだね。", "happy", 1.5, 0.4)
    timeline.finish(node, TurnOutcome((line,), "왔…", {"ttft_s": 0.1}, ("소리 없음",)))
    timeline.close()

    again = start(tmp_path)

    assert again.exchanges == [Exchange("안녕", "왔…")]
    assert again.tree[node].reply == "안녕!"
    assert again.tree[node].lines[0]["ja"] == "来たんだね。"
    assert (again.tree[node].metrics, again.tree[node].notices) == ({"ttft_s": 0.1}, ["소리 없음"])
    again.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=4), st.integers(0, 30)), max_size=30))
def test_any_walk_through_the_tree_keeps_every_exchange(steps):
    timeline = start()
    said = []
    for step in steps:
        if isinstance(step, str):
            said.append((timeline.commit(step, "응", complete=True), step))
        else:
            timeline.goto(step % (len(timeline.tree) + 1) or None)

    assert [(node.id, node.user) for node in timeline.tree] == said
    for node in timeline.tree:
        assert timeline.tree.path(node.id)[-1] is node
        assert node.id in timeline.tree.swipes(node.id)
        assert timeline.tree.tip(node.id) in timeline.tree.tips()


def test_process_that_is_killed_loses_at_most_the_turn_in_flight(tmp_path):
    code = """
import sys
from pathlib import Path
from rplab.play.prompt import World
from rplab.play.sessions import open_session
from rplab.play.timeline import Timeline
timeline = Timeline(World("", "사야", "카즈키"), open_session(Path(sys.argv[1]), "one", "사야"))
for index in range(100000):
    timeline.commit(f"말 {index}", "응", complete=True)
    print(index, flush=True)
"""
    known = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True, cwd=ROOT_FOLDER)
        last = [int(process.stdout.readline()) for _ in range(40)][-1]
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        last = max([last, *(int(number) for number in rest)])

        timeline = start(tmp_path)
        users = [node.user for node in timeline.tree]
        assert f"말 {last}" in users[known:]
        known = len(users)
        assert timeline.tree.path()[-1].id == len(users)
        assert timeline.archive.salvaged is None
        timeline.close()


def test_full_disk_is_told_once_and_everything_is_saved_later(tmp_path):
    timeline = start(tmp_path)
    say(timeline, "안녕")
    connection = timeline.archive._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")

    long = ["긴 말" * 400] * 200
    with pytest.raises(StorageError, match="disk is full"):
        say(timeline, *long)
    during = len(timeline.tree)
    say(timeline, *["더"] * 5)  # told already: the conversation goes on without another word
    assert timeline.archive.num_pending > 5

    connection.execute("PRAGMA max_page_count = 1000000")
    say(timeline, "다시")
    assert timeline.archive.num_pending == 0
    timeline.close()
    again = start(tmp_path)
    assert len(again.tree) == during + 6
    assert again.tree.path()[-1].user == "다시"
    again.close()


@pytest.mark.parametrize("damage", ["garbage", "header", "middle", "cut", "empty"])
def test_damaged_file_is_set_aside_and_play_goes_on(tmp_path, damage):
    timeline = start(tmp_path)
    say(timeline, *[f"말 {index} " + "가" * 300 for index in range(60)])
    timeline.close()
    path = tmp_path / "one.sqlite3"
    data = path.read_bytes()
    broken = {
        "garbage": b"not a database at all" * 100,
        "header": b"\0" * 100 + data[100:],
        "middle": data[: len(data) // 2] + b"\xff" * 4096 + data[len(data) // 2 + 4096 :],
        "cut": data[: len(data) // 2 + 123],
        "empty": b"",
    }[damage]
    path.write_bytes(broken)

    again = start(tmp_path)
    aside = again.archive.salvaged
    say(again, "계속")
    kept = len(again.tree)
    again.close()

    if damage == "empty":  # an empty file is a session that has not begun
        assert aside is None
    else:
        assert aside is not None
        assert aside.read_bytes()[: len(broken)] == broken
        assert ".damaged-" in aside.name
    if damage == "middle":
        assert kept > 10
    third = start(tmp_path)
    assert third.tree.path()[-1].user == "계속"
    assert third.archive.salvaged is None
    assert [entry.session_id for entry in list_sessions(tmp_path)] == ["one"]
    third.close()


def test_session_is_open_in_one_window_at_a_time(tmp_path):
    timeline = start(tmp_path)

    with pytest.raises(ConfigError, match="another window"):
        start(tmp_path)

    timeline.close()
    start(tmp_path).close()


def test_session_of_a_later_version_is_left_alone(tmp_path):
    start(tmp_path).close()
    with sqlite3.connect(tmp_path / "one.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(ConfigError, match="newer version"):
        start(tmp_path)


def test_json_lines_session_is_taken_over_with_its_branches(tmp_path):
    rows = [
        {"type": "session", "version": 1, "id": "old"},
        {"type": "turn", "user": "안녕", "reply": "응", "replaces": False, "complete": True, "at": "2026-01-01"},
        {"type": "speech", "japanese": ["うん"], "metrics": {"ttft_s": 1}, "notices": []},
        {"type": "turn", "user": "안녕", "reply": "왔구나", "replaces": True, "complete": True, "at": ""},
        {"type": "turn", "user": "또", "reply": "그래", "replaces": False, "complete": False, "at": ""},
        {"type": "undo"},
        {"type": "turn", "user": "잘 자", "reply": "너도", "replaces": False, "complete": True, "at": ""},
    ]
    old = tmp_path / "old.jsonl"
    old.write_text("\n".join(json.dumps(row) for row in rows) + '\n{"type": "turn", "us', encoding="utf-8")
    before = old.read_bytes()
    assert [(entry.session_id, entry.num_turns) for entry in list_sessions(tmp_path)] == [("old", 4)]

    timeline = start(tmp_path, "old")

    assert [exchange.reply for exchange in timeline.exchanges] == ["왔구나", "너도"]
    assert timeline.tree.swipes(1) == [1, 2]
    assert timeline.tree.children(2) == [3, 4]
    assert timeline.tree[1].lines[0]["ja"] == "うん"
    assert old.read_bytes() == before
    timeline.close()
    again = start(tmp_path, "old")
    assert len(again.tree) == 4
    again.close()


def test_list_names_the_latest_first_and_says_what_cannot_be_read(tmp_path):
    for index, name in enumerate(("하나", "two")):
        timeline = start(tmp_path, name)
        say(timeline, *["안녕"] * (index + 1))
        timeline.close()
        os.utime(tmp_path / f"{name}.sqlite3", (index, index))
    (tmp_path / "bad.sqlite3").write_bytes(b"nonsense" * 200)

    entries = {entry.session_id: entry for entry in list_sessions(tmp_path)}

    assert list(entries) == ["bad", "two", "하나"]
    assert entries["bad"].problem
    assert (entries["two"].num_turns, entries["two"].character, entries["two"].last) == (2, "사야", "안녕")


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a.b", "x" * 65])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="session id"):
        start(tmp_path, name)


def test_copy_under_another_name_is_a_conversation_of_its_own(tmp_path):
    timeline = start(tmp_path)
    say(timeline, "안녕")
    timeline.archive.copy_to(tmp_path / "two.sqlite3", "two")
    say(timeline, "또")
    timeline.close()

    copy = start(tmp_path, "two")

    assert [exchange.user for exchange in copy.exchanges] == ["안녕"]
    assert dict(copy.archive.rows("meta"))["id"] == "two"
    copy.close()


def test_tree_puts_right_what_a_damaged_file_left():
    nodes = [Node(1, ROOT, "a", "b"), Node(5, 3, "c", "d")]

    tree = Tree(nodes, head=4, names={"x": 1, "y": 9})

    assert [node.id for node in tree.path()] == [1, 5]
    assert tree.names == {"x": 1}
    assert replace(tree[5], parent=3).parent == 3


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="file"):
        Archive(tmp_path / "file" / "one.sqlite3")
