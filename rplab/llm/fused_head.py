"""Log probabilities of learnt tokens on a CPU, with the gradient made on the way.

The last layer of a small model is its widest: the scores of 1,200 tokens against a vocabulary of 4,096 are 20 MB, and
TRL's fused head walks over them some fifteen times, in the forward pass and again in the backward pass, because its fast
form is a Triton kernel. Here a block of tokens stays in the cache from the matrix product to its gradient. Since

    d log p(target) / d hidden = scale * (onehot(target) - p) W

does not depend on what comes after, it is taken at once and kept, (N, hidden) numbers; the backward pass multiplies it by
one number a token. The same idea serves Liger's linear cross entropy (Hsu et al. 2024); log probabilities instead of a
loss let GRPO use it as well.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from trl.trainer import utils as trl_utils

_NAME = "_ChunkedLogProbFunction"
_BLOCK = 1 << 20
"""Scores of one block, 4 MiB of float32: fewer make the matrix products slow, more leave the cache."""
_FEWEST_ROWS = 64
"""Tokens of a block whatever the vocabulary."""
_OURS = {"log_probs", "entropy", "is_top1"}
"""What is computed here; any other output is TRL's work."""


@contextmanager
def fused_head(enabled: bool = True) -> Generator[None]:
    """Let TRL's trainers score learnt tokens in one step while this is open.

    trl 1.16, trainer/utils.py `add_fused_lm_head`: the function is looked up at every call.
    """
    original = getattr(trl_utils, _NAME)
    if enabled:
        setattr(trl_utils, _NAME, _Dispatch(original))
    try:
        yield
    finally:
        setattr(trl_utils, _NAME, original)


class _Dispatch:
    """Stands where TRL's function stood: ours on a CPU with a frozen plain head, TRL's for everything else."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def apply(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk_size: int,
        softcap: float | None,
        logit_scale: float,
        outputs: tuple[str, ...],
    ) -> tuple[Tensor | None, ...]:
        """Score tokens; the arguments and what is returned are those of TRL's function."""
        plain = bias is None and softcap is None and not weight.requires_grad and set(outputs) <= _OURS
        if hidden.device.type != "cpu" or not plain:
            return self._original.apply(hidden, weight, bias, targets, temperature, chunk_size, softcap, logit_scale, outputs)
        half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        scored: tuple[Tensor, Tensor, Tensor] = _LogProbs.apply(hidden.to(half), weight.to(half), targets, logit_scale / temperature)
        log_probs, entropy, is_top1 = scored
        return log_probs, entropy, None, None, is_top1


class _LogProbs(Function):
    """Log probability of each target, entropy, and whether the target is the most likely token."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Score tokens.

        Args:
            ctx: Of autograd.
            hidden: (N, hidden).
            weight: (vocabulary, hidden), frozen, of the same type.
            targets: (N) token ids.
            scale: Factor on the scores: 1 / temperature, times that of the model.

        Returns:
            (N) log probabilities and entropies in nats, float32, and (N) booleans; only the first has a gradient.
        """
        log_probs, entropy = hidden.new_empty(2, len(hidden), dtype=torch.float32).unbind()
        is_top1 = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        rows = max(_FEWEST_ROWS, _BLOCK // len(weight))
        for start in range(0, len(hidden), rows):
            block = slice(start, start + rows)
            scores = torch.mm(hidden[block], weight.t()).float().mul_(scale)
            probs = torch.softmax(scores, dim=-1)
            target = targets[block, None]
            highest, place = scores.max(dim=-1)
            log_sum = highest - probs.gather(1, place[:, None])[:, 0].log()
            log_probs[block] = scores.gather(1, target)[:, 0] - log_sum
            entropy[block] = log_sum - torch.linalg.vecdot(probs, scores)
            is_top1[block] = place == target[:, 0]
            if slope is not None:
                # the target's 1 goes off before rounding: what is left of a sure token is small and must stay exact
                probs.scatter_add_(1, target, probs.new_full((len(target), 1), -1.0))
                torch.mm(probs.to(hidden.dtype), weight, out=slope[block])
        ctx.scale = scale
        ctx.save_for_backward(slope)
        ctx.mark_non_differentiable(entropy, is_top1)
        return log_probs, entropy, is_top1

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradient of `hidden`."""
        (slope,) = ctx.saved_tensors
        return (slope * (grad * -ctx.scale)[:, None]).to(slope.dtype), None, None, None
