"""Two training processes take the steps of one."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rplab.errors import ConfigError, DataError, StageInterrupted
from rplab.llm.adapter import ADAPTER_WEIGHTS
from rplab.llm.config import SftConfig
from rplab.llm.distributed import parallel
from rplab.llm.sft import train_sft

ENTRY = "rplab.llm.sft:train_sft"
CONFIG = SftConfig.model_validate({
    "precision": "fp32", "lora": {"rank": 4, "dropout": 0.0}, "max_length": 256, "accumulation_steps": 4, "max_steps": 4,
    "save_steps": 2, "eval_rows": 8, "eval_steps": 2, "sample_prompts": 0, "optimiser": {"learning_rate": 1e-3},
})  # fmt: skip


def steps(folder):
    rows = [json.loads(line) for line in (folder / "logs" / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(stages, toy, tiny):
    inputs = {"base": tiny, "dataset": toy}
    one, stats_one = stages.run("one", train_sft, CONFIG, inputs)
    try:
        two, stats_two = stages.run("two", parallel(ENTRY, 2), CONFIG, inputs, stop_at=2)
    except StageInterrupted:  # nearly always; a fast machine may be through before the stop request arrives
        two, stats_two = stages.run("two", parallel(ENTRY, 2), CONFIG, inputs)

    for first, second in zip(steps(one), steps(two), strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-5)
        assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-3)
        assert second["num_tokens"] == first["num_tokens"]
    assert stats_two["eval_loss_after"] == pytest.approx(stats_one["eval_loss_after"], abs=1e-5)
    before, after = (load_file(str(folder / "adapter" / ADAPTER_WEIGHTS)) for folder in (one, two))
    for name, weights in before.items():
        assert torch.allclose(weights, after[name], atol=2e-5), name


def test_what_a_process_finds_wrong_comes_through(stages, tiny):
    with pytest.raises(DataError, match="sft1"):
        stages.run("x", parallel(ENTRY, 2), CONFIG, {"base": tiny, "dataset": stages.root / "nowhere"})


def test_a_stage_that_cannot_be_shared_is_named():
    with pytest.raises(ConfigError, match="one process only"):
        parallel("rplab.llm.merge:merge_adapter", 2)
