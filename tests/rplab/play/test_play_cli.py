"""`rplab play` as a user meets it: one turn, lines through a pipe, a terminal, and everything that may be missing."""

import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from rplab.cli import play as command
from rplab.cli.main import main
from rplab.cli.play_session import load_session
from rplab.errors import AudioError
from rplab.play.conversation import Conversation
from rplab.play.terminal import Terminal
from rplab.play.terminal_screen import TerminalScreen
from rplab.tts.signal import rms_dbfs
from rplab.tts.wav import read_wav

ROOT = Path(__file__).parents[3]
REPLY = '사야는 창밖을 보다가 고개를 든다.\n"왔구나. 비가 와서 걱정했어."'


@pytest.fixture(autouse=True)
def _quiet_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RPLAB_LANG", "ko")
    monkeypatch.setattr("rplab.l10n.is_korean", lambda: True)


def run(store, *arguments):
    return main(["play", "--store", str(store), *arguments])


def test_one_turn_through_the_flow_file_prints_one_json_object_and_speaks_japanese(character_store, tmp_path):
    wav = tmp_path / "new" / "out.wav"
    arguments = ["--store", character_store, "--text", "안녕?", "--wav", wav, "--json"]

    done = subprocess.run(
        [sys.executable, ROOT / "flows" / "play.py", *arguments],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["text"] == REPLY
    assert result["narration"] == "사야는 창밖을 보다가 고개를 든다."
    assert result["dialogue_ko"] == "왔구나. 비가 와서 걱정했어."
    assert result["dialogue_ja"] == "来たんだね。雨だから心配したよ。"
    assert result["notices"] == []
    assert result["metrics"]["ttft_s"] < result["metrics"]["ttfa_s"]
    samples, rate = read_wav(Path(result["wav"]))
    assert 1 < len(samples) / rate < 10
    assert rms_dbfs(samples) > -35


def test_lines_through_a_pipe_are_answered_in_order(character_store, monkeypatch, capsys):
    typed = "안녕?\n/stats\n/다시\n/undo\n/mute\n안녕?\n/ja off\n/모름\n/help\n/끝\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))

    assert run(character_store, "--plain", "--sink", "null", "--session", "pipe") == 0

    out = capsys.readouterr().out
    assert out.count("왔구나. 비가 와서 걱정했어.") == 3
    assert out.count("来たんだね。") == 3
    assert "나> 안녕?" in out
    assert "왔구나. 비가 와서 못 오는 줄 알았어." in out
    for words in ("tok/s", "되돌렸습니다: 안녕?", "목소리를 껐습니다", "모르는 명령입니다: /모름", "/regen"):
        assert words in out


def test_saved_session_goes_on(character_store, monkeypatch, capsys):
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("안녕?\n".encode())))
        assert run(character_store, "--no-voice", "--session", "again") == 0

    assert "1번의 대화를 이어 갑니다" in capsys.readouterr().out


def test_prompt_is_there_while_the_models_load(character_store):
    out = io.StringIO()
    screen = TerminalScreen(console=Console(file=out, width=80))

    async def talk():
        loaded = asyncio.Event()
        arguments = command_arguments(character_store)

        async def load():
            await loaded.wait()
            loading = await asyncio.to_thread(load_session, arguments, *wanted(arguments))
            return Conversation(loading.session, loading.opened, screen, loading.host)

        with create_pipe_input() as keys:
            terminal = Terminal(screen, given_input=keys, output=DummyOutput())
            running = asyncio.create_task(terminal.run(load()))
            keys.send_text("안녕?\r")
            while "모델을 불러오는" not in out.getvalue():
                await asyncio.sleep(0.01)
            loaded.set()
            while "心配" not in out.getvalue():
                await asyncio.sleep(0.02)
            keys.send_text("\x03")
            while "멈췄습니다" not in out.getvalue():
                await asyncio.sleep(0.01)
            keys.send_text("/끝\r")
            await running

    asyncio.run(asyncio.wait_for(talk(), 60))
    shown = out.getvalue()
    assert REPLY in shown
    assert shown.index("걱정했어") < shown.index("来たんだね")


def command_arguments(store, *more):
    from rplab.cli.main import build_parser

    return build_parser().parse_args(["play", "--store", str(store), "--sink", "null", *more])


def wanted(arguments):
    from rplab.play.published import find_character

    published = find_character(arguments.store)
    return published, command._config(arguments, published)


def test_terminal_ends_with_the_error_of_the_models(capsys):
    async def talk():
        async def load():
            raise RuntimeError("no model")

        with create_pipe_input() as keys:
            await Terminal(TerminalScreen(), given_input=keys, output=DummyOutput()).run(load())

    with pytest.raises(RuntimeError, match="no model"):
        asyncio.run(asyncio.wait_for(talk(), 10))


def test_korean_left_in_the_translation_gives_text_without_a_file(character_store, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("rplab.cli.play_models.LocalTranslator.translate", lambda _, texts: ["아직 한국어" for _ in texts])

    assert run(character_store, "--text", "안녕?", "--wav", str(tmp_path / "a.wav"), "--json") == 0

    result = json.loads(capsys.readouterr().out)
    assert (result["wav"], result["dialogue_ja"]) == (None, "")
    assert len(result["notices"]) == 1
    assert result["text"] == REPLY
    assert not (tmp_path / "a.wav").exists()


def test_voice_that_cannot_be_loaded_gives_text(character_store, monkeypatch, capsys):
    def refuse(voices):
        raise AudioError("install pyopenjtalk-plus")

    monkeypatch.setattr("rplab.cli.play_speaker.VoiceProcess", refuse)

    assert run(character_store, "--text", "안녕?", "--json") == 0

    result = json.loads(capsys.readouterr().out)
    assert result["text"] == REPLY
    assert "pyopenjtalk-plus" in result["notes"][0]


def test_model_that_fails_without_a_word_is_an_error(character_store, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("rplab.cli.play_models.LocalReplyModel.stream", fail)

    assert run(character_store, "--text", "안녕?", "--no-voice") == 1
    assert "out of memory" in capsys.readouterr().err


def test_same_seed_gives_the_same_reply(character_store, capsys):
    replies = []
    for _ in range(2):
        assert run(character_store, "--text", "안녕?", "--no-voice", "--json", "--seed", "7") == 0
        replies.append(json.loads(capsys.readouterr().out)["text"])

    assert replies[0] == replies[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json"], "--text"),
        (["--text", " "], "empty"),
        (["--text", "안녕", "--wav", "a.wav", "--no-voice"], "leave one"),
        (["--text", "안녕", "--card", "nobody"], "nobody"),
        (["--text", "안녕", "--character", "nowhere"], "character.json"),
        (["--text", "안녕", "--no-voice", "--session", "../x"], "session id"),
    ],
)
def test_wrong_options_are_explained(character_store, capsys, arguments, words):
    assert run(character_store, *arguments) == 2
    assert words in capsys.readouterr().err


def test_store_without_a_character_says_how_to_make_one(tmp_path, capsys):
    assert run(tmp_path / "store", "--text", "안녕") == 2
    assert "make demo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "character.json"),
        ("[]", "character.json"),
        ('{"card": {}}', "character.json"),
        ('{"rp_model": {"stage": "..", "key": "x"}, "translator": {"stage": "a", "key": "b"}, "card": {}}', "artefact name"),
        ('{"rp_model": {"stage": "a", "key": "b"}, "translator": {"stage": "a", "key": "b"}, "card": {"name": "가"}}', "age"),
    ],
)
def test_broken_character_file_is_explained(tmp_path, capsys, text, words):
    (tmp_path / "character.json").write_text(text)

    assert run(tmp_path / "store", "--character", str(tmp_path), "--text", "안녕") == 2
    assert words in capsys.readouterr().err


def test_missing_model_folder_is_named(character_store, tmp_path, capsys):
    home = tmp_path / "store" / "character" / "x"
    home.mkdir(parents=True)
    (home / "character.json").write_bytes((character_store / "latest" / "character" / "character.json").read_bytes())

    assert run(tmp_path / "store", "--character", str(home), "--text", "안녕") == 2
    assert "grpo_merge/tiny/model" in capsys.readouterr().err


def test_character_folder_alone_is_enough(character_store, capsys):
    folder = character_store / "character" / "tiny"

    assert main(["play", "--character", str(folder), "--text", "안녕?", "--no-voice", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == REPLY
