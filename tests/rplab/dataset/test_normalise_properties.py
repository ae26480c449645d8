"""Normalising is idempotent on anything and loses no word."""

import json
from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rplab.dataset.normalise import Dropped, normalise_row

PIECES = st.sampled_from(
    [
        *(
            '"',
            "“",
            "”",
            "「",
            "」",
            "『",
            "』",
            "＂",
            "'",
            "‘",
            "’",
            "*",
            "**",
            "\n",
            "\r\n",
            "\r",
            "\u2028",
            "\x85",
            "\x0b",
            "\x1c",
            "\\n",
        ),
        *(
            " ",
            "\u3000",
            "\xa0",
            "\u200b",
            "\ufeff",
            "\t",
            ".",
            "!",
            "?",
            "…",
            ",",
            ":",
            "：",
            "(",
            ")",
            "[",
            "]",
            "-",
            "//",
            "{{user}}",
            "{user}",
        ),
        *(
            "사야",
            "사야는",
            "웃는다.",
            "지금 갈게",
            "어서 와.",
            "응",
            "하야토",
            "대사",
            "서술",
            "그녀가",
            "10",
            "30",
            "3",
            "4",
            "https",
            "A",
            "라고",
            "하고",
        ),
    ]
)
TEXT = st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=30))
ROLES = st.sampled_from(["assistant", "user", "system", "tool", " Assistant "])
ROWS = st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({"role": ROLES, "content": TEXT}), min_size=1, max_size=4)},
    optional={
        "meta": st.fixed_dictionaries(
            {}, optional={"protagonist": st.sampled_from(["사야", "하늘"]), "player": st.sampled_from(["소마", {"name": "민수"}, 3])}
        )
    },
)


def reply(content):
    return {"messages": [{"role": "assistant", "content": content}]}


@settings(max_examples=600, deadline=None)
@given(ROWS, st.sampled_from(["하야토", "소마", "카즈키"]), st.sampled_from(["하야토", "소마", "카즈키"]))
@example(reply('"\u2028"'), "소마", "소마")
@example(reply('\r"\x85응'), "소마", "소마")
@example(reply('사야: "사야: "응" 사야: '), "소마", "소마")
@example(reply("\u200b"), "소마", "소마")
def test_second_pass_changes_nothing(row, first_name, second_name):
    once = normalise_row(row, first_name)
    if isinstance(once, Dropped):
        assert once is not Dropped.UNSTABLE
        return
    assert normalise_row(once, second_name) == once
    assert normalise_row(json.loads(json.dumps(once)), second_name) == once


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES.filter(lambda piece: piece not in ("\\n", ":", "：", "{{user}}", "{user}")), max_size=16).map("".join))
def test_no_word_is_lost(content):
    result = normalise_row(reply(content), "소마")
    if isinstance(result, Dropped):
        return
    words = lambda text: Counter(char for char in text if char.isalnum())  # noqa: E731
    assert words(result["messages"][0]["content"]) == words(content)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_reply_is_two_lines_at_most_and_balanced(content):
    result = normalise_row(reply(content), "소마")
    if isinstance(result, Dropped):
        return
    *narration, last = result["messages"][0]["content"].split("\n")
    assert len(narration) <= 1
    assert "*" not in last
    assert not narration or (last.startswith('"') and last.endswith('"') and len(last) > 2)
