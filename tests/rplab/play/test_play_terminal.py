"""The real terminal, driven through a pty as a player's keyboard would: Korean, barge-in, regen, branch, save, quit, resume."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from prompt_toolkit.utils import get_cwidth
from rich.console import Console

from rplab.play.events import Delta, Heard, Notice, Spoken, Translated
from rplab.play.status_bar import describe_status
from rplab.play.terminal import CommandCompleter
from rplab.play.terminal_screen import TerminalScreen, split_cells, wrap_cells

ROOT = Path(__file__).parents[3]
_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>()][0-9A-B]?)")


class Player:
    """A pseudo-terminal with `flows/play.py` in it."""

    def __init__(self, *arguments, rows=30, columns=90, **environment):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "LC_ALL", "LANG")}
        env = {**plain, "RPLAB_LANG": "ko", "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "OMP_NUM_THREADS": "1", **environment}
        command = [sys.executable, str(ROOT / "flows" / "play.py"), *map(str, arguments)]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # else Ctrl-C between two prompts would be a signal to nobody
        )
        os.close(slave)
        self.raw = b""

    @property
    def text(self):
        return _CONTROL.sub("", self.raw.decode("utf-8", "replace"))

    def read(self, seconds=0.1):
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.raw += os.read(self.master, 65536)
            except OSError:  # the other side is closed
                time.sleep(seconds)

    def wait_for(self, words, *, times=1, timeout_s=120.0):
        end = time.monotonic() + timeout_s
        while self.text.count(words) < times:
            assert time.monotonic() < end, f"no {words!r} in:\n{self.text[-3000:]}"
            assert self.process.poll() is None or words in self.text, self.text[-3000:]
            self.read()
        return time.monotonic() - self.started

    def press(self, keys):
        os.write(self.master, keys.encode())

    def type(self, line):
        self.press(line)
        self.wait_for(line.split()[-1])
        self.press("\r")

    def end(self):
        end = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
        os.close(self.master)
        return self.process.wait(1)


@pytest.mark.slow
def test_an_evening_at_the_keyboard(character_store):
    first = Player("--store", character_store, "--session", "evening", "--sink", "null")
    prompt_s = first.wait_for("나> ")
    loading = first.text
    first.wait_for("못 오는 줄 알았어")
    first.type("안녕? 비가 온다")
    first.wait_for("心配したよ。")
    first.type("/다시")
    first.wait_for("답변 2/2")
    first.type("/가지 비밤")
    first.wait_for("'비밤'")
    first.type("/넘기기 1")
    first.wait_for("답변 1/2")
    first.type("/저장")
    first.wait_for("evening.sqlite3")
    first.press("\x03")
    first.wait_for("멈췄습니다")
    first.type("/통계")
    first.wait_for("언더런 0회")
    first.type("/끝")
    assert first.end() == 0

    second = Player("--store", character_store, "--session", "evening", "--sink", "null")
    second.wait_for("1번의 대화를 이어 갑니다")
    second.wait_for("[1] 안녕? 비가 온다")
    second.type("/이동 비밤")
    second.wait_for("[2] 안녕? 비가 온다")
    second.press("\x03")
    second.wait_for("멈췄습니다")
    second.press("\x03")
    assert second.end() == 0
    assert "Traceback" not in first.text + second.text
    assert "왔구나" not in loading, "the prompt is there before the models"
    assert prompt_s < 20  # 1.5 s here; the bound only says that it does not wait for the models on a slow machine


class Voice:
    name, sample_rate, restarts = "mei", 8000, 2


class Sink:
    name, buffered_s = "null", 3.0


class Session:
    def __init__(self, **fields):
        self.metrics, self.engines, self.config = [], self, self
        self.voice, self.sink, self.speak, self.max_buffered_s = Voice(), Sink(), True, 12.0
        self.__dict__.update(fields)


def test_status_bar_tells_what_is_loaded_spoken_and_broken(monkeypatch):
    monkeypatch.setattr("rplab.l10n.is_korean", lambda: True)

    def text(session, speaking="", heard=0.0):
        return "".join(piece for _, piece in describe_status(session, speaking, heard))

    assert "불러오는 중" in text(None)
    assert text(Session()) == "준비됨 · 버퍼 ▮▮▯▯▯▯ · mei → null (음성 재시작 2)"
    assert "음소거" in text(Session(speak=False))
    assert "소리 없음" in text(Session(sink=None))
    pieces = describe_status(Session(), "来たんだね", 0.4)
    assert pieces[3:5] == [("class:heard", "来た"), ("", "んだね")]


def shown(*events, **options):
    out = io.StringIO()
    screen = TerminalScreen(console=Console(file=out, width=40, **options))
    screen.columns = 20
    for event in events:
        screen.show(event)
    return screen, out


def test_subtitles_and_notices_wait_until_the_line_is_complete():
    screen, out = shown(
        Delta("narration", "사야는 웃는다.\n"), Delta("dialogue", '"왔'), Translated("왔구나.", "来た。", 0), Notice("voice", "고장")
    )

    assert out.getvalue() == "사야는 웃는다.\n"
    assert "".join(text for _, text in screen.message()).endswith('"왔\n' + screen.message()[-1][1])
    screen.show(Delta("dialogue", '구나."'))
    screen.end_text()
    assert out.getvalue().splitlines()[1:3] == ['"왔구나."', "  来た。"]
    assert "고장" in out.getvalue()


def test_long_line_moves_up_row_by_row_so_that_the_prompt_stays_in_view():
    screen, out = shown(*[Delta("dialogue", "가나다라마") for _ in range(40)])

    rows = "".join(text for _, text in screen.message()[:-1]).split("\n")
    assert len(rows) <= 7
    assert all(get_cwidth(row) <= 20 for row in rows)
    screen.end_text()
    assert out.getvalue().replace("\n", "") == "가나다라마" * 40


@pytest.mark.parametrize("columns", [2, 3, 7, 20])
def test_wide_characters_are_never_cut_in_half(columns):
    pieces = [("narration", "a사야b는"), ("dialogue", "웃c었다")]

    rows = "".join(text for _, text in wrap_cells(pieces, columns)).split("\n")
    row, rest = split_cells(pieces, columns)

    assert "".join(rows) == "a사야b는웃c었다"
    assert all(get_cwidth(row) <= columns for row in rows)
    assert "".join(text for _, text in [*row, *rest]) == "a사야b는웃c었다"


def test_what_is_spoken_is_followed_and_forgotten():
    screen, _ = shown(Spoken("来た。", 1.0), Spoken("雨だ。", 1.0))
    assert screen.speaking == "来た。"

    screen.show(Heard("비가 와.", "雨だ。", 0.5))
    assert (screen.speaking, screen.heard) == ("雨だ。", 0.5)
    screen.end_turn()
    assert screen.speaking == ""


def test_no_color_leaves_plain_text(monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    screen = TerminalScreen()

    screen.show(Delta("dialogue", "왔구나."))
    screen.end_text()
    screen.info("알림")

    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", capsys.readouterr().out)


def test_slash_commands_and_their_words_are_completed():
    from prompt_toolkit.document import Document

    from rplab.play import commands_show, commands_story

    completer = CommandCompleter()
    assert list(completer.get_completions(Document("/"), None)) == []
    completer.commands = [*commands_story.commands(), *commands_show.commands()]

    def offered(text):
        return {completion.text for completion in completer.get_completions(Document(text), None)}

    assert offered("/re") == {"/regen"}
    assert "/다시" in offered("/")
    assert offered("/export s") == {"srt"}
    assert offered("안녕") == set()
