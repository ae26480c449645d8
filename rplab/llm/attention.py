"""Attention for packed rows: several dialogues in one row that must not see each other.

`varlen` hands the borders of the dialogues to `torch.nn.attention.varlen` on a GPU (torch >= 2.10, nothing else to
install) and goes dialogue by dialogue on a CPU; both avoid the L x L mask that plain SDPA needs for a packed row.
Everything that is not packed (evaluation, generation) is plain SDPA.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

VARLEN = "rplab_varlen"

_packed: ContextVar[bool] = ContextVar("rplab_packed", default=False)


def implementation(name: str) -> str:
    """Return the transformers name of a configured attention (`varlen` or `sdpa`)."""
    return VARLEN if name == "varlen" else name


@contextmanager
def packed_forward() -> Generator[None]:
    """Mark a forward pass whose batch is one packed row with `cu_seq_lens_q` among its inputs: no mask is built."""
    token = _packed.set(True)
    try:
        yield
    finally:
        _packed.reset(token)


def varlen_mask(*arguments: Any, **options: Any) -> torch.Tensor | None:
    """Build the mask that SDPA needs, or none for a packed row."""
    return None if _packed.get() else sdpa_mask(*arguments, **options)


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each dialogue of a packed row, or as SDPA does when nothing is packed.

    Args:
        module: The attention layer.
        query: (1, heads, T, head dim); `key` and `value` have as many or fewer heads.
        key: See `query`.
        value: See `query`.
        attention_mask: None for a packed row.
        dropout: Attention dropout; the Qwen and Llama families have none.
        scaling: Factor on the scores.
        sliding_window: Tokens that a query sees, None for all.
        cu_seq_lens_q: (dialogues + 1) int32 borders of the dialogues, on the device; None when nothing is packed.
        max_length_q: Longest dialogue.
        options: Whatever else the model passes on.

    Returns:
        (1, T, heads, head dim), None.
    """
    if cu_seq_lens_q is None or attention_mask is not None or query.shape[0] != 1:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, sliding_window=sliding_window, **options
        )
    if query.is_cuda and dropout == 0.0:
        return _by_kernel(query, key, value, cu_seq_lens_q, int(max_length_q or 0), scaling, sliding_window), None
    return _by_dialogue(query, key, value, cu_seq_lens_q.tolist(), dropout, scaling, sliding_window), None


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """Call torch's variable-length kernel; its options differ between torch 2.10 and 2.13."""
    from torch.nn.attention.varlen import varlen_attn  # absent before torch 2.10

    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"scale": scaling}
    if "window_size" in known:
        options["window_size"] = (-1 if sliding_window is None else sliding_window - 1, 0)
    else:
        options["is_causal"] = True
    repeats = query.shape[1] // key.shape[1]
    if "enable_gqa" in known:
        options["enable_gqa"] = repeats > 1
    elif repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    q_THD, k_THD, v_THD = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))  # noqa: N806
    half = torch.bfloat16 if q_THD.dtype == torch.float32 else q_THD.dtype  # the kernel has no float32
    out = varlen_attn(q_THD.to(half), k_THD.to(half), v_THD.to(half), borders, borders, longest, longest, **options)
    assert isinstance(out, torch.Tensor)
    return out.to(query.dtype).unsqueeze(0)


def _by_dialogue(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: list[int],
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """Attend in one dialogue after the other."""
    parts: list[torch.Tensor] = []
    for start, end in pairwise(borders):
        mask = None
        if sliding_window is not None and end - start > sliding_window:
            position = torch.arange(end - start, device=query.device)
            distance = position[:, None] - position[None, :]
            mask = (distance >= 0) & (distance < sliding_window)
        part = scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, start:end],
            value[:, :, start:end],
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        parts.append(part)
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


AttentionInterface.register(VARLEN, varlen_attention)
AttentionMaskInterface.register(VARLEN, varlen_mask)
