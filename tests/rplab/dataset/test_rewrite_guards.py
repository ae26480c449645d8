"""Guards of rewrites: golden cases, what the quirk rows should do."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.character import Register
from rplab.dataset.rewrite_guards import Refusal, guard_player_turn, guard_reply, is_plain_style, last_register

CASES = [json.loads(line) for line in (Path(__file__).parents[2] / "golden" / "rewrite_guard_cases.jsonl").read_text("utf-8").splitlines()]
TURNS = [case for case in CASES if "original" in case]
GUARDS = {"enforce_assistant_rp_format": guard_reply, "enforce_user_rewrite_format": guard_player_turn}
BLIND = {
    "rewrite/speech_d03": "같이 가요 is polite; the predecessor's table of endings has no 가요 (quirk r22)",
    "rewrite/speech_d10": "앉으십시오 is polite; not in the table either",
    "rewrite/plain_n05": "듭니다 is polite; not in the table either",
}
SUGGESTED = {
    "rewrite/r05_dialogue_style_not_checked": Refusal.LEVEL,
    "rewrite/r07_original_free_form_accepts_anything": Refusal.LENGTH,
    "rewrite/r08_empty_rewrite_free_form": Refusal.EMPTY,
    "rewrite/r09_extra_text_after_quote_kept": Refusal.EXTRA,
    "rewrite/r10_multi_quote": Refusal.EXTRA,
    "rewrite/r22_ok_polite": None,
}


def guard(case):
    return GUARDS[case["script"].split("::")[1]](case["original"], case["rewritten"])


@pytest.mark.parametrize("case", [case for case in TURNS if case["seed_quirk"] is None], ids=lambda case: case["id"])
def test_golden_turns_come_out_the_same(case):
    kept = guard(case)
    assert (kept.text, kept.refusal is not None) == (case["output"], case["fell_back"])


@pytest.mark.parametrize("case", [case for case in TURNS if case["seed_quirk"]], ids=lambda case: case["id"])
def test_quirk_turns_do_what_is_suggested(case):
    kept = guard(case)
    assert kept.refusal is SUGGESTED[case["id"]]
    assert kept.text == (case["rewritten"] if kept.refusal is None else case["original"])


@pytest.mark.parametrize("case", [case for case in CASES if "original" not in case], ids=lambda case: case["id"])
def test_levels_and_plain_style_agree_but_for_endings_that_the_predecessor_did_not_know(case):
    if case["script"].endswith("is_plain_style_text"):
        found, golden = is_plain_style(case["input"]), case["output"]
    else:
        found, golden = last_register(case["input"]), {"jondaetmal": Register.POLITE, "banmal": Register.CASUAL}[case["output"]]
    assert (found == golden) is (case["id"] not in BLIND)


def test_a_players_polite_line_must_not_turn_casual():
    assert guard_player_turn('하야토는 손을 든다.\n"같이 가요."', '하야토는 손을 든다.\n"같이 가자."').refusal is Refusal.LEVEL
    assert guard_player_turn("같이 가요.", "우리 같이 가요.").refusal is None


@pytest.mark.parametrize(
    ("rewritten", "refusal"),
    [
        ('사야는 我的 웃는다.\n"왔어?"', Refusal.SCRIPT),
        ("She smiles.", Refusal.SCRIPT),
        ('사야는 웃는다.\n"왔ㅇㅓ?"', Refusal.BROKEN),
        ('아래는 수정한 답변입니다.\n"왔어?"', Refusal.META),
        ('사야는 웃는다.\n"왔어? ' + "정말 왔어? " * 20 + '"', Refusal.LENGTH),
        ('사야는 웃는다. "왔어?"', Refusal.EXTRA),
        (" \n\t", Refusal.EMPTY),
    ],
)
def test_bad_rewrites_are_refused(rewritten, refusal):
    assert guard_reply('사야는 웃는다.\n"왔어?"', rewritten) == ('사야는 웃는다.\n"왔어?"', refusal)


def test_the_card_decides_over_the_original():
    original, polite = '사야는 웃는다.\n"왔어?"', '사야는 웃는다.\n"오셨어요?"'
    assert guard_reply(original, polite, Register.POLITE) == (polite, None)
    assert guard_reply(polite, original, Register.POLITE).refusal is Refusal.LEVEL


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet='사야는웃다.?요" \n(1', max_size=30), st.text(alphabet='사야는웃다.?요" \n(1', max_size=30))
def test_the_result_is_the_original_or_the_rewrite(original, rewritten):
    kept = guard_reply(original, rewritten)
    assert kept.text == original if kept.refusal else "".join(kept.text.split()) == "".join(rewritten.split())
