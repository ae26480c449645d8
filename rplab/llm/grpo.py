"""GRPO: reinforcement learning on the merged model, with rewards that are pure functions of the text.

The story of `train_grpo`: bound the prompts, put a new float32 adapter on the merged bf16 model (the model without the
adapter is the reference policy), draw groups of replies at temperature 1, score them, push up what is better than its
group, save the adapter. A run that has collapsed is stopped with the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl.trainer import grpo_trainer as grpo_module
from trl.trainer.grpo_config import GRPOConfig as TrlGrpoConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from rplab.character import Register
from rplab.errors import DataError, TrainingError
from rplab.jsonl import write_rows
from rplab.llm.adapter import lora_config, save_adapter, to_float32
from rplab.llm.attention import packed_forward
from rplab.llm.bootstrap import difference_interval
from rplab.llm.callbacks import CollapseDetector, MetricsFile, StageCallback
from rplab.llm.checkpoint import latest_checkpoint
from rplab.llm.config import GrpoConfig
from rplab.llm.hooks import LabHooks, shared_arguments
from rplab.llm.lineage import Lineage, model_fingerprint, write_lineage
from rplab.llm.precision import load_model, load_tokenizer, model_folder, quiet_libraries
from rplab.llm.rewards import TERMS, RewardContext, context_from_row, length_band, score, total
from rplab.llm.rollouts import draw_replies
from rplab.llm.rows import Drop, Loaded, Messages, check_messages, load_rows, view_path, without_oldest_exchange
from rplab.llm.samples import SampleFile
from rplab.llm.shared_prefix import share_prefixes, spread
from rplab.llm.template import encode_prompt, end_id, pad_id, render, template_hash
from rplab.stage import StageContext, Stats

logger = logging.getLogger(__name__)

WINDOW = 10
"""Steps at each end of the run whose mean rewards are compared."""

RewardFunction = Callable[..., list[float]]


@dataclass(frozen=True)
class PromptRow:
    """A prompt, what its replies are judged against, and a reply that somebody wrote."""

    messages: Messages
    context: RewardContext
    reference: str


class LabGrpoTrainer(LabHooks, GRPOTrainer):
    """TRL's trainer with the lab's hooks, and with each prompt read once for all its replies."""

    def _generate_single_turn(self, prompt_ids: list[list[int]], *arguments: Any, **options: Any) -> tuple[list[list[int]], Any]:
        """Draw the replies of a step (`rplab.llm.rollouts`), or let vLLM do it."""
        if self.use_vllm:
            return super()._generate_single_turn(prompt_ids, *arguments, **options)
        model: Any = self.accelerator.unwrap_model(self.model_wrapped)
        was_training = model.training
        model.eval()
        try:
            with self.accelerator.autocast():
                replies = draw_replies(model, prompt_ids, self.max_completion_length, self.eos_token_ids, pad_id(self._tokenizer))
        finally:
            model.train(was_training)
        return replies, None

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """Return the next micro-batch as TRL does, but with the replies of a group side by side: they share their prompt.

        TRL shuffles them; with the loss normalised over all tokens of the step (`dapo`) the order changes no gradient.
        """
        with _unshuffled():
            return super()._prepare_inputs(generation_batch)

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Return log probabilities and entropies of the reply tokens, both (rows, `logits_to_keep`)."""
        scores: list[tuple[torch.Tensor, torch.Tensor]] = []
        for ids, mask in zip(input_ids.split(batch_size or len(input_ids)), attention_mask.split(batch_size or len(input_ids)), strict=True):
            shared = share_prefixes(ids, mask, logits_to_keep)
            with self.accelerator.autocast(), packed_forward():
                outputs = model(**shared.inputs, fused_lm_head=True)
            shape = (len(ids), logits_to_keep)
            scores.append((spread(outputs.log_probs, shared, shape), spread(outputs.entropy, shared, shape)))
        return torch.cat([score[0] for score in scores]), torch.cat([score[1] for score in scores]), None


@contextmanager
def _unshuffled() -> Generator[None]:
    """Make TRL leave the rows of a generation batch in order."""
    name = "shuffle_sequence_dict"
    original = getattr(grpo_module, name)
    setattr(grpo_module, name, lambda batch: batch)
    try:
        yield
    finally:
        setattr(grpo_module, name, original)


def train_grpo(config: GrpoConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Train an adapter by reinforcement.

    Args:
        config: Settings.
        inputs: `model` (merged) and `dataset`.
        context: Writes adapter/ (PEFT + lineage.json), completions.jsonl, probe.jsonl and logs/metrics.jsonl.

    Returns:
        Row tally, mean rewards of the first and last steps with the interval of the difference, each term's means.

    Raises:
        DataError: The view is missing or has no usable row.
        ModelError: The model is missing or incomplete.
        TrainingError: Collapse, a loss that is no number, or memory is short.
        StageInterrupted: Stopped on request, after a checkpoint.
    """
    quiet_libraries()
    folder = model_folder(inputs["model"])
    tokenizer = load_tokenizer(folder)
    train = load_prompts(view_path(inputs["dataset"], "grpo", "train"), tokenizer, config)
    held = load_prompts(view_path(inputs["dataset"], "grpo", "eval"), tokenizer, config)
    samples = SampleFile(context, config.logged_completions, config.max_steps)
    metrics = MetricsFile(context)
    trainer, callback = build_trainer(config, folder, tokenizer, train.rows, samples, metrics, context)

    found = latest_checkpoint(context.resume / "checkpoints")
    metrics.rewind(found[0] if found else 0)
    samples.rewind(found[0] if found else 0)
    if found:
        logger.info("grpo: going on from step %d", found[0])
    _run(trainer, str(found[1]) if found else None, config)
    if callback.stopped:
        context.check_stop()

    assert isinstance(trainer.model, PeftModel)
    save_adapter(trainer.model, context.out / "adapter")
    lineage = Lineage(
        stage="grpo",
        base=model_fingerprint(folder),
        precision=config.precision,
        template=template_hash(str(tokenizer.chat_template)),
        data=train.digest,
        steps=trainer.state.global_step,
    )
    write_lineage(context.out / "adapter", lineage)
    dialogues = ([*row.messages, {"role": "assistant", "content": row.reference}] for row in held.rows[: config.probes])
    write_rows(context.out / "probe.jsonl", ({"text": render(tokenizer, dialogue)} for dialogue in dialogues))
    samples.publish()
    metrics.publish()
    return {"train_rows": train.tally.as_stats(), **reward_stats(trainer.state.log_history, config.seed)}


def load_prompts(path: Path, tokenizer: PreTrainedTokenizerBase, config: GrpoConfig) -> Loaded[PromptRow]:
    """Read prompts; too long ones lose their oldest exchanges, and what still does not fit is dropped.

    TRL bounds no prompt by itself: an over-long one would simply use up the memory.

    Raises:
        DataError: No such file, a broken line, or no usable row.
    """

    def encode(messages: Messages, row: dict[str, Any]) -> PromptRow | None:
        if len(encode_prompt(tokenizer, messages)) > config.max_prompt_tokens:
            return None
        judged = context_from_row({**row, "prompt_messages": messages}, config.length_band or (1, 2))
        return PromptRow(messages, judged, str(row.get("reference") or ""))

    loaded = load_rows(path, check_prompt, encode, without_oldest_exchange)
    if config.length_band is not None:
        return loaded
    band = length_band([row.reference for row in loaded.rows if row.reference])
    rows = [replace(row, context=replace(row.context, min_chars=band[0], max_chars=band[1])) for row in loaded.rows]
    return Loaded(rows, loaded.tally, loaded.digest)


def check_prompt(row: dict[str, Any]) -> Messages | Drop:
    """Return the messages of a GRPO row, which must end with the player's."""
    messages = check_messages(row.get("prompt_messages"))
    if isinstance(messages, Drop):
        return messages
    if messages[-1]["role"] != "user":
        return Drop.NO_PROMPT
    try:
        context_from_row(row)
    except DataError:
        return Drop.NO_COLUMNS
    return messages


def build_trainer(
    config: GrpoConfig,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[PromptRow],
    samples: SampleFile,
    metrics: MetricsFile,
    context: StageContext,
) -> tuple[LabGrpoTrainer, StageCallback]:
    """Build the trainer: model, new adapter, rewards, callbacks."""
    model = load_model(folder, config.precision)
    callback = StageCallback(context, metrics, "grpo")
    weights = config.rewards.model_dump()
    scale = sum(weights.values())
    trainer = LabGrpoTrainer(
        model=model,
        reward_funcs=reward_functions(config, tokenizer, samples),  # type: ignore[arg-type]
        args=trainer_arguments(config, context.resume / "checkpoints", [weights[name] / scale for name in TERMS]),
        train_dataset=Dataset.from_list([{"prompt": row.messages, "context": asdict(row.context)} for row in rows]),
        processing_class=tokenizer,
        callbacks=[callback, CollapseDetector(config.collapse_steps)],
        peft_config=lora_config(model, config.lora),
    )
    trainer.remove_callback(PrinterCallback)
    assert isinstance(trainer.model, PeftModel)
    to_float32(trainer.model)
    return trainer, callback


def trainer_arguments(config: GrpoConfig, checkpoints: Path, weights: list[float]) -> TrlGrpoConfig:
    """Translate our settings into TRL's; what decides the gradient is spelt out, not left to TRL's defaults."""
    replies = config.prompts_per_step * config.num_generations
    return TrlGrpoConfig(
        **shared_arguments(
            config.optimiser,
            config.precision,
            checkpoints,
            seed=config.seed,
            save_steps=config.save_steps,
            activation_checkpointing=config.activation_checkpointing,
        ),
        max_steps=config.max_steps,
        per_device_train_batch_size=config.micro_batch,
        gradient_accumulation_steps=replies // config.micro_batch,
        generation_batch_size=replies,
        num_generations=config.num_generations,
        max_completion_length=config.max_completion_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        repetition_penalty=1.0,
        beta=config.beta,
        epsilon=config.epsilon,
        num_iterations=1,
        loss_type="dapo",
        scale_rewards="group",
        reward_weights=weights,
        multi_objective_aggregation=config.aggregation,
        mask_truncated_completions=False,
        use_vllm=False,
        log_completions=False,
    )


def reward_functions(config: GrpoConfig, tokenizer: PreTrainedTokenizerBase, samples: SampleFile) -> list[RewardFunction]:
    """Return one TRL reward function a term, so that each is logged and can be scaled by itself.

    They read the tokens, not TRL's text: that has lost the special tokens, and a reply full of them would look clean.
    """
    ends = {end_id(tokenizer), pad_id(tokenizer)}
    judge = lru_cache(maxsize=8 * config.prompts_per_step * config.num_generations)(score)

    def text_of(ids: list[int]) -> str:
        return str(tokenizer.decode(ids[:-1] if ids and ids[-1] in ends else ids, skip_special_tokens=False))

    def reward_function(name: str, *, keeps_samples: bool) -> RewardFunction:
        def reward(completion_ids: list[list[int]], context: list[dict[str, Any]], trainer_state: Any, **_: Any) -> list[float]:
            texts = [text_of(ids) for ids in completion_ids]
            results = [judge(text, _context(columns)) for text, columns in zip(texts, context, strict=True)]
            if keeps_samples:
                totals = [round(total(result, config.rewards), 6) for result in results]
                samples.add(trainer_state.global_step + 1, texts, context, totals, results)
            return [result[name] for result in results]

        reward.__name__ = name
        return reward

    return [reward_function(name, keeps_samples=index == 0) for index, name in enumerate(TERMS)]


def _context(columns: dict[str, Any]) -> RewardContext:
    """Build the context again from a dataset column, where the speech level has become plain text."""
    values: dict[str, Any] = {**columns, "register": Register(columns["register"])}
    return RewardContext(**values)


def _run(trainer: LabGrpoTrainer, checkpoint: str | None, config: GrpoConfig) -> None:
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"grpo: out of memory. Lower micro_batch ({config.micro_batch}), prompts_per_step ({config.prompts_per_step}) or "
            f"max_completion_tokens ({config.max_completion_tokens}); the last checkpoint is kept"
        ) from error


def reward_stats(history: Sequence[dict[str, Any]], seed: int) -> Stats:
    """Compare the first and the last steps of a run."""
    steps = [row for row in history if "reward" in row]
    window = max(1, min(WINDOW, len(steps) // 2))
    first, last = steps[:window], steps[-window:]

    def mean(rows: Sequence[dict[str, Any]], name: str) -> float:
        return round(float(np.mean([row[name] for row in rows])), 5)

    low, high = difference_interval([row["reward"] for row in first], [row["reward"] for row in last], seed)
    return {
        "steps": len(steps),
        "window_steps": window,
        "reward_first": mean(first, "reward"),
        "reward_last": mean(last, "reward"),
        "reward_gain": round(mean(last, "reward") - mean(first, "reward"), 5),
        "reward_gain_interval": [round(low, 5), round(high, 5)],
        "terms": {name: {"first": mean(first, f"rewards/{name}/mean"), "last": mean(last, f"rewards/{name}/mean")} for name in TERMS},
        "clipped_ratio_last": mean(last, "completions/clipped_ratio"),
        "mean_tokens_last": mean(last, "completions/mean_length"),
        "no_difference_last": mean(last, "frac_reward_zero_std"),
        "entropy_last": mean(last, "entropy"),
        "kl_last": mean(last, "kl") if "kl" in last[-1] else None,
    }
