"""Held-out loss: what a model has learnt, dialogue by dialogue, with an interval.

Summed over tokens and divided once, so that it does not depend on how dialogues are batched; kept per dialogue, so that
a gain can be resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rplab.llm.bootstrap import paired_rate_interval
from rplab.llm.template import IGNORED, Example


@dataclass(frozen=True)
class HeldOut:
    """Loss sums and token counts, one of each a dialogue."""

    nll: list[float]
    """Nats, summed over the learnt tokens of a dialogue."""
    tokens: list[int]

    @property
    def mean(self) -> float:
        """Nats a token."""
        return sum(self.nll) / max(1, sum(self.tokens))


def measure_loss(model: torch.nn.Module, examples: Sequence[Example], pad_id: int, *, batch_tokens: int = 4096) -> HeldOut:
    """Measure the loss of the learnt tokens, as in training (bf16 autocast), without dropout.

    Args:
        model: Causal language model; left in the mode it was in.
        examples: Dialogues.
        pad_id: Fills up rows; never scored.
        batch_tokens: Tokens of one forward pass, padding included.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    nll, tokens = [0.0] * len(examples), [example.num_learnt for example in examples]
    try:
        for batch in _batches(examples, batch_tokens):
            width = max(len(examples[index].input_ids) for index in batch)
            ids = torch.full((len(batch), width), pad_id)
            labels = torch.full((len(batch), width), IGNORED)
            mask = torch.zeros((len(batch), width), dtype=torch.long)
            for row, index in enumerate(batch):
                length = len(examples[index].input_ids)
                ids[row, :length] = torch.tensor(examples[index].input_ids)
                labels[row, :length] = torch.tensor(examples[index].labels)
                mask[row, :length] = 1
            sums = _nll_sums(model, ids.to(device), labels.to(device), mask.to(device))
            for index, value in zip(batch, sums.tolist(), strict=True):
                nll[index] = value
    finally:
        model.train(was_training)
    return HeldOut(nll, tokens)


def _nll_sums(model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the summed loss of each row."""
    with torch.no_grad(), torch.autocast(ids.device.type, torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none"
    )
    return losses.sum(dim=1)


def _batches(examples: Sequence[Example], batch_tokens: int) -> list[list[int]]:
    """Group dialogues of like length."""
    order = sorted(range(len(examples)), key=lambda index: (-len(examples[index].input_ids), index))
    batches: list[list[int]] = []
    for index in order:
        width = len(examples[batches[-1][0]].input_ids) if batches else 0
        if batches and width * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def gain_interval(before: HeldOut, after: HeldOut, seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the fall in loss, dialogues resampled in pairs, in nats a token."""
    falls = [old - new for old, new in zip(before.nll, after.nll, strict=True)]
    return paired_rate_interval(falls, before.tokens, seed)
