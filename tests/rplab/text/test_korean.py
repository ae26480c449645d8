import pytest
from hypothesis import given
from hypothesis import strategies as st

from rplab.text.korean import (
    attach,
    compose,
    find_broken_hangul,
    find_leaks,
    fit_particle,
    has_hangul,
    has_kana,
    korean_share,
    name_pattern,
    replace_name,
)


@pytest.mark.parametrize(
    ("word", "particle", "expected"),
    [
        ("사야", "은", "사야는"),
        ("하늘", "는", "하늘은"),
        ("카즈키", "이", "카즈키가"),
        ("하늘", "가", "하늘이"),
        ("소마", "을", "소마를"),
        ("코하루", "과", "코하루와"),
        ("하늘", "와", "하늘과"),
        ("사야", "아", "사야야"),
        ("하늘", "야", "하늘아"),
        ("하늘", "로", "하늘로"),
        ("지은", "로", "지은으로"),
        ("사야", "으로", "사야로"),
        ("사야", "이라", "사야라"),
        ("하늘", "라고", "하늘이라고"),
        ("사야", "이랑", "사야랑"),
        ("사야", "의", "사야의"),
        ("3", "가", "3이"),
        ("2", "은", "2는"),
        ("10", "를", "10을"),
        ("1", "으로", "1로"),
        ("300", "로", "300으로"),
        ("10000", "가", "10000이"),
        ("TV", "은", "TV는"),
        ("FM", "는", "FM은"),
        ("Kim", "가", "Kim이"),
        ("「봄」", "를", "「봄」을"),
        ("サン", "는", "サン은"),
        ("", "은", "는"),
    ],
)
def test_particle_fits(word, particle, expected):
    assert attach(word, particle) == (expected if word else "는")


def test_names_are_replaced_as_words_only():
    assert replace_name("소마법사가 소마에게 왔다. 소마!", "소마", "하늘") == "소마법사가 하늘에게 왔다. 하늘!"
    assert replace_name("회사야 사야야, 사야가 사야와 사야로.", "사야", "지은") == "회사야 지은아, 지은이 지은과 지은으로."
    assert replace_name("하늘이는 하늘이가 좋다. 하늘이다.", "하늘", "사야") == "사야는 사야가 좋다. 사야다."
    assert replace_name("마이크를 든 마이도 마이너다.", "마이", "봄") == "마이크를 든 봄도 마이너다."
    assert replace_name("사야 씨는 사야씨가", "사야", "하늘") == "하늘 씨는 하늘씨가"
    assert name_pattern("마이").search("마이크") is None


@given(
    st.sampled_from(["사야", "하늘", "지은", "소마"]),
    st.sampled_from(["은", "는", "이", "가", "을", "를", "과", "와", "아", "야", "으로", "로", "이랑", "랑", "이나", "이라고", "의", "도"]),
)
def test_fitting_twice_changes_nothing(word, particle):
    once = fit_particle(word, particle)
    assert fit_particle(word, once) == once


@given(st.text(alphabet="사야가는 하늘이은.소마", max_size=20))
def test_replacing_back_and_forth_is_stable_for_a_name_with_one_sound(text):
    assert replace_name(replace_name(text, "소마", "카즈키"), "카즈키", "소마") == text


def test_leaks_and_scripts():
    assert [(leak.kind, leak.text) for leak in find_leaks("오늘은 楽しかったよ, 我的 친구.")] == [
        ("han", "楽"),
        ("kana", "しかったよ"),
        ("han", "我的"),
    ]
    assert find_leaks("오늘은 좋은 날이야. OK? 3시.") == []
    assert find_leaks("道", allowed="道") == []
    assert has_hangul("ㅋㅋ")
    assert not has_hangul("うん。")
    assert has_kana("うん。")
    assert korean_share("가나ab") == 0.5


def test_broken_hangul():
    assert find_broken_hangul("ㅋㅋㅋ 정말? ㅠㅠ") == []
    assert [fault.kind for fault in find_broken_hangul("안녀ㅇ \ufffd")] == ["lone_jamo", "replacement"]
    decomposed = "\u1112\u1161\u11ab"
    assert [fault.kind for fault in find_broken_hangul(decomposed)] == ["conjoining_jamo"]
    assert compose(decomposed) == "한"
