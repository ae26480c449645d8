"""One tiny base for all training tests: a real Qwen3, pretrained for some seconds on the toy dataset."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[2] / "assets"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

SHAPE = {"vocab_size": 900, "hidden_size": 96, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32, "intermediate_size": 256}
LORA = {"rank": 8, "alpha": 16, "dropout": 0.1}


def base_config(**pretrain):
    from rplab.llm.config import BaseConfig

    settings = {
        "max_steps": 110, "batch_tokens": 1280, "sequence_tokens": 512, "wrong_share": 0.8, "optimiser": {"learning_rate": 1e-2},
    } | pretrain  # fmt: skip
    return BaseConfig.model_validate({"model": SHAPE, "pretrain": settings})


@pytest.fixture(scope="session")
def base_settings():
    """Makes a base config of the tests' size, with other pretraining settings where wanted."""
    return base_config


class StageRunner:
    """Runs stage functions into folders below a temporary one."""

    def __init__(self, root):
        self.root = root

    def context(self, name, stop_at=None):
        from rplab.stage import StageContext

        out, resume = self.root / name, self.root / f"{name}.resume"
        out.mkdir(exist_ok=True)
        resume.mkdir(exist_ok=True)
        stop = threading.Event()

        def report(progress):
            if progress.done == stop_at:
                stop.set()

        return StageContext(out=out, resume=resume, report=report, stop=stop)

    def run(self, name, function, config, inputs, stop_at=None):
        """Return (artefact folder, stats)."""
        stats = function(config, inputs, self.context(name, stop_at))
        return self.root / name, stats

    def run_killed(self, name, entry, config, inputs, kill_at):
        """Run in a child process that SIGKILLs itself at a step, then again to the end; return the artefact folder."""
        spec = {
            "entry": entry, "config_type": type(config).__name__, "config": config.model_dump(mode="json"),
            "inputs": {k: str(v) for k, v in inputs.items()}, "out": str(self.root / name), "resume": str(self.root / f"{name}.resume"),
        }  # fmt: skip
        codes = []
        for step in (kill_at, None):
            path = self.root / f"{name}.json"
            path.write_text(json.dumps({**spec, "kill_at": step}), encoding="utf-8")
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, str(ASSETS / "train_stage.py"), str(path)], env=environment, capture_output=True, text=True
            )
            codes.append(done.returncode)
        assert codes == [-9, 0], done.stderr[-3000:]
        return self.root / name


@pytest.fixture(scope="session")
def runner():
    """Makes a `StageRunner` for a folder."""
    return StageRunner


@pytest.fixture
def stages(tmp_path):
    return StageRunner(tmp_path)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A dataset artefact."""
    sys.path.insert(0, str(ASSETS))
    from toy_dataset import write_toy_dataset

    return write_toy_dataset(tmp_path_factory.mktemp("toy"), rows=240)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, toy):
    """A base artefact."""
    import torch

    from rplab.llm.base import make_base

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("tiny")
    StageRunner(root).run("base", make_base, base_config(), {"dataset": toy})
    return root / "base"


@pytest.fixture(scope="session")
def tuned(tmp_path_factory, toy, tiny):
    """An SFT artefact: adapter on the NF4 base, and what training reported."""
    from rplab.llm.config import SftConfig
    from rplab.llm.sft import train_sft

    config = SftConfig.model_validate({
        "lora": LORA, "max_length": 512, "rows_per_step": 2, "accumulation_steps": 2, "max_steps": 12, "save_steps": 5,
        "optimiser": {"learning_rate": 2e-3},
    })  # fmt: skip
    root = tmp_path_factory.mktemp("tuned")
    folder, stats = StageRunner(root).run("sft1", train_sft, config, {"base": tiny, "dataset": toy})
    return folder, stats, config


@pytest.fixture(scope="session")
def merged(tmp_path_factory, tiny, tuned):
    """A merge artefact."""
    from rplab.llm.config import MergeConfig
    from rplab.llm.merge import merge_adapter

    root = tmp_path_factory.mktemp("merged")
    folder, stats = StageRunner(root).run("merge", merge_adapter, MergeConfig(), {"base": tiny, "adapter": tuned[0]})
    return folder, stats
