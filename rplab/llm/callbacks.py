"""What a trainer tells the outside: progress, a metrics file that survives a kill, a stop that saves first."""

from __future__ import annotations

import json
import math
import shutil
import time
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rplab.errors import TrainingError
from rplab.stage import StageContext

COLLAPSED = 0.99
"""A share from which on a step counts as collapsed."""


class MetricsFile:
    """Metrics, one JSON line a step, in the resume folder while training; published to `logs/` at the end."""

    def __init__(self, context: StageContext) -> None:
        """Open the file of this stage run."""
        self._path = context.resume / "metrics.jsonl"
        self._target = context.out / "logs" / "metrics.jsonl"
        self._start = time.monotonic()

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Forget the lines after `step` (and a torn last line); return those that stay."""
        kept: list[dict[str, Any]] = []
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if row["step"] <= step:
                    kept.append(row)
        self._path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        return kept

    def add(self, step: int, values: dict[str, Any]) -> None:
        """Append one line."""
        row = {"step": step, **values, "wall_s": round(time.monotonic() - self._start, 3)}
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")

    def publish(self) -> None:
        """Copy the file into the artefact."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._path, self._target)


def _any_process(wanted: bool) -> bool:
    """Return whether any training process wants something: all must stop at the same step."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return wanted
    flag = torch.tensor(float(wanted), device="cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.all_reduce(flag)
    return bool(flag.item())


class StageCallback(TrainerCallback):
    """Connects a Hugging Face trainer to a stage."""

    def __init__(self, context: StageContext, metrics: MetricsFile, label: str) -> None:
        """Report as `label` to `context`, and write to `metrics`."""
        self._context = context
        self._metrics = metrics
        self._label = label
        self.stopped = False
        """The run ended early because it was asked to; a checkpoint was saved."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Save and end when the run was asked to stop."""
        if state.global_step < state.max_steps and _any_process(self._context.stop.is_set()):
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Record a step; a loss that is no number ends the run."""
        values = {key: value for key, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" not in values:
            return
        if not math.isfinite(values["loss"]) or not math.isfinite(values.get("grad_norm", 0.0)):
            raise TrainingError(
                f"{self._label}: the loss is {values['loss']} at step {state.global_step}. "
                "Lower optimiser.learning_rate or max_grad_norm; the last checkpoint is kept"
            )
        self._metrics.add(state.global_step, values)
        shown = values.get("reward", values["loss"])
        name = "reward" if "reward" in values else "loss"
        self._context.progress(state.global_step, state.max_steps, f"{self._label}: {name} {shown:.3f}")


class CollapseDetector(TrainerCallback):
    """Ends a GRPO run that has nothing to learn from any more, and says which of the two ways it went."""

    def __init__(self, patience: int) -> None:
        """Allow `patience` such steps in a row."""
        self._patience = patience
        self._no_difference = 0
        self._all_cut = 0

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Count steps without a reward difference and steps in which every reply was cut off."""
        if not logs or "frac_reward_zero_std" not in logs:
            return
        self._no_difference = self._no_difference + 1 if logs["frac_reward_zero_std"] >= COLLAPSED else 0
        self._all_cut = self._all_cut + 1 if logs["completions/clipped_ratio"] >= COLLAPSED else 0
        if self._no_difference >= self._patience:
            raise TrainingError(
                f"grpo: for {self._patience} steps up to step {state.global_step} every reply of a group earned the same "
                f"(mean reward {logs['reward']:.3f}), so there is nothing to learn from. The policy has collapsed or the rewards are "
                "saturated: raise beta, lower optimiser.learning_rate, or look at completions in logs/ and at the reward weights"
            )
        if self._all_cut >= self._patience:
            raise TrainingError(
                f"grpo: for {self._patience} steps up to step {state.global_step} every reply was cut off at max_completion_tokens. "
                "The model does not end its turns: train SFT longer, or raise max_completion_tokens"
            )
