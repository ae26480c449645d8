"""The commands that make a voice and speak with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rplab.cli.main import main
from rplab.errors import DataError
from rplab.stage import StageContext
from rplab.tts.corpus import make_corpus
from rplab.tts.recordings import read_transcripts
from rplab.tts.training_config import VoiceCorpusConfig
from rplab.tts.wav import read_wav

VOICE = Path(__file__).parents[2] / "assets/tts/smallest_voice"


def run(capsys, *words):
    code = main(["tts", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_say_with_an_onnx_voice(capsys, tmp_path):
    names = tmp_path / "names.csv"
    names.write_text("紗夜華,サヨカ,2\n", "utf-8")
    target = tmp_path / "a.wav"
    code, out, _ = run(
        capsys, "say", "--voice", VOICE, "--text", "紗夜華です。", "--out", target, "--style", "Happy", "--dictionary", names, "--json"
    )

    assert code == 0
    assert json.loads(out)["voice"] == "onnx/smallest"
    samples, rate = read_wav(target)
    assert (rate, len(samples) > 500) == (8000, True)
    from rplab.tts.dictionary import apply_dictionary

    apply_dictionary([])


def test_wrong_voice_folder_is_named(capsys, tmp_path):
    code, _, err = run(capsys, "say", "--voice", tmp_path, "--text", "はい", "--out", tmp_path / "a.wav")

    assert code == 2
    assert "config.json" in err


def test_corpus_and_preprocess_make_folders_and_overwrite_nothing(capsys, tmp_path):
    assert run(capsys, "corpus", tmp_path / "corpus", "--sentences", "5")[0] == 0
    words = ("preprocess", tmp_path / "corpus", tmp_path / "data", "--size", "small", "--validation", "2", "--json")
    code, out, _ = run(capsys, *words)

    assert code == 0
    assert json.loads(out)["clips"] == 5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["corpus", "data"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "not empty" in err


@pytest.mark.parametrize(("setting", "what"), [("max_steps", "KEY=VALUE"), ("max_steps=0", "max_steps"), ("speed=1", "speed")])
def test_wrong_setting_of_training_is_named(capsys, tmp_path, setting, what):
    code, _, err = run(capsys, "train", tmp_path, tmp_path / "out", "--set", setting)

    assert code == 2
    assert what in err


def test_recordings_of_the_user_are_copied_and_never_touched(tmp_path):
    source = tmp_path / "mine"
    (source / "raw" / "deep").mkdir(parents=True)
    (source / "raw" / "deep" / "a.wav").write_bytes(b"RIFFx")
    (source / "transcripts.list").write_text("deep/a.wav|me|JP|はい\n", "utf-8")
    out, resume = tmp_path / "out", tmp_path / "resume"
    out.mkdir()
    resume.mkdir()

    stats = make_corpus(VoiceCorpusConfig(recordings=str(source)), {}, StageContext(out=out, resume=resume))

    assert stats["recordings"] == 1
    assert (out / "raw" / "deep" / "a.wav").read_bytes() == b"RIFFx"
    assert read_transcripts(out / "transcripts.list")[0].text == "はい"
    with pytest.raises(DataError, match=r"transcripts\.list: no such file"):
        make_corpus(VoiceCorpusConfig(recordings=str(tmp_path)), {}, StageContext(out=out, resume=resume))
