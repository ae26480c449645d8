"""Are two models the same function? Logits compared on held-out text.

Measured over all positions of the probes, in float32:

    rel_l2   ||a - b|| / ||a||   of the logits, each position centred (softmax does not see a shift)
    top1     share of positions with the same most likely token
    kl       mean KL(a || b) in nats a token
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Parity:
    """How far apart two models are."""

    rel_l2: float
    top1: float
    kl: float
    tokens: int
    """Positions compared."""

    def problems(self, max_rel_l2: float, min_top1: float, max_kl: float) -> list[str]:
        """Return what is out of bounds, in words."""
        found: list[str] = []
        if not self.rel_l2 <= max_rel_l2:
            found.append(f"relative L2 of the logits {self.rel_l2:.5f} > {max_rel_l2}")
        if not self.top1 >= min_top1:
            found.append(f"same top token at {self.top1:.4f} of the positions < {min_top1}")
        if not self.kl <= max_kl:
            found.append(f"KL {self.kl:.2e} > {max_kl:.0e} nats a token")
        return found


def probe_logits(model: PreTrainedModel, probes: Sequence[Sequence[int]], *, autocast: bool) -> list[torch.Tensor]:
    """Return the logits of each probe, (T, vocabulary) float32 on the CPU.

    The layers compute as in training. The last product with the vocabulary is done in float32: in bfloat16 the logits
    are rounded to steps of about 0.1, so that ties decide the most likely token (measured on one and the same model:
    2.4 % of the positions differ).

    Args:
        model: Causal language model without PEFT wrapping; put into evaluation mode.
        probes: Token ids.
        autocast: Compute in bfloat16 as training does, else in the number format of the weights.
    """
    model.eval()
    device = next(model.parameters()).device
    head: Any = model.get_output_embeddings()
    weight, bias = head.weight.float(), None if head.bias is None else head.bias.float()
    results: list[torch.Tensor] = []
    for probe in probes:
        ids = torch.tensor([list(probe)], device=device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        results.append(torch.nn.functional.linear(hidden.float(), weight, bias).cpu())
    return results


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
