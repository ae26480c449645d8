"""`rplab tts eval`: what is measured, what is named as not measured, and the page."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rplab.cli.main import main
from rplab.tts import evaluate, judges
from rplab.tts.evaluate import EvaluationSentence, Judges, evaluate_voice
from rplab.tts.judges import distance_to, edit_distance, kana_of, log_mel_of
from rplab.tts.onnx_engine import OnnxVoice
from rplab.tts.openjtalk import OpenJTalkVoice
from rplab.tts.wav import write_wav

VOICE = Path(__file__).parents[2] / "assets/tts/smallest_voice"


def test_eval_command_writes_a_page_that_needs_no_network(tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("はい、そうです。\n오늘은\n<b>明日</b>の朝。\n", "utf-8")

    assert main(["tts", "eval", str(VOICE), str(texts), str(tmp_path / "out"), "--threads", "1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    page = (tmp_path / "out/index.html").read_text("utf-8")

    assert (summary["sentences"], summary["not_spoken"]) == (3, 1)
    assert summary["kana_cer"] is None
    assert "no --asr" in summary["missing"]["kana_cer"]
    assert summary["rtf"] > 0
    assert "http" not in page
    assert "&lt;b&gt;明日" in page
    assert "Korean characters" in page
    for name in re.findall(r"src=(\S+?)[ >]", page):
        assert (tmp_path / "out" / name).stat().st_size > 100
    assert main(["tts", "eval", str(VOICE), str(texts), str(tmp_path / "out")]) == 2


def test_judges_hear_what_was_spoken(tmp_path):
    voice = OpenJTalkVoice()
    samples = voice.synthesise("明日は雨です。")
    write_wav(tmp_path / "same.wav", samples, voice.sample_rate)
    sentences = [EvaluationSentence("明日は雨です。", tmp_path / "same.wav"), EvaluationSentence("お茶を飲む。", tmp_path / "same.wav")]
    hearing = Judges(asr=lambda _samples, rate: "あすは雨です" if rate == 48_000 else "")

    summary = evaluate_voice(voice, sentences, tmp_path / "out", hearing)
    rows = [json.loads(line) for line in (tmp_path / "out/rows.jsonl").read_text("utf-8").splitlines()]

    assert rows[0]["kana_errors"] <= 3
    assert rows[1]["kana_errors"] >= 5
    assert rows[0]["mcd"] < 1.0 < rows[1]["mcd"]
    assert summary["kana_cer"] == round(sum(row["kana_errors"] for row in rows) / sum(row["kana_length"] for row in rows), 4)


def test_missing_asr_package_and_wrong_sentences_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    texts = tmp_path / "texts.txt"
    texts.write_text("はい。\n", "utf-8")

    assert main(["tts", "eval", str(VOICE), str(texts), str(tmp_path / "out"), "--asr", "base"]) != 0
    assert "voice-eval" in capsys.readouterr().err
    texts.write_text("\n", "utf-8")
    assert main(["tts", "eval", str(VOICE), str(texts), str(tmp_path / "out")]) == 2
    assert "no sentences" in capsys.readouterr().err


def test_asr_gets_16_khz_and_its_segments_are_joined(monkeypatch):
    lengths: list[int] = []

    class WhisperModel:
        def __init__(self, model: str, **_: object) -> None:
            assert model == "folder"

        def transcribe(self, samples: np.ndarray, **options: object) -> tuple[list[SimpleNamespace], None]:
            lengths.append(len(samples))
            assert (options["language"], options["beam_size"]) == ("ja", 5)
            return [SimpleNamespace(text="あ"), SimpleNamespace(text="い")], None

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=WhisperModel))

    assert judges.open_asr("folder")(np.zeros(44_100, np.float32), 44_100) == "あい"
    assert lengths == [16_000]


@pytest.mark.parametrize(
    ("wanted", "got", "errors"), [("", "", 0), ("カナ", "", 2), ("カナ", "カタナ", 1), ("アイウ", "アエウ", 1), ("アイ", "イア", 2)]
)
def test_edit_distance(wanted, got, errors):
    assert edit_distance(wanted, got) == edit_distance(got, wanted) == errors


def test_kana_of_ways_to_write_the_same_agree():
    assert kana_of("今日は、いい天気！") == kana_of("きょうは いい天気") == "キョーワイイテンキ"
    assert kana_of(" ") == ""


def test_distance_ignores_level_but_not_sound():
    time = np.arange(22_050) / 22_050
    tone = (np.sin(2 * np.pi * 300 * time) * (1 + np.sin(2 * np.pi * 3 * time)) * 0.2).astype(np.float32)
    noise = np.random.default_rng(0).normal(scale=0.1, size=22_050).astype(np.float32)

    assert log_mel_of(tone, 22_050).shape[0] == 80
    assert distance_to(tone, tone * 0.9, 22_050, 22_050) < 3 < distance_to(tone, noise, 22_050, 22_050)


def test_folder_of_recordings_gives_texts_and_references(tmp_path):
    shutil.copytree(VOICE, tmp_path / "voice")
    (tmp_path / "transcripts.list").write_text("a.wav|mei|JP|はい。\n", "utf-8")
    write_wav(tmp_path / "a.wav", OnnxVoice(VOICE).synthesise("はい。"), 8000)

    assert evaluate.read_sentences(tmp_path) == [EvaluationSentence("はい。", tmp_path / "a.wav")]
