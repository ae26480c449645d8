"""SFT: learns, resumes to the byte, goes on with its own adapter only, and says what it drops."""

import json
import shutil

import pytest
import torch

from rplab.errors import ConfigError, DataError, ModelError, StageInterrupted, TrainingError
from rplab.llm.adapter import ADAPTER_WEIGHTS
from rplab.llm.callbacks import MetricsFile, StageCallback
from rplab.llm.config import LoraSettings, SftConfig
from rplab.llm.precision import load_tokenizer, model_folder
from rplab.llm.rows import view_path
from rplab.llm.sft import load_dialogues, train_sft

ENTRY = "rplab.llm.sft:train_sft"


def adapter_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "adapter").iterdir())}


def losses(folder):
    rows = [json.loads(line) for line in (folder / "logs" / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "wall_s"} for row in rows]


def write_view(folder, rows, side="train", view="sft1"):
    path = view_path(folder, view, side)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def turn(user, assistant):
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def test_sft_lowers_the_held_out_loss_beyond_its_interval(tuned):
    folder, stats, _ = tuned

    assert stats["eval_loss_after"] < stats["eval_loss_before"]
    assert stats["eval_gain_interval"][0] > 0
    assert stats["train_rows"] == {"read": 240, "kept": 240, "shortened": 0, "dropped": {}}
    assert 0.7 < stats["packing_efficiency"] <= 1
    assert "/" not in json.loads((folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes(stages, toy, tiny, tuned):
    folder, _, config = tuned

    killed = stages.run_killed("killed", ENTRY, config, {"base": tiny, "dataset": toy}, kill_at=8)

    assert adapter_bytes(killed) == adapter_bytes(folder)
    assert losses(killed) == losses(folder)


@pytest.mark.slow
def test_a_stopped_second_stage_saves_and_ends_with_the_same_bytes(stages, toy, tiny, tuned):
    config = SftConfig.model_validate(tuned[2].model_dump() | {"view": "sft2", "lora": None, "max_steps": 4, "save_steps": 50})
    inputs = {"base": tiny, "dataset": toy, "adapter": tuned[0]}
    whole, stats = stages.run("whole", train_sft, config, inputs)

    with pytest.raises(StageInterrupted):
        stages.run("cut", train_sft, config, inputs, stop_at=2)
    cut, _ = stages.run("cut", train_sft, config, inputs)

    assert adapter_bytes(cut) == adapter_bytes(whole)
    assert adapter_bytes(whole)[ADAPTER_WEIGHTS] != adapter_bytes(tuned[0])[ADAPTER_WEIGHTS]
    assert json.loads((whole / "adapter" / "lineage.json").read_text())["parent"]
    assert stats["eval_loss_after"] < stats["eval_loss_before"]


def test_an_adapter_of_another_base_is_refused(stages, toy, tiny, tuned, base_settings):
    from rplab.llm.base import make_base

    other, _ = stages.run("other", make_base, base_settings(max_steps=1, batch_tokens=128, sequence_tokens=64), {"dataset": toy})

    with pytest.raises(ModelError, match="trained on another base"):
        stages.run("sft2", train_sft, SftConfig(view="sft2"), {"base": other, "dataset": toy, "adapter": tuned[0]})


def test_a_setting_without_effect_is_refused(stages, toy, tiny, tuned):
    inputs = {"base": tiny, "dataset": toy, "adapter": tuned[0]}

    with pytest.raises(ConfigError, match="lora has no effect"):
        stages.run("a", train_sft, SftConfig(lora=LoraSettings(rank=3), max_length=512), inputs)
    with pytest.raises(ConfigError, match="precision is bf16"):
        stages.run("b", train_sft, SftConfig(precision="bf16", max_length=512), inputs)


def test_an_adapter_without_lineage_is_refused(stages, toy, tiny, tuned):
    shutil.copytree(tuned[0], stages.root / "orphan")
    (stages.root / "orphan" / "adapter" / "lineage.json").unlink()

    with pytest.raises(ModelError, match=r"lineage\.json is missing"):
        stages.run("x", train_sft, SftConfig(max_length=512), {"base": tiny, "dataset": toy, "adapter": stages.root / "orphan"})


def test_bad_rows_are_dropped_with_their_reasons(tiny, tmp_path):
    tokenizer = load_tokenizer(model_folder(tiny))
    good = {"messages": turn("안녕?", '사야는 웃는다.\n"안녕."')}
    long = {"messages": [m for i in range(12) for m in turn(f"비가 오네 {i}", '사야는 부두에서 조용히 고개를 든다.\n"기다렸어."')]}
    huge = {"messages": turn("비" * 900, "사야는 웃는다.")}
    path = write_view(tmp_path, [
        good, long, huge, {"text": "x"}, {"messages": []}, {"messages": [{"role": "user"}]}, {"messages": turn("a", " ")},
        {"messages": turn("a", "b")[:1]}, {"messages": turn("a", "b<|im_end|>c")}, {"messages": [{"role": "tool", "content": "x"}]},
    ])  # fmt: skip

    loaded = load_dialogues(path, tokenizer, 256)

    assert loaded.tally.as_stats() == {
        "read": 10, "kept": 2, "shortened": 1,
        "dropped": {
            "bad_message": 1, "control_token": 1, "empty_assistant": 1, "no_assistant": 1, "no_messages": 2, "too_long": 1,
            "unknown_role": 1,
        },
    }  # fmt: skip
    shortened = loaded.rows[1]
    assert len(shortened.example.input_ids) <= 256
    assert shortened.messages == long["messages"][: len(shortened.messages)]


def test_a_broken_line_names_file_and_line(stages, tiny, toy):
    path = write_view(stages.root / "data", [{"messages": turn("a", "b")}])
    path.write_text(path.read_text() + '{"messages": [\n')

    with pytest.raises(DataError, match=r"train\.jsonl:2: not valid JSON"):
        stages.run("x", train_sft, SftConfig(), {"base": tiny, "dataset": stages.root / "data"})


def test_a_file_without_usable_rows_says_why(stages, tiny):
    write_view(stages.root / "data", [{"messages": turn("a", "b")[:1]}])

    with pytest.raises(DataError, match=r"no usable row \(no_assistant 1\)"):
        stages.run("x", train_sft, SftConfig(), {"base": tiny, "dataset": stages.root / "data"})


def test_a_diverged_loss_ends_the_run(stages):
    context = stages.context("x")
    callback = StageCallback(context, MetricsFile(context), "sft1")

    class State:
        global_step, max_steps = 3, 9

    with pytest.raises(TrainingError, match="loss is nan at step 3"):
        callback.on_log(None, State(), None, {"loss": float("nan"), "grad_norm": 1.0})


@pytest.mark.slow
def test_packing_changes_no_gradient(stages, toy, tiny):
    """One step over the same dialogues, packed and padded, moves the adapter alike."""
    write_view(stages.root / "data", [json.loads(line) for line in view_path(toy, "sft2", "train").read_text().splitlines()[:6]])
    write_view(stages.root / "data", [json.loads(line) for line in view_path(toy, "sft2", "eval").read_text().splitlines()[:4]], "eval")
    common = {
        "precision": "fp32",
        "lora": {"rank": 4, "dropout": 0.0},
        "max_length": 2048,
        "max_steps": 2,
        "optimiser": {"learning_rate": 1e-3},
    }
    inputs = {"base": tiny, "dataset": stages.root / "data"}
    packed = SftConfig.model_validate({**common, "accumulation_steps": 1})
    masked = packed.model_copy(update={"attention": "sdpa"})
    padded = packed.model_copy(update={"packing": False, "rows_per_step": 6})

    results = [stages.run(name, train_sft, config, inputs)[1] for name, config in {"p": packed, "m": masked, "u": padded}.items()]

    assert results[0]["packed_rows"] < 6
    for other in results[1:]:
        assert torch.tensor(other["eval_loss_after"]) == pytest.approx(results[0]["eval_loss_after"], abs=2e-5)
