"""Causal attention on a CPU whose backward pass is matrix products.

torch's flash attention takes five times as long for its gradient as for its result on a CPU with bfloat16 (8 heads of 32,
300 tokens: 0.8 and 4.3 ms), because it works in float32 tiles. Its forward pass is kept; the backward pass is written as
five batched products (Dao et al. 2022, algorithm 4, with tiles of queries only), the scores in float32, the others in the
type of the inputs: 2.7 ms, and as near to float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_TILE = 256
"""Queries of one tile at most: what a tile cannot see is not computed."""


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attend causally; the queries are the last of the keys' positions.

    Args:
        query: (1, heads, Q, head dim).
        key: (1, key heads, K, head dim), K >= Q; a key head serves heads / key heads heads that follow each other.
        value: As `key`.
        scale: Factor on the scores.

    Returns:
        (1, heads, Q, head dim).
    """
    out: Tensor = _Causal.apply(query, key, value, scale)
    return out


class _Causal(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Call torch's kernel, which also gives the logarithm of each query's sum."""
        queries, keys = query.shape[2], key.shape[2]
        mask = None
        if queries < keys:
            mask = query.new_full((queries, keys), float("-inf")).triu_(keys - queries + 1)
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, log_sum = kernel(query, key, value, 0.0, mask is None, attn_mask=mask, scale=scale)
        ctx.scale = scale
        ctx.save_for_backward(query, key, value, log_sum)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradients of query, key and value."""
        query, key, value, log_sum = ctx.saved_tensors
        groups, keys, size = key.shape[1:]
        queries = query.shape[2]
        before = keys - queries
        # the scores of before, in float32: in bfloat16 those of far keys would be wrong by a hundredth of their probability
        query_GRQD = torch.cat([query[0].float() * ctx.scale, -log_sum[0, ..., None]], dim=-1).view(groups, -1, queries, size + 1)  # noqa: N806
        key_GDK = torch.cat([key[0].float(), key.new_ones(groups, keys, 1, dtype=torch.float32)], dim=-1).transpose(1, 2)  # noqa: N806
        half_GRQD, grad_GRQD = (tensor[0].reshape(groups, -1, queries, size) for tensor in (query, grad))  # noqa: N806
        grad_key, grad_value = torch.zeros(2, groups, keys, size, dtype=torch.float32).unbind()
        parts: list[Tensor] = []
        for start in range(0, queries, _TILE):  # not equal parts: oneDNN compiles and keeps a program for every shape
            end = min(queries, start + _TILE)
            seen = before + end
            own_query, own_grad = (tensor[:, :, start:end].reshape(groups, -1, size) for tensor in (half_GRQD, grad_GRQD))
            probs = torch.bmm(query_GRQD[:, :, start:end].reshape(groups, -1, size + 1), key_GDK[:, :, :seen]).exp_()
            probs.view(groups, -1, end - start, seen).tril_(before + start)
            probs = probs.to(query.dtype)
            to_probs = torch.bmm(own_grad, value[0, :, :seen].transpose(1, 2))
            to_scores = torch.ops.aten._softmax_backward_data(to_probs, probs, -1, probs.dtype)
            grad_value[:, :seen] += torch.bmm(probs.transpose(1, 2), own_grad)
            grad_key[:, :seen] += torch.bmm(to_scores.transpose(1, 2), own_query)
            parts.append(torch.bmm(to_scores, key[0, :, :seen]).view(groups, -1, end - start, size))
        grad_query = torch.cat(parts, dim=2).mul_(ctx.scale).view(query.shape)
        grad_key *= ctx.scale
        return grad_query, grad_key[None].to(key.dtype), grad_value[None].to(value.dtype), None
