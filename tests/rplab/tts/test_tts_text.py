"""Text made ready for the embedded voice: nothing silently deleted, Korean refused, one normaliser for every voice."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rplab.tts.frontend import MAX_HTS_CHARS, normalise, prepare_speech, split_sentences
from rplab.tts.text import HANGUL, MAX_CHARS, SpeechTextError

ROWS = [json.loads(line) for line in (Path(__file__).parents[2] / "golden/tts_normalizer.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_normaliser_writes_what_the_family_writes_but_refuses_what_it_deleted(row):
    if HANGUL.search(row["input"]) or not row["input"]:  # there the predecessor spoke what was left, or nothing
        with pytest.raises(SpeechTextError, match=r"Korean|no text"):
            normalise(row["input"])
        return

    assert normalise(row["input"]).text == row["output"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("52.34点", ("五十二点三四点",)),
        ("笑った～〜~", ("笑ったーーー",)),
        ("待って\nよ", ("待って。", "よ")),
        ("えっ、10:30に?😀 うん!", ("えっ、十時三十分に？", "うん！")),
        ("ｶﾀｶﾅと１２３", ("カタカナと百二十三",)),
        ("今は3〜5個で-5度、￥500と$3。", ("今は三から五個でマイナス五度、五百円と三ドル。",)),
        ("2026/11/23に20℃", ("二千二十六年十一月二十三日に二十度",)),
        ("……えっと…そうかも……", ("えっと", "そうかも")),
        ("「やあ」と（笑って）言う。", ("やあと笑って言う。",)),
        ("すごいwww", ("すごい",)),
        ("**大事**な_話_", ("大事な話",)),
        ("\x1b[31mこんにちは\x00", ("こんにちは",)),
        ("はい/いいえ", ("はい、いいえ",)),
        ("え？！本当！？", ("え？！", "本当！？")),
    ],
)
def test_text_becomes_what_a_voice_reads(text, sentences):
    assert prepare_speech(text).sentences == sentences


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("오늘은 즐거웠어.", "hangul"),
        ("今日는 즐거워よ", "hangul"),
        ("ㅋㅋ", "hangul"),
        ("", "empty"),
        (" \n ", "empty"),
        ("😀", "unreadable"),
        ("。。。", "unreadable"),
        ("ー", "unreadable"),
        ("Привет", "unreadable"),
        ("あ" * (MAX_CHARS + 1), "too_long"),
    ],
)
def test_text_that_cannot_be_spoken_says_why(text, reason):
    with pytest.raises(SpeechTextError) as caught:
        prepare_speech(text)

    assert caught.value.reason == reason


def test_everything_taken_out_is_counted():
    dropped = prepare_speech("あ😀😀 Привет、すごいww" + "お" * 12 + " https://example.org/x ♪\x07").dropped

    assert dropped == {"emoji": 3, "foreign": 6, "laugh": 2, "repeat": 4, "url": 21, "control": 1}


@given(st.text(st.sampled_from("あいア漢々ーっ、。！？.…~〜- wW😀♪(「$¥:/0123 \n*ｶ①%＝&か\u3099"), max_size=60) | st.text(max_size=40))
@settings(max_examples=400, deadline=None)
@example("あ~ー~")
@example("1:2:3 10:30:")
def test_normalising_twice_changes_nothing(text):
    try:
        once = normalise(text).text
    except SpeechTextError:
        return
    if once.strip():
        assert normalise(once).text == once
    assert not HANGUL.search(once)


@given(st.text(st.sampled_from("あいう漢、。！？ \na1"), max_size=400))
def test_cutting_loses_nothing_and_keeps_sentences_short(text):
    try:
        normalised = normalise(text).text
    except SpeechTextError:
        return
    sentences = split_sentences(normalised, max_chars=MAX_HTS_CHARS)

    assert all(0 < len(sentence) <= MAX_HTS_CHARS for sentence in sentences)
    readable = "".join(character for character in normalised if character not in ".,!?' ")
    assert "".join(character for character in "".join(sentences) if character not in ".,!?' ") == readable
