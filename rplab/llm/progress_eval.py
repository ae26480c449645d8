"""What happens between the steps of SFT: the held-out loss is measured, the best adapter is kept, sample replies are written.

Nothing here draws from the global random numbers, so a run with measurements trains the same weights as one without.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rplab.jsonl import write_text
from rplab.llm.adapter import copy_adapter_weights, save_adapter
from rplab.llm.callbacks import MetricsFile
from rplab.llm.rollouts import draw_replies
from rplab.llm.rows import Messages
from rplab.llm.template import encode_prompt, end_id, pad_id
from rplab.stage import StageContext

logger = logging.getLogger(__name__)

_BEST = "best"
_RECORD = "best.json"


class BestAdapter:
    """The adapter with the lowest held-out loss so far, in the resume folder: a kill keeps it."""

    def __init__(self, context: StageContext) -> None:
        """Look for one of an earlier, killed run."""
        self._folder = context.resume / _BEST

    def record(self) -> dict[str, Any] | None:
        """Return step and loss of the best adapter, or None."""
        try:
            return dict(json.loads((self._folder / _RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def rewind(self, step: int) -> None:
        """Forget a best adapter of a step that will be taken again."""
        record = self.record()
        if record is not None and record["step"] > step:
            shutil.rmtree(self._folder, ignore_errors=True)

    def offer(self, model: PeftModel, step: int, loss: float) -> bool:
        """Keep the adapter if it is better than the one before; return whether it was."""
        record = self.record()
        if record is not None and record["step"] != step and record["loss"] <= loss:
            return False
        staged = self._folder.with_name(f"{_BEST}.staging")
        shutil.rmtree(staged, ignore_errors=True)
        save_adapter(model, staged)
        write_text(staged / _RECORD, json.dumps({"step": step, "loss": loss}))
        shutil.rmtree(self._folder, ignore_errors=True)
        os.replace(staged, self._folder)
        return True

    def restore(self, model: PeftModel) -> int | None:
        """Put the best adapter back into the model; return its step, or None when there is none."""
        record = self.record()
        if record is None:
            return None
        copy_adapter_weights(model, self._folder)
        return int(record["step"])


class SampleReplies:
    """samples.jsonl: what the model answers to the same held-out prompts as training goes on."""

    def __init__(
        self, context: StageContext, tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Messages], max_tokens: int, seed: int
    ) -> None:
        """Take the first exchange of each dialogue as its prompt."""
        self._path = context.resume / "samples.jsonl"
        self._target = context.out / "samples.jsonl"
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._seed = seed
        self._prompts: list[Messages] = []
        self._references: list[str] = []
        for messages in dialogues:
            first = next(index for index, message in enumerate(messages) if message["role"] == "assistant")
            if first:
                self._prompts.append(messages[:first])
                self._references.append(messages[first]["content"])

    def rewind(self, step: int) -> None:
        """Forget the samples after `step`, and those of the end."""
        kept: list[str] = []
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if row["step"] > step or row["final"]:
                    break
                kept.append(line + "\n")
        self._path.write_text("".join(kept), encoding="utf-8")

    def add(self, model: PeftModel, step: int, *, final: bool = False) -> None:
        """Answer every prompt; the draws depend on the seed alone. `final`: with the adapter that stays."""
        if not self._prompts:
            return
        ids = [encode_prompt(self._tokenizer, prompt) for prompt in self._prompts]
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.autocast(device.type, torch.bfloat16):
            torch.manual_seed(self._seed)
            replies = draw_replies(model, ids, self._max_tokens, {end_id(self._tokenizer)}, pad_id(self._tokenizer))
        model.train(was_training)
        with self._path.open("a", encoding="utf-8") as handle:
            for prompt, reference, reply in zip(self._prompts, self._references, replies, strict=True):
                ended = bool(reply) and reply[-1] == end_id(self._tokenizer)
                text = str(self._tokenizer.decode(reply[:-1] if ended else reply, skip_special_tokens=False))
                row = {"step": step, "final": final, "user": prompt[-1]["content"], "reply": text, "ended": ended, "reference": reference}
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")

    def publish(self) -> None:
        """Copy the file into the artefact, if anything was sampled."""
        if self._path.is_file() and self._path.stat().st_size:
            shutil.copyfile(self._path, self._target)


class ProgressEval(TrainerCallback):
    """Measures every `every` steps."""

    def __init__(
        self, every: int, measure: Callable[[], float], best: BestAdapter, samples: SampleReplies | None, metrics: MetricsFile, label: str
    ) -> None:
        """Measure with `measure`, which returns the held-out loss in nats a token."""
        self._every = every
        self._measure = measure
        self._best = best
        self._samples = samples
        self._metrics = metrics
        self._label = label

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        model: PeftModel | None = None,
        **_: Any,
    ) -> None:
        """Measure, keep the best, sample."""
        if state.global_step % self._every or model is None:
            return
        loss = self._measure()
        better = self._best.offer(model, state.global_step, loss)
        self._metrics.add(state.global_step, {"eval_loss": loss})
        logger.info("%s: step %d: held-out loss %.4f%s", self._label, state.global_step, loss, " (best so far)" if better else "")
        if self._samples is not None:
            self._samples.add(model, state.global_step)
