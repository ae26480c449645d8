"""TRL's GRPO trainer with the lab's hooks, each prompt read once for all its replies, and our settings in its words."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from trl.trainer import grpo_trainer as grpo_module
from trl.trainer.grpo_config import GRPOConfig as TrlGrpoConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from rplab.errors import ConfigError
from rplab.llm.attention import packed_forward
from rplab.llm.config import GrpoConfig
from rplab.llm.hooks import LabHooks, shared_arguments
from rplab.llm.rollouts import draw_replies
from rplab.llm.sft_trainer import passes_of_process
from rplab.llm.shared_prefix import share_prefixes, spread
from rplab.llm.template import pad_id


class LabGrpoTrainer(LabHooks, GRPOTrainer):
    """TRL's trainer with the lab's hooks, and with each prompt read once for all its replies."""

    def _generate_single_turn(self, prompt_ids: list[list[int]], *arguments: Any, **options: Any) -> tuple[list[list[int]], Any]:
        """Draw the replies of a step (`rplab.llm.rollouts`), or let vLLM do it."""
        if self.use_vllm:
            return super()._generate_single_turn(prompt_ids, *arguments, **options)
        model: Any = self.accelerator.unwrap_model(self.model_wrapped)
        longest: Any = self.max_completion_length
        ends: Any = self.eos_token_ids
        was_training = model.training
        model.eval()
        try:
            with self.accelerator.autocast():
                replies = draw_replies(model, prompt_ids, longest, ends, pad_id(self._tokenizer))
        finally:
            model.train(was_training)
        return replies, None

    def _prepare_inputs(self, generation_batch: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - TRL's name for it
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
        size = batch_size or len(input_ids)
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
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
    setattr(grpo_module, name, _keep_order)
    try:
        yield
    finally:
        setattr(grpo_module, name, original)


def _keep_order(batch: Any) -> Any:
    return batch


def trainer_arguments(config: GrpoConfig, checkpoints: Path, weights: list[float], *, check_device: bool = True) -> TrlGrpoConfig:
    """Translate our settings into TRL's; what decides the gradient is spelt out, not left to TRL's defaults.

    Args:
        config: Settings.
        checkpoints: Folder of the checkpoints.
        weights: One a reward function.
        check_device: Refuse what this machine cannot do (a dry run plans for another one).

    Raises:
        ConfigError: A setting that cannot work here.
    """
    if config.vllm and check_device:
        _require_vllm()
    replies = config.prompts_per_step * config.num_generations
    vllm: dict[str, Any] = {"use_vllm": False}
    if config.vllm and check_device:
        vllm = {
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": config.vllm_memory or 0.3,
            "vllm_max_model_length": config.max_prompt_tokens + config.max_completion_tokens,
            "vllm_enable_sleep_mode": True,
        }
    return TrlGrpoConfig(
        **shared_arguments(config, checkpoints, check_device=check_device),
        **vllm,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.micro_batch,
        gradient_accumulation_steps=passes_of_process(replies // config.micro_batch),
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
        log_completions=False,
    )


def _require_vllm() -> None:
    """Make sure that vLLM can run here.

    Raises:
        ConfigError: No NVIDIA GPU, or vLLM is not installed.
    """
    if not torch.cuda.is_available():
        raise ConfigError("vllm: true needs an NVIDIA GPU. Set vllm: false; replies are then drawn in this process")
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError("vllm: true, but vllm is not installed. Run pip install 'vllm>=0.22,<=0.31', or set vllm: false")
