from hypothesis import given
from hypothesis import strategies as st

from rplab.dataset.grpo_set import trim_context
from rplab.dataset.near_duplicates import find_near_duplicates
from rplab.dataset.split import Groups, choose_eval


def messages(roles):
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[role], "content": f"{role}{number}"} for number, role in enumerate(roles)]


def roles(prompt):
    return "".join(message["role"][0] for message in prompt)


def test_trimming_keeps_system_turns_and_whole_exchanges():
    assert roles(trim_context(messages("suauau"), 4)) == "suau"
    assert roles(trim_context(messages("suauau"), 2)) == "su"
    assert roles(trim_context(messages("ssuauau"), 5)) == "ssuau"
    assert roles(trim_context(messages("ssuau"), 1)) == "ssu"
    assert roles(trim_context(messages("sau"), 12)) == "sau", "a greeting that fits stays"
    assert roles(trim_context(messages("sauauau"), 5)) == "suau"
    assert trim_context(messages("suauau"), 0) == messages("suauau")
    assert trim_context(messages("suauau"), 4)[-1]["content"] == "u5"


@given(st.text(alphabet="au", max_size=20), st.integers(0, 2), st.integers(1, 12))
def test_trimmed_prompt_is_a_suffix_that_starts_and_ends_with_the_player(talk, systems, limit):
    prompt = messages("s" * systems + talk + "u")
    trimmed = trim_context(prompt, limit)
    assert trimmed[:systems] == prompt[:systems]
    assert prompt[systems:][-len(trimmed[systems:]) :] == trimmed[systems:]
    assert len(trimmed) <= max(limit, systems + 1)
    if trimmed != prompt:
        assert trimmed[systems]["role"] == "user"


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=12))
def test_tied_keys_share_a_name_in_any_order(ties):
    first, second = Groups(), Groups()
    for a, b in ties:
        first.tie([str(a), str(b)])
    for a, b in reversed(ties):
        second.tie([str(b), str(a)])
    for a, b in ties:
        assert first.name_of(str(a)) == first.name_of(str(b)) == second.name_of(str(a))


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 9), max_size=20), st.floats(0, 0.9), st.integers(0, 3))
def test_something_is_held_out_and_something_is_left(sizes, ratio, seed):
    chosen = choose_eval(sizes, ratio, seed)
    assert chosen <= set(sizes)
    assert bool(chosen) == (ratio > 0 and len(sizes) > 1)
    assert not sizes or len(chosen) < len(sizes)
    assert choose_eval(dict(reversed(sizes.items())), ratio, seed) == chosen


def test_near_copies_are_found_and_other_texts_are_not():
    texts = [f"{number}번 손님은 오늘 {number * 7919 % 1000}쪽을 펼쳐 놓고 한참을 말없이 읽었다." for number in range(200)]
    copies = [text.replace("말없이", "말 없이").replace(".", "…") for text in texts[:20]]
    unrelated = ["비가 그치면 등대까지 걸어가 보자는 말이었다.", "그 열쇠는 어제부터 서랍 안에 없었어."]
    found = find_near_duplicates([*texts, *copies, *unrelated], 0.95)
    assert {number: found[number] for number in range(200, 220)} == {200 + number: number for number in range(20)}
    assert not {220, 221} & set(found)
    assert find_near_duplicates(["", "", "!"], 0.5) == {}
