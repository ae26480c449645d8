"""Text made ready for speech: nothing silently deleted, Korean refused."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rplab.tts.text import HANGUL, MAX_CHARS, MAX_SENTENCE_CHARS, SpeechTextError, normalise_speech, prepare_speech, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("52.34点", ("52.34点",)),
        ("笑った～〜~", ("笑ったーーー",)),
        ("待って\nよ", ("待って", "よ")),
        ("えっ、10:30に?😀 うん!", ("えっ、10時30分に？", "うん！")),
        ("ｶﾀｶﾅと１２３", ("カタカナと123",)),
        ("今は3〜5個で-5度、￥500と$3。", ("今は3から5個でマイナス5度、500円と3ドル。",)),
        ("2026/11/23に", ("2026年11月23日に",)),
        ("……えっと…そうかも……", ("えっと、そうかも",)),
        ("「やあ」と（笑って）言う。", ("やあと、笑って、言う。",)),
        ("すごいwww", ("すごい",)),
        ("**大事**な_話_", ("大事な話",)),
        ("\x1b[31mこんにちは\x00", ("こんにちは",)),
        ("ジョン・スミス", ("ジョン・スミス",)),
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

    assert dropped == {"emoji": 3, "foreign": 6, "laugh": 2, "repeat": 4, "url": 18, "control": 1}


@given(st.text(st.sampled_from("あいア漢々ーっ、。！？.…~〜- wW😀♪(「$¥:/0123 \n*ｶ①%＝&か\u3099"), max_size=60) | st.text(max_size=40))
@settings(max_examples=400, deadline=None)
@example("あ~ー~")
@example("1:2:3 10:30:")
def test_normalising_twice_changes_nothing(text):
    try:
        once, _ = normalise_speech(text)
    except SpeechTextError:
        return
    if once.strip():
        assert normalise_speech(once)[0] == once
    assert not HANGUL.search(once)


@given(st.text(st.sampled_from("あいう漢、。！？ \na1"), max_size=400))
def test_cutting_loses_nothing_and_keeps_sentences_short(text):
    sentences = split_sentences(text)

    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(0 < len(sentence) <= MAX_SENTENCE_CHARS for sentence in sentences)
