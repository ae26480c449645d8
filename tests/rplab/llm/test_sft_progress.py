"""Between the steps of SFT: the best adapter stays, samples are written, damaged checkpoints are passed over."""

import json

import pytest
import torch

from rplab.errors import ModelError, StageInterrupted
from rplab.llm.adapter import ADAPTER_WEIGHTS
from rplab.llm.checkpoint import latest_checkpoint, publish_checkpoint
from rplab.llm.config import SftConfig
from rplab.llm.progress_eval import BestAdapter
from rplab.llm.sft import train_sft

LEARNS_TOO_FAST = SftConfig.model_validate({
    "precision": "bf16", "lora": {"rank": 8, "dropout": 0.0}, "max_length": 512, "accumulation_steps": 1, "max_steps": 9,
    "save_steps": 3, "eval_rows": 16, "eval_steps": 3, "sample_prompts": 2, "sample_tokens": 16, "report_to": ["tensorboard"],
    "optimiser": {"learning_rate": 0.05, "warmup": 0.4}, "activation_checkpointing": False,
})  # fmt: skip


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy, tiny, runner):
    stages = runner(tmp_path_factory.mktemp("progress"))
    return stages.run("sft1", train_sft, LEARNS_TOO_FAST, {"base": tiny, "dataset": toy})


def test_the_best_adapter_stays(run):
    folder, stats = run
    measured = {row["step"]: row["eval_loss"] for row in lines(folder / "logs" / "metrics.jsonl") if "eval_loss" in row}

    assert sorted(measured) == [3, 6, 9]
    assert stats["best_step"] == min(measured, key=measured.get)
    assert stats["eval_loss_after"] == pytest.approx(min(measured.values()), abs=1e-4)


def test_samples_are_written_as_training_goes_on(run):
    rows = lines(run[0] / "samples.jsonl")

    assert [row["step"] for row in rows] == [3, 3, 6, 6, 9, 9, 9, 9]
    assert all(row["user"] and row["reference"] for row in rows)
    assert rows[0]["user"] == rows[2]["user"]


def test_tensorboard_gets_the_losses(run):
    assert list((run[0] / "logs" / "tensorboard").glob("events.*"))


def test_a_best_adapter_of_steps_to_come_is_forgotten(stages):
    best = BestAdapter(stages.context("x"))
    folder = stages.root / "x.resume" / "best"
    folder.mkdir()
    (folder / "best.json").write_text('{"step": 6, "loss": 1.0}')

    best.rewind(6)
    assert best.record() == {"step": 6, "loss": 1.0}
    best.rewind(3)
    assert best.record() is None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing seal"])
def test_a_damaged_checkpoint_is_passed_over_for_the_last_good_one(stages, damage, caplog):
    root = stages.root / "checkpoints"
    for step in (2, 4):
        staged = root / ".staging" / f"checkpoint-{step}"
        staged.mkdir(parents=True)
        (staged / ADAPTER_WEIGHTS).write_bytes(bytes(range(200)) * step)
        publish_checkpoint(staged, root, step)
    newest = root / "checkpoint-4"
    data = bytearray((newest / ADAPTER_WEIGHTS).read_bytes())
    if damage == "truncated":
        (newest / ADAPTER_WEIGHTS).write_bytes(data[:-7])
    elif damage == "flipped":
        data[11] ^= 1
        (newest / ADAPTER_WEIGHTS).write_bytes(data)
    else:
        (newest / "complete.json").unlink()

    assert latest_checkpoint(root) == (2, root / "checkpoint-2")
    assert "checkpoint-4" in caplog.text


@pytest.mark.slow
def test_a_run_with_a_damaged_checkpoint_ends_with_the_same_bytes(stages, toy, tiny, run):
    inputs = {"base": tiny, "dataset": toy}
    with pytest.raises(StageInterrupted):
        stages.run("cut", train_sft, LEARNS_TOO_FAST, inputs, stop_at=7)
    step, newest = latest_checkpoint(stages.root / "cut.resume" / "checkpoints")
    assert step == 8
    data = (newest / "optimizer.pt").read_bytes()
    (newest / "optimizer.pt").write_bytes(data[: len(data) // 2])

    folder, stats = stages.run("cut", train_sft, LEARNS_TOO_FAST, inputs)

    assert (folder / "adapter" / ADAPTER_WEIGHTS).read_bytes() == (run[0] / "adapter" / ADAPTER_WEIGHTS).read_bytes()
    assert (folder / "samples.jsonl").read_bytes() == (run[0] / "samples.jsonl").read_bytes()
    assert stats == run[1]


def test_adapters_stay_float32_through_resume_and_generation(stages, toy, tiny, tuned):
    from rplab.llm.adapter import load_adapter, low_precision_adapters
    from rplab.llm.precision import load_model, load_tokenizer, model_folder
    from rplab.llm.progress_eval import SampleReplies

    folder = model_folder(tiny)
    model = load_adapter(load_model(folder, "nf4"), tuned[0] / "adapter", trainable=True)
    samples = SampleReplies(
        stages.context("x"), load_tokenizer(folder), [[{"role": "user", "content": "안녕?"}, {"role": "assistant", "content": "응."}]], 4, 1
    )
    state = torch.get_rng_state()

    samples.add(model, 1)

    assert not low_precision_adapters(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_broken_adapter_is_named(stages, toy, tiny, tuned):
    import shutil

    shutil.copytree(tuned[0], stages.root / "broken")
    weights = stages.root / "broken" / "adapter" / ADAPTER_WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(ModelError, match=r"cannot be loaded|adapter_model"):
        stages.run(
            "x", train_sft, SftConfig(view="sft2", max_length=512), {"base": tiny, "dataset": toy, "adapter": stages.root / "broken"}
        )
