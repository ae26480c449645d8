"""The predecessor's cases: kept behaviour exactly, faults as their `suggested` says."""

import json
from pathlib import Path

import pytest

from rplab.dataset.normalise import Dropped, normalise_file, normalise_row
from rplab.errors import DataError

GOLDEN = Path(__file__).parents[2] / "golden"
ROWS = [json.loads(line) for line in (GOLDEN / "normalize_rows.jsonl").read_text().splitlines()]
FILES = [json.loads(line) for line in (GOLDEN / "normalize_files.jsonl").read_text().splitlines()]

# What `suggested` means where it is no literal text.
SAID = {
    "norm/q14_two_quoted_segments": '코하루는 문을 연다.\n"어서 와. 춥지 않았어?"',
    "norm/m09_five_lines": '가. 나. 다. 라.\n"마."',
    "norm/u03_uppercase_placeholder": '"카즈키를 본다."',
    "norm/u04_spaced_placeholder": '"카즈키를 본다."',
    "norm/u05_single_brace": '"카즈키를 본다."',
    "norm/u08_josa_mismatch": '카즈키가 웃는다.\n"카즈키는 어때?"',
    "norm/e06_list_content": '"안녕"',
    "norm/e09_uppercase_role": '"응"',
    "norm/l18_label_in_user_kept": '"응."',
}


def run(tmp_path, lines, seed):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    counts = normalise_file(source, target, seed)
    return [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()], counts


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case["id"])
def test_row(case, tmp_path):
    seed = case["flags"]["--seed"]
    lines = [json.dumps(case["input"], ensure_ascii=False)]
    if case["seed_quirk"] is None:
        assert run(tmp_path, lines, seed)[0] == [case["output"]]
    elif case["id"] in ("norm/e04_null_content", "norm/e05_number_content"):
        with pytest.raises(DataError, match=r"in\.jsonl:1: content of message \d"):
            run(tmp_path, lines, seed)
        return
    elif "drop the row" in case["suggested"]:
        rows, counts = run(tmp_path, lines, seed)
        assert rows == []
        assert sum(counts.dropped.values()) == 1
        return
    elif case["id"] == "norm/e12_extra_fields_dropped":
        expected = {**case["input"], "messages": [{**case["input"]["messages"][0], "content": '"응"'}]}
        assert run(tmp_path, lines, seed)[0] == [expected]
    else:
        (row,), _ = run(tmp_path, lines, seed)
        assert row["messages"][-1]["content"] == SAID.get(case["id"], case["suggested"])
        assert row["messages"][-1]["role"] == "assistant"
    once, _ = run(tmp_path, lines, seed)
    assert run(tmp_path, [json.dumps(row, ensure_ascii=False) for row in once], seed)[0] == once


def test_label_leaves_user_turns():
    case = next(case for case in ROWS if case["id"] == "norm/l18_label_in_user_kept")
    row = normalise_row(case["input"], "소마")
    assert not isinstance(row, Dropped)
    assert row["messages"][0]["content"] == "같이 갈래?"


@pytest.mark.parametrize("case", FILES, ids=lambda case: case["id"])
def test_file(case, tmp_path):
    seed = int(case["flags"][1]) if case["flags"] else 42
    aborts = case["exit_code"] != 0 or case["id"] == "norm_file/f15_nan_constant_ok"
    if case["id"] == "norm_file/f14_bom_aborts":
        rows, _ = run(tmp_path, case["input_lines"], seed)
        assert len(rows) == 1
    elif aborts:
        (tmp_path / "out.jsonl").write_text("old\n")
        with pytest.raises(DataError, match=r"in\.jsonl:1: "):
            run(tmp_path, case["input_lines"], seed)
        assert (tmp_path / "out.jsonl").read_text() == "old\n"
        assert not list(tmp_path.glob(".*.tmp"))
    else:
        assert run(tmp_path, case["input_lines"], seed)[0] == [json.loads(line) for line in case["output_lines"]]
