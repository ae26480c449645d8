"""What can be checked about a translation without reading it, and the shipped held-out set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rplab.translator.checks import find_flags, lost_numbers, num_quotes, numbers_of
from rplab.translator.heldout import load_heldout

LINES, GLOSSARY = load_heldout()


def flags(source, translation, glossary=None):
    return find_flags(source, translation, finished=True, glossary=glossary or {})


def test_the_shipped_set_is_large_varied_and_ours_alone():
    assert len(LINES) >= 200
    assert len({line.source for line in LINES}) == len(LINES)
    kinds = [line.kind for line in LINES]
    assert min(kinds.count(kind) for kind in ("casual", "polite", "formal", "names", "numbers", "quotes", "long")) >= 15


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.source[:12])
def test_every_reference_passes_its_own_checks(line):
    assert find_flags(line.source, line.reference, finished=True, glossary=GLOSSARY) == ()


@pytest.mark.parametrize(
    ("source", "translation", "flag"),
    [
        ("3시에 만나자.", "駅で会おう。", "number:3"),
        ("전부 4,800엔이야.", "全部で480円だよ。", "number:4800"),
        ("2분, 2분만 더.", "あと2分だけ。", "number:2"),
        ("'고마워'라고 했어.", "ありがとうと言った。", "quote"),
        ("저는 괜찮아요.", "私は大丈夫だよ。", "politeness"),
        ("나는 괜찮아.", "私は大丈夫です。", "politeness"),
        ("사야는 어디 있어?", "彼女はどこ？", "name:사야"),
    ],
)
def test_what_is_lost_is_named(source, translation, flag):
    assert flag in flags(source, translation, {"사야": "サヤ"})


@pytest.mark.parametrize(
    ("source", "translation"),
    [
        ("3시 30분에 만나자.", "三時三十分に会おう。"),
        ("12,000엔이야.", "一万二千円だよ。"),
        ("1999년에 지었대.", "一九九九年に建てられたって。"),
        ("３층이야.", "3階だよ。"),
        ('"고마워"라고 했어.', "「ありがとう」と言った。"),
        ("체온은 38.5도야.", "体温は３８.５度だよ。"),
    ],
)
def test_other_ways_to_write_the_same_are_no_loss(source, translation):
    assert flags(source, translation) == ()


@given(st.lists(st.integers(0, 10**7), max_size=5))
def test_numbers_survive_any_script(numbers):
    source = ", ".join(f"{number}개" for number in numbers)
    full_width = source.translate({ord(str(digit)): ord("０") + digit for digit in range(10)})

    assert numbers_of(source) == numbers_of(full_width) == [str(number) for number in numbers]
    assert lost_numbers(source, full_width) == []


@given(st.text(max_size=40))
def test_any_text_can_be_counted(text):
    assert num_quotes(text) >= 0
    assert isinstance(flags(text, text), tuple)
