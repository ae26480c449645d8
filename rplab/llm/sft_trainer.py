"""TRL's SFT trainer with the lab's hooks, and our settings in its words."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from trl.trainer.sft_config import SFTConfig as TrlSftConfig
from trl.trainer.sft_trainer import SFTTrainer

from rplab.errors import ConfigError
from rplab.llm.config import SftConfig, Tracker
from rplab.llm.hooks import LabHooks, shared_arguments

_ROUND = 64
"""Packed rows are filled up to a multiple of this: kernels are then compiled and cached for few lengths."""


class LabSftTrainer(LabHooks, SFTTrainer):
    """TRL's trainer with the lab's hooks."""

    def resume_counters(self, rows: Sequence[dict[str, Any]]) -> None:
        """Go on counting tokens where the metrics of an interrupted run end; TRL starts again at 0."""
        self._total_train_tokens = max((int(row["num_tokens"]) for row in rows if "num_tokens" in row), default=0)


def trainer_arguments(config: SftConfig, checkpoints: Path, *, check_device: bool = True) -> TrlSftConfig:
    """Translate our settings into TRL's.

    Args:
        config: Settings.
        checkpoints: Folder of the checkpoints.
        check_device: Refuse what this machine cannot do (a dry run plans for another one).

    Raises:
        ConfigError: A setting that cannot work here.
    """
    return TrlSftConfig(
        **shared_arguments(config, checkpoints, check_device=check_device),
        per_device_train_batch_size=config.rows_per_step,
        gradient_accumulation_steps=passes_of_process(config.passes_per_step),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        packing=config.packing,
        packing_strategy="bfd",
        max_length=config.max_length if config.packing else None,
        pad_to_multiple_of=_ROUND if config.packing else None,
    )


def passes_of_process(passes: int) -> int:
    """Return the forward passes of one process in an optimiser step: the step is the same however many share it.

    Raises:
        ConfigError: The passes cannot be shared out evenly.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if passes % world:
        raise ConfigError(
            f"{passes} forward passes a step cannot be shared by {world} processes. Make accumulation_steps (step_tokens, or the "
            "replies of a step) a multiple, or set machine.processes to a divisor"
        )
    return passes // world


def tracker_callbacks(names: Sequence[Tracker], folder: Path) -> list[TrainerCallback]:
    """Return TensorBoard's callback, writing into `folder`; the other trackers are started by the trainer itself.

    Raises:
        ConfigError: A tracker that is not installed.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"report_to: {name} is not installed. Run pip install {name}, or leave it out; metrics.jsonl is always written"
            )
    if "tensorboard" not in names:
        return []
    from torch.utils.tensorboard.writer import SummaryWriter  # slow to import
    from transformers.integrations.integration_utils import TensorBoardCallback

    return [TensorBoardCallback(SummaryWriter(str(folder)))]
