"""The predecessor's turn normalisers, row by row: what must stay, and where we differ on purpose, with the reason.

The rows carry no quirk mark, so every row that we do not keep is named here.
"""

import json
from pathlib import Path

import pytest

from rplab.dialogue.check_functions import ECHO_LIMIT, has_fault
from rplab.dialogue.turn import TurnContext, is_quote, mend, split_turn
from rplab.text.korean import replace_name
from rplab.text.meta_lines import find_meta

GOLDEN = Path(__file__).parents[2] / "golden" / "turn_normaliser_cases.jsonl"
ROWS = {row["id"].removeprefix("utils/"): row for row in map(json.loads, GOLDEN.read_text(encoding="utf-8").splitlines())}
DIFFERENT = {
    "normalize_user_refs/02": ("카즈키", "general words (USER, 사용자, 플레이어) are not names; placeholders are filled by the normaliser"),
    "normalize_user_refs/03": ("카즈키가 온다.", "the text names its own player; another one is not put in his place"),
    "normalize_user_refs/04": ("소마법사가 온다.", "a name inside another word is not a name"),
    "normalize_user_refs/06": ("하 야 토가 온다.", "spaces inside a name are not guessed away"),
    "normalize_protagonist_refs/01": ("사야는 웃는다.", "the particle fits the new name"),
    "normalize_protagonist_refs/07": ("코 하루 종일 시리다.", "a nose is no Koharu"),
    "strip_line_labels_multiline/07": (
        "사야의 행동/신체적 반응 및 대사",
        "half a label is no text; a check refuses the line",
    ),
    "strip_line_labels_multiline/10": ("친구의 대답이 늦다.", "a sentence is not a label"),
}

NOT_OURS = {
    "strip_meta/03": "a test that somebody waits for is no policy: the line stays",
    "strip_meta/06": "a semicolon and a dash are punctuation; a check decides about characters",
    "strip_meta/08": "a starred narration is text and stays; play reads it as narration",
    "strip_meta/09": "a sentence is not dropped because it holds a colon",
    "strip_meta/10": "cards can be held: words like 노드 drop no line",
    "force_single_quote_line/": "a line that is no quotation is refused with its reason and asked for again, not guessed into one",
    "parse_genre/": "scenarios are JSON with a field for the genre",
}


def rows(name):
    return [pytest.param(row, id=key) for key, row in ROWS.items() if key.startswith(name)]


def wanted(row):
    key = row["id"].removeprefix("utils/")
    return DIFFERENT[key][0] if key in DIFFERENT else row["output_by_version"]["v7_gpt"]


@pytest.mark.parametrize("row", rows("strip_line_labels_multiline/"))
def test_line_labels_go_and_sentences_stay(row):
    assert mend(row["input"]) == wanted(row)
    assert mend(mend(row["input"])) == mend(row["input"])


@pytest.mark.parametrize("row", rows("normalize_protagonist_refs/"))
def test_the_protagonist_is_named_with_the_right_particle(row):
    assert replace_name(row["input"], "주인공", row["arg"]) == wanted(row)


@pytest.mark.parametrize("row", [param for param in rows("normalize_user_refs/") if not param.id.endswith("02")])
def test_a_player_is_renamed_only_where_he_is_named(row):
    kept = wanted(row) if row["id"].removeprefix("utils/") in DIFFERENT else row["input"]
    assert replace_name(row["input"], "플레이어", row["arg"]) == kept


@pytest.mark.parametrize("row", rows("dialogue_echo_score/"))
def test_an_echo_is_an_echo(row):
    context = TurnContext("asst", "사야", "카즈키", other=(f'"{row["b"]}"',))
    assert has_fault("echo", split_turn(f'사야는 웃는다.\n"{row["a"]}"'), context) is row[f"echo_at_{ECHO_LIMIT:g}"]


@pytest.mark.parametrize("row", rows("is_redundant_turn_dialogue/"))
def test_a_repetition_is_a_repetition(row):
    context = TurnContext("asst", "사야", "카즈키", own=(f'사야는 본다.\n"{row["previous"]}"',))
    assert has_fault("repetition", split_turn(f'사야는 웃는다.\n"{row["current"]}"'), context) is row["output"]


@pytest.mark.parametrize("row", rows("extract_single_quote/"))
def test_one_quotation_is_one_quotation(row):
    kept = row["output_by_version"]["v7_gpt"]
    assert is_quote(row["input"]) is (kept is not None)
    assert kept is None or split_turn(row["input"]).speech == kept


@pytest.mark.parametrize("row", [param for param in rows("strip_meta/") if param.id[-2:] in ("02", "07")])
def test_a_meta_line_is_found_or_its_label_goes(row):
    lines = [line for line in mend(row["input"]).split("\n") if not find_meta(line)]
    assert "\n".join(lines) == wanted(row)


@pytest.mark.parametrize("row", rows("strip_square_brackets/"))
def test_brackets_around_a_name_go_and_the_name_stays(row):
    assert mend(row["input"]) == wanted(row)


@pytest.mark.parametrize("key", [key for key in ROWS if key.startswith("strip_meta/") and key in NOT_OURS])
def test_what_the_predecessor_dropped_or_rewrote_stays(key):
    assert mend(ROWS[key]["input"]) == ROWS[key]["input"]
    assert not any(find_meta(line) for line in ROWS[key]["input"].split("\n"))


@pytest.mark.parametrize("key", [key for key in ROWS if key.startswith("force_single_quote_line/")])
def test_a_line_that_is_no_quotation_is_refused(key):
    assert not is_quote(ROWS[key]["input"])


def test_every_row_is_kept_or_named():
    tested = ("strip_line_labels_multiline/", "normalize_protagonist_refs/", "normalize_user_refs/", "dialogue_echo_score/")
    tested += ("is_redundant_turn_dialogue/", "extract_single_quote/", "strip_square_brackets/", "strip_meta/02", "strip_meta/07")

    assert [key for key in ROWS if not key.startswith((*tested, *NOT_OURS))] == []


@pytest.mark.parametrize(
    ("line", "mended"),
    [("[서술] 사야는 웃는다.", "사야는 웃는다."), ('[대사]"응."', '"응."'), ("그는 [사야]를 본다.", "그는 사야를 본다.")],
)
def test_a_label_in_brackets_still_goes(line, mended):
    assert mend(line) == mended
