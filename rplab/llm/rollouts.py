"""Drawing groups of replies for GRPO: each prompt is read once, its replies are written side by side.

TRL hands every prompt to `generate` once per reply and carries finished replies along as padding until the longest one
ends. Here the cache of a prompt is copied to its replies, and replies that have ended leave the batch. Tokens are
drawn from the untouched distribution (temperature 1): what is drawn from must be what is learnt from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

_COMPACT_BELOW = 0.8
"""Finished replies leave the batch when fewer than this share are still being written: leaving costs a copy of the cache."""


@dataclass
class _Batch:
    """Replies that are being written."""

    cache: DynamicCache
    mask: torch.Tensor
    """(rows, tokens so far) 1 where a token may be seen."""
    places: torch.Tensor
    """(rows) position of the next token."""
    rows: list[int]
    """Number of each reply in the result."""

    def keep(self, indices: list[int]) -> None:
        chosen = torch.tensor(indices, device=self.mask.device)
        self.cache.batch_select_indices(chosen)
        self.mask, self.places = self.mask[chosen], self.places[chosen]
        self.rows = [self.rows[index] for index in indices]


@torch.no_grad()
def draw_replies(
    model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, end_ids: Collection[int], pad_id: int
) -> list[list[int]]:
    """Draw one reply for every prompt; equal neighbours are read once.

    Args:
        model: Causal language model; its mode and its gradients are left alone.
        prompts: Token ids, one list a reply; the replies of a group stand side by side.
        max_new_tokens: A reply that has not ended by then is cut.
        end_ids: Tokens that end a reply.
        pad_id: Fills prompts up on the left.

    Returns:
        Token ids of every reply, its end token included. Drawn with torch's global generator, so that a checkpoint
        of its state repeats them.
    """
    groups = [(list(ids), len(list(rows))) for ids, rows in groupby(prompts, key=list)]
    device = next(model.parameters()).device
    replies: list[list[int]] = [[] for _ in prompts]
    batch, logits = _read(model, groups, pad_id, device)
    ends = frozenset(end_ids)
    alive = [True] * len(batch.rows)
    for step in range(max_new_tokens):
        tokens = torch.multinomial(logits.float().softmax(-1), 1)
        for index, token in enumerate(tokens.flatten().tolist()):
            if alive[index]:
                replies[batch.rows[index]].append(token)
                alive[index] = token not in ends
        if not any(alive) or step + 1 == max_new_tokens:
            break
        if sum(alive) < _COMPACT_BELOW * len(alive):
            kept = [index for index, living in enumerate(alive) if living]
            batch.keep(kept)
            tokens = tokens[torch.tensor(kept, device=device)]
            alive = [True] * len(kept)
        logits = _advance(model, batch, tokens)
    return replies


def _read(model: Any, groups: Sequence[tuple[list[int], int]], pad_id: int, device: torch.device) -> tuple[_Batch, torch.Tensor]:
    """Read every prompt once; return the state of its replies, and the logits of their first tokens."""
    width = max(len(ids) for ids, _ in groups)
    tokens = torch.full((len(groups), width), pad_id, device=device)
    mask = torch.zeros((len(groups), width), dtype=torch.long, device=device)
    for row, (ids, _) in enumerate(groups):
        tokens[row, width - len(ids) :] = torch.tensor(ids, device=device)
        mask[row, width - len(ids) :] = 1
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(
        input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
    ).logits[:, -1]
    copies = torch.repeat_interleave(torch.arange(len(groups), device=device), torch.tensor([size for _, size in groups], device=device))
    batch = _Batch(cache, mask, mask.sum(-1), list(range(len(groups))))
    batch.keep(copies.tolist())
    batch.rows = list(range(len(copies)))
    return batch, logits[copies]


def _advance(model: Any, batch: _Batch, tokens: torch.Tensor) -> torch.Tensor:
    """Read one token a reply; return the logits of the next."""
    batch.mask = torch.cat([batch.mask, batch.mask.new_ones(len(batch.rows), 1)], dim=1)
    logits: torch.Tensor = model(
        input_ids=tokens,
        attention_mask=batch.mask,
        position_ids=batch.places[:, None],
        past_key_values=batch.cache,
        use_cache=True,
    ).logits[:, -1]
    batch.places = batch.places + 1
    return logits
