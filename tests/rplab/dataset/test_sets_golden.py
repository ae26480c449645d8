"""Converter, translation and GRPO cases of the predecessor."""

import json
from pathlib import Path

import pytest

from rplab.dataset.convert import convert_file
from rplab.dataset.grpo_set import GrpoLimits, make_grpo_files
from rplab.dataset.token_count import TokenCounter
from rplab.dataset.translation_set import INSTRUCTION, make_translation_file
from rplab.errors import DataError

GOLDEN = Path(__file__).parents[2] / "golden"


def cases(name):
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", cases("converter_files.jsonl"), ids=lambda case: case["id"])
def test_convert(case, tmp_path):
    source, target = write(tmp_path / "in.jsonl", case["input_lines"]), tmp_path / "out.jsonl"
    name = case["id"].split("/")[1][:3]
    if case["seed_quirk"] is None or name == "c11":
        convert_file(source, target)
        assert read(target) == [json.loads(line) for line in case["output_lines"]]
        if name == "c11":
            assert convert_file(source, target, drop_duplicates=True).kept == 1
    elif name == "c02":
        convert_file(source, target)
        (row,) = read(target)
        given = json.loads(case["input_lines"][0])
        assert row == {**json.loads(case["output_lines"][0]), "meta": {"extra": 1, "scene": given["scene"]}}
    elif name == "c10":
        convert_file(source, target)
        assert [message["content"] for message in read(target)[0]["messages"]] == ["s", "u", "a"]
    else:
        bad = len(case["input_lines"])
        with pytest.raises(DataError, match=rf"in\.jsonl:{bad}: "):
            convert_file(source, target)
        assert not target.exists()
        counts = convert_file(source, target, quarantine=tmp_path / "aside.jsonl")
        assert (counts.kept, len(read(target))) == (bad - 1, bad - 1)
        (aside,) = read(tmp_path / "aside.jsonl")
        assert aside["line"] == bad
        assert aside["text"] == case["input_lines"][-1]


@pytest.mark.parametrize("case", cases("translation_sft_cases.jsonl"), ids=lambda case: case["id"])
def test_translation(case, tmp_path):
    source, target = write(tmp_path / "in.jsonl", case["input_lines"]), tmp_path / "out.jsonl"
    name = case["id"].split("/")[1][:3]
    if name == "t16":
        with pytest.raises(DataError, match=r"in\.jsonl:1: 'scene\.dialogue' must be an object"):
            make_translation_file(source, target)
        return
    counts = make_translation_file(source, target)
    expected = case["output_pairs"][:1] if name == "t10" else case["output_pairs"]
    assert read(target) == [{"instruction": INSTRUCTION, **pair} for pair in expected]
    assert counts.notes["conflicting_inputs"] == (1 if name == "t11" else 0)
    assert counts.dropped["duplicate"] == (2 if name == "t10" else 0)


def pairs(rows):
    return sorted(json.dumps([row["prompt_messages"], row["reference"]], ensure_ascii=False) for row in rows)


def flags(case):
    values = dict(zip(case["flags"][::2], case["flags"][1::2], strict=True))
    limits = {name: int(values[f"--{name}"]) for name in GrpoLimits.__dataclass_fields__ if f"--{name}" in values}
    return float(values.get("--eval_ratio", 0.05)), int(values.get("--seed", 42)), GrpoLimits(**limits)


def expected_pairs(case):
    """What should come out: the golden samples, changed as `suggested` says."""
    name = case["id"].split("/")[1][:3]
    golden = [*case["train"], *case["eval"]]
    if name == "g06":
        return pairs([{**golden[0], "reference": '사야는 고개를 든다.\n"네, 말씀하세요."'}])
    if name == "g12":
        added = {"prompt_messages": [{"role": "system", "content": "설정"}, {"role": "user", "content": '"안녕하세요?"'}]}
        return pairs([*golden, {**added, "reference": "사야는 웃는다."}])
    if name == "g13":
        return pairs([{**golden[0], "prompt_messages": golden[0]["prompt_messages"][1:]}])
    if name in ("g16", "g17"):
        system = {"role": "system", "content": "사야는 서점 점원이다."}
        return pairs(
            [
                row if row["prompt_messages"][0] == system else {**row, "prompt_messages": [system, *row["prompt_messages"][1:]]}
                for row in golden
            ]
        )
    return sorted(set(pairs(golden)))


@pytest.mark.parametrize("case", cases("grpo_cases.jsonl"), ids=lambda case: case["id"])
def test_grpo(case, tmp_path):
    for name, lines in case["input_files"].items():
        write(tmp_path / name, lines)
    inputs = [tmp_path / name for name in case["inputs"]]
    ratio, seed, limits = flags(case)
    tokens = word_counter(tmp_path) if limits.max_prompt_tokens or limits.max_reference_tokens else None
    train, evaluation = tmp_path / "train.jsonl", tmp_path / "eval.jsonl"
    if not case["ok"]:
        with pytest.raises(DataError, match="no usable sample"):
            make_grpo_files(inputs, train, evaluation, eval_ratio=ratio, seed=seed, limits=limits)
        assert not train.exists()
        return
    counts = make_grpo_files(inputs, train, evaluation, eval_ratio=ratio, seed=seed, limits=limits, tokens=tokens)
    rows = [*read(train), *read(evaluation)]
    assert pairs(rows) == expected_pairs(case)
    assert len({row["id"] for row in rows}) == len(rows)
    assert counts.kept == len(rows)
    if case["id"].startswith("grpo/g21"):
        assert counts.dropped == {"broken_line": 3, "no_messages": 1, "duplicate": 1}


def word_counter(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return TokenCounter(folder)
