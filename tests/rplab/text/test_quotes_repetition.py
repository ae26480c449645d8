import pytest
from hypothesis import given
from hypothesis import strategies as st

from rplab.text.quotes import split_blocks, straighten
from rplab.text.repetition import distinct_n, echo_share, longest_common_run, longest_run_ratio, ngram_overlap, repeated_ngram_share


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("사야는 웃는다.\n“어서 와.”", ["n:사야는 웃는다.", "s:어서 와."]),
        ("사야는 웃는다. 「어서 와.」", ["n:사야는 웃는다.", "s:어서 와."]),
        ('"그는 "곧 갈게"라고만 적었어."', ['s:그는 "곧 갈게"라고만 적었어.']),
        ('"어서 와." "춥지?"', ["s:어서 와.", "s:춥지?"]),
        ('코하루는 "비밀"이라고 적힌 상자를 민다.\n"열어 볼래?"', ['n:코하루는 "비밀"이라고 적힌 상자를 민다.', "s:열어 볼래?"]),
        ('"잠깐만." 사야는 손을 들었다. "이거 봐."', ["s:잠깐만.", "n:사야는 손을 들었다.", "s:이거 봐."]),
        ('사야는 중얼거렸다.\n"하나,\n둘."', ["n:사야는 중얼거렸다.", "s:하나, 둘."]),
        ('잠깐만 기다려"', ["s:잠깐만 기다려"]),
        ('"잠깐만 기다려', ["s:잠깐만 기다려"]),
        ("사야는 속삭였다.\n'비밀이야.'", ["n:사야는 속삭였다.", "s:비밀이야."]),
        ("", []),
    ],
)
def test_blocks(reply, expected):
    assert [f"{block.kind.value[0]}:{block.text}" for block in split_blocks(reply)] == expected


@given(st.text(alphabet="\"“”「」'가나 .!\n말", max_size=30))
def test_no_letter_is_lost(reply):
    letters = lambda text: [char for char in text if char.isalnum()]  # noqa: E731
    assert letters("".join(block.text for block in split_blocks(reply))) == letters(reply)


@given(st.text(max_size=30))
def test_straighten_is_idempotent(text):
    assert straighten(straighten(text)) == straighten(text)


def test_repetition_measures():
    assert ngram_overlap("오늘은 같이 저녁을 먹자.", "오늘은 같이 저녁을 먹자!") == 1
    assert ngram_overlap("오늘은 같이 저녁을 먹자.", "내일은 혼자 산책을 할래.") < 0.2
    assert ngram_overlap("", "응") == 0
    assert echo_share("같이 저녁을 먹자", "오늘은 꼭 같이 저녁을 먹자고 했잖아") == 1
    assert longest_common_run("같이 저녁을 먹자", "오늘 저녁을 먹자고") == 5
    assert longest_run_ratio("측 측 측 측") == 1
    assert longest_run_ratio("사야는 창밖을 본다.") < 0.2
    assert repeated_ngram_share("가나다라 가나다라 가나다라") > 0.5
    assert distinct_n(["가 나 다", "가 나 라"]) == 0.75
    assert distinct_n([]) == 0
