"""What the lab's SFT and GRPO trainers do otherwise than TRL's: the few places where its numbers or files are not ours.

- checkpoints are published whole (`rplab.llm.checkpoint`), without model cards;
- resuming copies the float32 adapter exactly instead of loading it a second time;
- a trainable weight that is not float32 stops the run;
- packed rows run without a mask (`rplab.llm.attention`);
- on a CPU only learnt positions go through the vocabulary, as TRL does on a GPU (a tenth of them in SFT).

Every place has a numeric test; look here first when TRL is upgraded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl.trainer import utils as trl_utils

from rplab.errors import ConfigError, TrainingError
from rplab.llm.adapter import copy_adapter_weights, low_precision_adapters, save_adapter
from rplab.llm.attention import packed_forward
from rplab.llm.checkpoint import STAGING, publish_checkpoint
from rplab.llm.config import GrpoConfig, SftConfig

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


def _score_learnt_positions_only() -> None:
    """Make TRL's fused head leave out ignored positions on a CPU as well.

    trl 1.16, trainer/utils.py `add_fused_lm_head`: without Triton it scores every position and masks afterwards, so
    that shapes stay fixed for compilers. Nothing is compiled on a CPU; measured on the smoke GRPO step: 40 % of its time.
    """
    name = "_use_triton"
    original: Callable[[torch.device], bool] = getattr(trl_utils, name)

    def compact(device: torch.device) -> bool:
        return device.type == "cpu" or original(device)

    setattr(trl_utils, name, compact)


_score_learnt_positions_only()


def shared_arguments(config: SftConfig | GrpoConfig, checkpoints: Path, *, check_device: bool = True) -> dict[str, Any]:
    """Return what the SFT and GRPO trainers are both told.

    A name that the installed TRL does not know is a TypeError when the configuration is built; nothing is dropped.

    Raises:
        ConfigError: The optimiser does not run on this machine.
    """
    optimiser = config.optimiser
    if check_device and optimiser.algorithm == "paged_adamw_8bit" and not torch.cuda.is_available():
        raise ConfigError("optimiser.algorithm: paged_adamw_8bit needs an NVIDIA GPU. Set optimiser.algorithm: adamw")
    known = TrainingArguments.__dataclass_fields__
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    return {
        "output_dir": str(checkpoints),
        "learning_rate": optimiser.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": optimiser.warmup,  # below 1: a share of all steps
        "weight_decay": optimiser.weight_decay,
        "max_grad_norm": optimiser.max_grad_norm,
        "optim": "adamw_torch_fused" if optimiser.algorithm == "adamw" else optimiser.algorithm,
        "bf16": config.precision != "fp32",
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "logging_steps": 1,
        "report_to": [name for name in config.report_to if name != "tensorboard"] or "none",
        "disable_tqdm": True,
        "seed": config.seed,
        "data_seed": config.seed,
        checkpointing: config.activation_checkpointing,
    }


class LabHooks(_Base):
    """Mix-in; stands before the TRL trainer among the base classes."""

    _staging: str | None = None

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: it would hold paths and dates."""

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        root = Path(str(self.args.output_dir))
        staging = root / STAGING
        if self.is_world_process_zero():
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = str(staging)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
        step = self.state.global_step
        self.accelerator.wait_for_everyone()  # every process has written its random state
        if self.is_world_process_zero():
            publish_checkpoint(staging / f"{PREFIX_CHECKPOINT_DIR}-{step}", root, step)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002
        assert isinstance(self.model, PeftModel)
        assert output_dir is not None
        save_adapter(self.model, Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        target = self.model if model is None else model
        assert isinstance(target, PeftModel)
        copy_adapter_weights(target, Path(resume_from_checkpoint))

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """Compute the loss as TRL does, after checking what it must not change."""
        if low := low_precision_adapters(model):
            raise TrainingError(f"{len(low)} trainable weights are not float32 (first: {low[0]}); updates would round to nothing")
        if "cu_seq_lens_q" not in inputs:
            return super().compute_loss(model, inputs, *arguments, **options)
        with packed_forward():
            return super().compute_loss(model, inputs, *arguments, **options)
