"""Are two models the same function? Logits compared on held-out text.

Measured over all positions of the probes, both computed in float32:

    rel_l2   ||a - b|| / ||a||   of the logits, each position centred (softmax does not see a shift)
    top1     share of positions with the same most likely token
    kl       mean KL(a || b) in nats a token
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

_LOGITS = 1 << 27
"""Most logits of one forward pass (half a gigabyte in float32)."""


@dataclass(frozen=True)
class Parity:
    """How far apart two models are."""

    rel_l2: float
    top1: float
    kl: float
    tokens: int
    """Positions compared."""

    def problems(self, limits: Limits) -> list[str]:
        """Return what is out of bounds, in words."""
        found: list[str] = []
        if not self.rel_l2 <= limits.max_rel_l2:
            found.append(f"relative L2 of the logits {self.rel_l2:.5f} > {limits.max_rel_l2:.5g}")
        if not self.top1 >= limits.min_top1:
            found.append(f"same top token at {self.top1:.4f} of the positions < {limits.min_top1:.5g}")
        if not self.kl <= limits.max_kl:
            found.append(f"KL {self.kl:.2e} > {limits.max_kl:.2g} nats a token")
        return found


@dataclass(frozen=True)
class Limits:
    """How far apart two models may be."""

    max_rel_l2: float
    min_top1: float
    max_kl: float

    def widened(self, noise: Parity) -> Limits:
        """Return limits that no rounding to the model's own number format can break.

        A merged model is rounded once to bfloat16, and in a deep model that alone moves the logits by more than a fixed limit
        (SmolLM2-135M, 30 layers: relative L2 0.03). A merge may not move them further than twice what the model moves by itself
        when it computes in bfloat16 instead of float32 (`noise`); KL grows with the square.
        """
        return Limits(
            max(self.max_rel_l2, 2 * noise.rel_l2),
            min(self.min_top1, 1 - 2 * (1 - noise.top1)),
            max(self.max_kl, 4 * noise.kl),
        )


def probe_logits(model: PreTrainedModel, probes: Sequence[Sequence[int]], *, exact: bool = True) -> list[torch.Tensor]:
    """Return the logits of each probe, (T, vocabulary) float32 on the CPU.

    Args:
        model: Causal language model without PEFT wrapping (adapter layers inside are fine); put into evaluation mode.
        probes: Token ids.
        exact: Compute in float32 whatever the weights are stored in; False: as the model computes in use.
    """
    model.eval()
    device = next(model.parameters()).device
    results: list[torch.Tensor] = [torch.empty(0)] * len(probes)
    with torch.no_grad(), float32_arithmetic(model) if exact else nullcontext():
        for batch in _batches(probes, max(256, _LOGITS // int(model.config.get_text_config().vocab_size))):
            width = max(len(probes[index]) for index in batch)
            rows = [[*probes[index], *[0] * (width - len(probes[index]))] for index in batch]  # causal: what follows changes nothing
            logits = model(input_ids=torch.tensor(rows, device=device), use_cache=False).logits
            for row, index in enumerate(batch):
                results[index] = logits[row, : len(probes[index])].float().cpu()
    return results


def _batches(probes: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """Group probes of like length: every forward pass of a 4-bit model unpacks all its weights."""
    batches: list[list[int]] = []
    for index in sorted(range(len(probes)), key=lambda index: (-len(probes[index]), index)):
        if batches and len(probes[batches[-1][0]]) * (len(batches[-1]) + 1) <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


@contextmanager
def float32_arithmetic(model: PreTrainedModel) -> Generator[None]:
    """Let a model compute in float32, layer by layer, while its weights stay as they are in memory.

    In bfloat16 the same model differs from itself: rounding alone moved the most likely token at up to 2 % of the
    positions of a tiny model (measured), more than a merge may. The comparison is about weights, so it leaves that out.
    """
    rewritten: list[Any] = [module for module in model.modules() if type(module) in _IN_FLOAT32]
    quantised: list[Any] = [module for module in model.modules() if isinstance(module, Linear4bit)]
    before = [module.compute_dtype for module in quantised]
    embedding: Any = model.get_input_embeddings()
    hook = embedding.register_forward_hook(_to_float32)
    for module in rewritten:
        module.forward = partial(_IN_FLOAT32[type(module)], module)
    for module in quantised:
        module.compute_dtype = torch.float32
    try:
        yield
    finally:
        hook.remove()
        for module in rewritten:
            del module.forward  # the class's own is behind it
        for module, dtype in zip(quantised, before, strict=True):
            module.compute_dtype = dtype


def _to_float32(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.float()


def _linear_in_float32(module: Any, values: torch.Tensor) -> torch.Tensor:
    bias = None if module.bias is None else module.bias.float()
    return torch.nn.functional.linear(values.float(), module.weight.float(), bias)


def _conv1d_in_float32(module: Any, values: torch.Tensor) -> torch.Tensor:
    """GPT-2's linear layer, whose weight is (in, out)."""
    return values.float() @ module.weight.float() + module.bias.float()


def _norm_in_float32(module: Any, values: torch.Tensor) -> torch.Tensor:
    weight, bias = (None if part is None else part.float() for part in (module.weight, module.bias))
    return torch.nn.functional.layer_norm(values.float(), module.normalized_shape, weight, bias, module.eps)


_IN_FLOAT32: dict[type[torch.nn.Module], Callable[..., torch.Tensor]] = {
    torch.nn.Linear: _linear_in_float32,
    Conv1D: _conv1d_in_float32,
    torch.nn.LayerNorm: _norm_in_float32,
}
"""Layers that would complain about float32 values with bfloat16 weights, or round them."""


def compare_logits(trained: Sequence[torch.Tensor], merged: Sequence[torch.Tensor]) -> Parity:
    """Compare the logits of two models on the same probes."""
    squared_difference = squared_norm = divergence = 0.0
    same = tokens = 0
    for a_TV, b_TV in zip(trained, merged, strict=True):  # noqa: N806 - T tokens, V vocabulary
        a, b = a_TV - a_TV.mean(dim=-1, keepdim=True), b_TV - b_TV.mean(dim=-1, keepdim=True)
        squared_difference += (a - b).double().pow(2).sum().item()
        squared_norm += a.double().pow(2).sum().item()
        same += int((a.argmax(dim=-1) == b.argmax(dim=-1)).sum())
        log_a, log_b = a.log_softmax(dim=-1).double(), b.log_softmax(dim=-1).double()
        divergence += (log_a.exp() * (log_a - log_b)).sum().item()
        tokens += len(a)
    return Parity((squared_difference / squared_norm) ** 0.5, same / tokens, max(0.0, divergence / tokens), tokens)
