"""Training losses: least-squares GAN, feature matching, and KL between posterior and prior.

Generator: adversarial + 2 x feature L1 + 45 x mel L1 + KL + durations. Discriminator: least squares (spec/tts.md, B).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Verdicts = Sequence[tuple[Tensor, list[Tensor]]]
MEL_WEIGHT = 45.0
FEATURE_WEIGHT = 2.0


def discriminator_loss(real: Verdicts, made: Verdicts) -> Tensor:
    """Return the sum over discriminators of (1 - D(real))^2 + D(made)^2."""
    terms = [(1 - r.float()).square().mean() + m.float().square().mean() for (r, _), (m, _) in zip(real, made, strict=True)]
    return torch.stack(terms).sum()


def adversarial_loss(made: Verdicts) -> Tensor:
    """Return the sum over discriminators of (1 - D(made))^2."""
    return torch.stack([(1 - score.float()).square().mean() for score, _ in made]).sum()


def feature_loss(real: Verdicts, made: Verdicts) -> Tensor:
    """Return `FEATURE_WEIGHT` x the summed L1 distance of all features; no gradient through the real ones."""
    terms = [
        (r.detach().float() - m.float()).abs().mean()
        for (_, real_features), (_, made_features) in zip(real, made, strict=True)
        for r, m in zip(real_features, made_features, strict=True)
    ]
    return FEATURE_WEIGHT * torch.stack(terms).sum()


def kl_loss(z_p: Tensor, logs_q: Tensor, mean_p: Tensor, logs_p: Tensor, mask: Tensor) -> Tensor:
    """Return the KL divergence of the posterior from the prior per valid frame, estimated at the drawn `z_p`.

    All but the mask (B, 1, S) are (B, C, S).
    """
    z_p, logs_q, mean_p, logs_p = (x.float() for x in (z_p, logs_q, mean_p, logs_p))
    divergence = logs_p - logs_q - 0.5 + 0.5 * (z_p - mean_p).square() * torch.exp(-2 * logs_p)
    return (divergence * mask).sum() / mask.sum()
