"""Choosing the next token of every row of a batch, each row with its own settings and its own random number."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rplab.backend.base import Sampling

_NUCLEUS_TOKENS = 4096
"""Candidates that a nucleus is cut from: sorting a whole vocabulary of 150,000 costs more than the model does on a CPU."""


def pick_tokens(logits: torch.Tensor, samplings: Sequence[Sampling], numbers: Sequence[float], said: Sequence[Sequence[int]]) -> list[int]:
    """Return one token id a row.

    Args:
        logits: fp32, shape (rows, vocabulary); changed in place.
        samplings: Settings of each row; temperature 0 takes the most probable token.
        numbers: One number in [0, 1) a row: the same number, logits and settings give the same token.
        said: Tokens each reply already has, for the repetition penalty (the prompt's are not counted).
    """
    for row, (sampling, tokens) in enumerate(zip(samplings, said, strict=True)):
        if sampling.repetition_penalty != 1.0 and tokens:
            places = torch.tensor(sorted(set(tokens)), device=logits.device)
            values = logits[row, places]
            logits[row, places] = torch.where(values > 0, values / sampling.repetition_penalty, values * sampling.repetition_penalty)
    greedy = logits.argmax(-1)
    if all(sampling.temperature == 0 for sampling in samplings):
        return [int(token) for token in greedy.tolist()]
    temperatures = torch.tensor([sampling.temperature or 1.0 for sampling in samplings], device=logits.device)
    probabilities = (logits / temperatures[:, None]).softmax(-1)
    top = torch.tensor([sampling.top_p for sampling in samplings], device=logits.device)
    if bool((top < 1).any()):
        ordered, places = probabilities.topk(min(_NUCLEUS_TOKENS, probabilities.shape[-1]), dim=-1)
        outside = ordered.cumsum(-1) - ordered >= top[:, None]
        ordered = ordered.masked_fill(outside, 0.0)
    else:
        ordered, places = probabilities, None
    total = ordered.double().cumsum(-1)
    targets = torch.tensor(numbers, dtype=torch.float64, device=logits.device) * total[:, -1]
    chosen = (total <= targets[:, None]).sum(-1).clamp(max=ordered.shape[-1] - 1)
    drawn = chosen if places is None else places.gather(1, chosen[:, None])[:, 0]
    return [
        int(best if sampling.temperature == 0 else token)
        for sampling, best, token in zip(samplings, greedy.tolist(), drawn.tolist(), strict=True)
    ]
