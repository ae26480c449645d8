"""Reading Japanese: phones, pitch, word2ph, normaliser, dictionary, BERT ids."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.errors import DataError, ModelError
from rplab.tts import symbols
from rplab.tts.bert_vocab import BertVocabulary
from rplab.tts.dictionary import apply_dictionary, read_dictionary
from rplab.tts.frontend import normalise, split_sentences
from rplab.tts.g2p import UnreadableError, phone_ids, read_or_skip, read_text
from rplab.tts.numerals import spell_integer
from rplab.tts.text import SpeechTextError
from rplab.tts.word2ph import expand_features

ROOT = Path(__file__).parents[2]
ROWS = [json.loads(line) for line in (ROOT / "golden/frontend.jsonl").read_text("utf-8").splitlines()]


def test_symbols_equal_the_published_table():
    assert list(symbols.SYMBOLS) == json.loads((ROOT / "assets/tts/symbols112.json").read_text("utf-8"))


@pytest.mark.parametrize("row", ROWS, ids=[row["text"][:12] for row in ROWS])
def test_front_end_equals_the_reference(row):
    text = normalise(row["text"]).text
    reading = read_text(text)

    assert text == row["normalised"]
    assert list(reading.phones) == row["phones"]
    assert list(reading.word2ph) == row["word2ph"]
    assert list(reading.tones) == row["tones"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("第3回は10:30から…！😀", "第三回は十時三十分から...!"),
        ("−5度で1,234円", "マイナス五度で千二百三十四円"),
        ("3.14です。", "三点一四です."),
        ("2026/11/23", "二千二十六年十一月二十三日"),
        ("10〜20人", "十から二十人"),
        ("Hello　world、ｶﾞｯｺｳ", "Hello world,ガッコウ"),
        ("100%", "百パーセント"),
        ("「やあ」", "'やあ'"),
        ("007", "〇〇七"),
        ("café", "cafe"),
    ],
)
def test_normaliser_writes_what_is_spoken(text, wanted):
    assert normalise(text).text == wanted


def test_numbers_up_to_twenty_digits():
    assert spell_integer("10010000") == "千一万" or spell_integer("10010000") == "一千一万"
    assert spell_integer("100000000") == "一億"
    assert spell_integer("0") == "零"


def test_dropped_characters_are_counted_by_reason():
    dropped = normalise("やあ😀😀\x00あああああああああああ http://a.example/b").dropped

    assert dropped["emoji"] == 2
    assert dropped["control"] == 1
    assert dropped["repeat"] == 4
    assert dropped["url"] == len("http://a.example/b")


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), (" \n", "empty"), ("오늘은", "hangul"), ("あ" * 20_001, "too_long")])
def test_text_that_cannot_be_spoken_says_why(text, reason):
    with pytest.raises(SpeechTextError) as caught:
        normalise(text)

    assert caught.value.reason == reason


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_normaliser_is_idempotent_and_readable_by_the_front_end(text):
    try:
        once = normalise(text).text
    except SpeechTextError:
        return
    if once:
        assert normalise(once).text == once
    for sentence in split_sentences(once):
        reading = read_text(sentence)
        assert len(reading.word2ph) == len(reading.text) + 2
        assert sum(reading.word2ph) == len(reading.phones) == len(reading.tones)
        ids = phone_ids(reading)
        assert len(ids.phones) == 2 * len(reading.phones) + 1 == sum(ids.word2ph)


def test_hostile_mixtures_always_give_a_reading():
    pool = "明日はキャット!?.,'-ーっゃ々ゝｶﾞ〇鬱彅😀AzＺ19 \n…「」𠮷éЖ"
    generator = random.Random(7)
    for _ in range(400):
        text = "".join(generator.choice(pool) for _ in range(generator.randint(1, 40)))
        if text.strip():
            for sentence in split_sentences(normalise(text).text):
                phone_ids(read_text(sentence))


def test_sentences_cover_the_text_and_stay_short():
    text = normalise("はい。" + "とても長い文で、" * 40 + "終わり!\n次の行").text
    parts = split_sentences(text)

    assert "".join(parts) == text
    assert max(map(len, parts)) <= 100


def test_unknown_readings_follow_the_policy():
    text = "これは々です."

    assert read_or_skip("はい.", "skip") is not None
    assert read_or_skip(text, "skip") is None
    reading = read_or_skip(text, "use")
    assert reading is not None
    assert sum(reading.unknown.values()) == 1
    with pytest.raises(UnreadableError, match="々"):
        read_or_skip(text, "raise")


def test_words_missing_in_the_dictionary_are_reported_as_guesses():
    assert "鱻鸞" in read_text("鱻鸞が来た.").guessed


def test_user_dictionary_changes_reading_and_accent(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("# names\n紗夜華,さよか,2\nRPラボ,アールピーラボ,5\n", "utf-8")
    before = read_text("紗夜華です.").phones
    try:
        apply_dictionary(read_dictionary(path))
        reading = read_text("紗夜華です.")
        latin = read_text("RPラボ.")
    finally:
        apply_dictionary([])

    assert reading.phones[1:7] == ("s", "a", "y", "o", "k", "a")
    assert reading.tones[1:7] == (0, 0, 1, 1, 0, 0)
    assert "".join(latin.phones[1:-2]) == "aarupiirabo"
    assert read_text("紗夜華です.").phones == before


@pytest.mark.parametrize(
    ("line", "what"),
    [("紗夜", "surface,reading,accent"), ("紗夜,saya,1", "not kana"), ("紗夜,サヤ,3", "accent"), ("紗夜,サヤ,x", "accent")],
)
def test_bad_dictionary_line_is_named(tmp_path, line, what):
    path = tmp_path / "d.csv"
    path.write_text(f"あ,ア,1\n{line}\n", "utf-8")

    with pytest.raises(DataError, match=f"d.csv:2: .*{what}"):
        read_dictionary(path)


def test_bert_ids_are_one_per_character_plus_ends(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n明\n日\n", "utf-8")
    vocabulary = BertVocabulary(path)

    assert vocabulary.ids("明日鬱").tolist() == [2, 4, 5, 1, 3]
    assert vocabulary.num_unknown("明日鬱") == 1
    path.write_text("a\nb\n", "utf-8")
    with pytest.raises(ModelError, match=r"\[CLS\]"):
        BertVocabulary(path)


def test_features_are_repeated_per_phone():
    features = np.arange(6, dtype=np.float32).reshape(3, 2)

    assert expand_features(features, [1, 0, 2]).tolist() == [[0, 4, 4], [1, 5, 5]]
    with pytest.raises(ValueError, match="3 rows"):
        expand_features(features, [1, 2])
