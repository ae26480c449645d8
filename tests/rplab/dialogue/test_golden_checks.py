"""Golden cases of turns, payloads and books: what the predecessor accepted is kept, its faults are not."""

import json
from pathlib import Path

import pytest

from rplab.dialogue.checks import find_fault
from rplab.dialogue.old_book import book_fault, cut_after_last_section
from rplab.dialogue.pack import load_pack
from rplab.dialogue.payload import Expected, extract_json, payload_fault
from rplab.dialogue.turn import TurnContext, mend
from rplab.text.speech_level import Level, speech_level

GOLDEN = Path(__file__).parents[2] / "golden"
PACK = load_pack("v7")
SIDES = {"assistant": "asst", "user": "user", "crisis": "crisis"}


def _cases(name):
    return [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


PAYLOADS = _cases("payload_validation_cases")
TURNS = _cases("turn_validator_cases")
BOOKS = _cases("scenario_book_cases")

FIXED_PAYLOADS = {
    "payload/v03_user_not_quoted_still_ok": "user_not_quoted",
    "payload/v05_user_five_lines_ok": "user_lines",
    "payload/v08_user_colon_in_text_rejected": None,
    "payload/v12_player_name_with_josa_dialog_only_ok": "user_not_quoted",
    "payload/v14_star_in_user_ok": "user_star",
    "payload/v30_english_assistant_ok": "assistant_narr_not_plain",
}
"""Quirks of the predecessor and what we do instead."""

FIXED_TURNS = {
    "validator/assistant/a05_colon": None,  # a clock time is no label
    "validator/assistant/a06_meta_word_evaluation": None,  # everyday words
    "validator/assistant/a07_meta_word_graph": None,
    "validator/assistant/a27_speaker_label": "asst_speaker_label",  # refused as before, by what it is
    "validator/assistant/a28_fullwidth_colon": "asst_speaker_label",
    "validator/crisis/c07_colon": "crisis_speaker_label",
}
ADDED_CHECKS = {
    "validator/assistant/a13_narration_question": "asst_narr_not_plain",
    "validator/assistant/a14_narration_vocative": "asst_narr_subject",
    "validator/assistant/a15_narration_dialogue_ending": "asst_narr_not_plain",
    "validator/assistant/a29_english": "asst_narr_not_plain",
    "validator/crisis/c08_long": "crisis_too_long",
}
"""Turns that v7 let through and that our added checks (language, plain narration, length) refuse."""


@pytest.mark.parametrize("case", [case for case in PAYLOADS if "/extract_" not in case["id"]], ids=lambda case: case["id"])
def test_payload_verdict(case):
    seed = case["seed"]
    fault = payload_fault(case["input"], Expected(seed["protagonist_name"], seed["player_name"], seed["user_format"]))

    if case["seed_quirk"] is None:
        assert (fault is None) is case["output"], fault
    else:
        assert fault == FIXED_PAYLOADS[case["id"]]


@pytest.mark.parametrize("case", [case for case in PAYLOADS if "/extract_" in case["id"]], ids=lambda case: case["id"])
def test_json_is_extracted_as_before(case):
    if not case["error"]:
        assert extract_json(case["input"]) == case["output"]
        return
    kind, _, message = case["error"].partition(": ")
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the golden message is compared below
        extract_json(case["input"])
    assert (type(error.value).__name__, str(error.value)) == (kind, message)


@pytest.mark.parametrize("case", TURNS, ids=lambda case: case["id"])
def test_turn_verdict(case):
    side = SIDES[case["id"].split("/")[1]]
    context = TurnContext(side, case["context"]["protagonist"], case["context"]["player_name"])
    finding, _ = find_fault(mend(case["input"]), context, PACK.checks_for(side))

    wanted = {**FIXED_TURNS, **ADDED_CHECKS}.get(case["id"], case["reason_by_version"]["v7_qwen"])
    assert (finding.code if finding else None) == wanted


@pytest.mark.parametrize("case", [case for case in BOOKS if "by_version" in case], ids=lambda case: case["id"])
def test_book_verdict(case):
    for version, min_chars in (("v5_qwen", 350), ("v6_qwen", 350), ("v7_qwen", 180)):
        fault = book_fault(
            case["input"],
            ("사야", "마이", "코하루"),
            ("하야토", "카즈키", "소마"),
            min_chars=min_chars,
            check_register=version != "v5_qwen",
        )
        wanted = case["by_version"][version]["reason"]
        if wanted in ("speech_style_mismatch_sec6_sec7", "protagonist_count=2") and case["seed_quirk"]:
            wanted = None  # 마이크 is not 마이; a line without a level, or with an everyday ending, is no mismatch
        assert fault == wanted


@pytest.mark.parametrize("case", [case for case in BOOKS if "/line_style/" in case["id"]], ids=lambda case: case["id"])
def test_line_style(case):
    ours = {"괜찮아.": Level.CASUAL, "그래요? 몰라.": Level.MIXED}  # an ending its lists miss; two levels are two levels
    before = {"반말": Level.CASUAL, "존댓말": Level.POLITE, None: Level.UNKNOWN}[case["output"]]

    assert speech_level(case["input"]) is ours.get(case["input"], before)


def test_a_book_is_cut_after_section_7():
    (case,) = [case for case in BOOKS if "cut_after" in case["id"]]
    book = f'7. 가장 최근 상호작용\n플레이어의 가장 최근 턴: 하야토는 우산을 편다. "같이 갈래?{case["input_tail"]}'

    assert cut_after_last_section(book).endswith(case["output_tail"])
    assert cut_after_last_section("7. 끝\n가\n나\n다", kept_lines=20) == "7. 끝\n가\n나\n다"
