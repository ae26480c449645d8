"""Translating with a scripted model: second tries, flags, names, order."""

import argparse
import io
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rplab.cli import translate as command
from rplab.errors import ConfigError, DataError, ModelError
from rplab.llm.generate import Completion
from rplab.translator.checks import find_flags, politeness_of_japanese, politeness_of_korean, restore_names
from rplab.translator.prompt import INSTRUCTION, TranslationPrompt, clean_source
from rplab.translator.translate import Translator


class ScriptedModel:
    """Answers from a table; sampled (second) tries from another."""

    def __init__(self, greedy, sampled=None):
        self.greedy, self.sampled, self.asked = greedy, sampled or {}, []

    def generate(self, prompts, decoding, **_):
        table = self.greedy if decoding.temperature == 0 else self.sampled
        sources = [prompt[0]["content"].removeprefix(INSTRUCTION + "\n") for prompt in prompts]
        self.asked.append(sources)
        return [Completion(table[source].rstrip("↯"), 5, not table[source].endswith("↯"), 9) for source in sources]


def translator(greedy, sampled=None, glossary=None):
    return Translator(ScriptedModel(greedy, sampled), TranslationPrompt(), glossary)


def test_translations_come_in_order_and_blank_lines_stay_blank():
    tool = translator({"응.": "うん。", "잘 가.": "またね。"})

    results = tool.translate(["응.", "  ", "잘 가."])

    assert [result.text for result in results] == ["うん。", "", "またね。"]
    assert [result.is_speakable for result in results] == [True, False, True]
    assert tool.model.asked == [["응.", "잘 가."]]


def test_bad_translation_is_tried_once_more():
    tool = translator({"응.": "응。", "자.": "はい"}, {"응.": "うん。"})

    results = tool.translate(["응.", "자."])

    assert (results[0].text, results[0].flags, results[0].retried) == ("うん。", (), True)
    assert not results[1].retried
    assert tool.model.asked[1] == ["응."]


def test_what_stays_bad_is_flagged_and_not_spoken():
    bad = translator({"응.": "응。"}, {"응.": "응응↯"}).translate_line("응.")
    endless = translator({"응.": "うんうん↯"}, {"응.": "うんうん↯"}).translate_line("응.")

    assert (bad.text, bad.flags, bad.is_speakable) == ("응。", ("hangul",), False)
    assert endless.flags == ("cut",)
    assert endless.is_speakable


def test_names_are_written_in_kana():
    names = {"사야": "サヤ", "카즈키": "カズキ"}
    tool = translator({"사야야, 가자.": "사야、行こう。", "회사야.": "会社だ。", "카즈키!": "きみ！"}, glossary=names)

    results = tool.translate(["사야야, 가자.", "회사야.", "카즈키!"])

    assert (results[0].text, results[0].flags, results[0].retried) == ("サヤ、行こう。", (), False)
    assert results[1].flags == ()
    assert results[2].flags == ("name:카즈키",)


def test_names_of_other_people_are_left_alone():
    assert restore_names("마이가 왔어.", "마이が来た。하나も。", {"마이": "マイ", "하나": "ハナ"}) == "マイが来た。하나も。"
    assert find_flags("마이가 왔어.", "", finished=True, glossary={}) == ("empty",)


def test_prompt_is_read_from_the_trained_folder(tmp_path):
    TranslationPrompt("다른 지시").save(tmp_path)

    assert TranslationPrompt.load(tmp_path).messages("응.")[0]["content"] == "다른 지시\n응."
    (tmp_path / "translator.json").write_text("{}")
    with pytest.raises(ModelError, match="not readable"):
        TranslationPrompt.load(tmp_path)
    (tmp_path / "translator.json").unlink()
    with pytest.raises(ModelError, match="no translator"):
        TranslationPrompt.load(tmp_path)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [('"비가 오네."', "비가 오네."), ("비가\n  오네.", "비가 오네."), ("“응.”", "응."), ('"응." "그래."', '"응." "그래."'), (" ", "")],
)
def test_source_is_one_plain_line(given, wanted):
    assert clean_source(given) == wanted


@given(st.text(max_size=80))
def test_cleaning_a_source_twice_changes_nothing_more(text):
    once = clean_source(text)

    assert "\n" not in once
    assert once == clean_source(once) or '"' in once or "“" in once


@pytest.mark.parametrize(
    ("text", "polite"),
    [
        ("今日は寒いですね。", True), ("行きましょう！", True), ("待っていました", True),
        ("気をつけてください。", True), ("分かりません。", True),
        ("今日は寒いね。", False), ("行こう！", False), ("うん。行く。", False), ("雨ですか？", True), ("", None), ("。。。", None),
    ],
)  # fmt: skip
def test_politeness_of_japanese(text, polite):
    assert politeness_of_japanese(text) is polite


@pytest.mark.parametrize(("text", "polite"), [("오늘은 춥네요.", True), ("알겠습니다.", True), ("오늘은 춥네.", False), ("가자!", False)])
def test_politeness_of_korean(text, polite):
    assert politeness_of_korean(text) is polite


@pytest.fixture
def loaded(monkeypatch):
    tool = translator({"응.": "うん。", "자.": "자。"}, {"자.": "자。"})
    calls = []
    monkeypatch.setattr(Translator, "load", lambda folder, **options: (calls.append((folder, options)), tool)[1])
    return calls


def run(monkeypatch, *words, stdin=""):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stdin.encode())))
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    arguments = parser.parse_args(["translate", *words])
    return arguments.handler(arguments)


def test_command_prints_translations_line_by_line(loaded, monkeypatch, capsys, tmp_path):
    code = run(monkeypatch, "--model", str(tmp_path), "--name", "사야=サヤ", "--text", "-", stdin="응.\n\n자.\n")

    out, err = capsys.readouterr()
    assert (code, out) == (0, "うん。\n\n자。\n")
    assert "line 3: hangul" in err
    assert loaded == [(tmp_path, {"glossary": {"사야": "サヤ"}})]


def test_command_prints_json(loaded, monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--model", str(tmp_path), "--json", "--text", "응.")

    assert json.loads(capsys.readouterr().out) == {"translations": [{"source": "응.", "text": "うん。", "flags": [], "retried": False}]}


def test_command_says_what_is_wrong(monkeypatch, tmp_path):
    with pytest.raises(ModelError, match="there is no translator yet"):
        run(monkeypatch, "--store", str(tmp_path), "--text", "응.")
    with pytest.raises(DataError, match="nothing to translate"):
        run(monkeypatch, "--store", str(tmp_path), "--text", " ")
    with pytest.raises(ConfigError, match="사야=サヤ"):
        run(monkeypatch, "--text", "응.", "--name", "사야")


def test_command_module_is_light():
    assert not hasattr(command, "Translator")
