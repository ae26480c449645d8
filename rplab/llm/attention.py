"""Attention for packed rows: several dialogues in one row that must not see each other.

`varlen` hands the borders of the dialogues to `torch.nn.attention.varlen` on a GPU (torch >= 2.10, nothing else to
install) and goes dialogue by dialogue on a CPU; both avoid the L x L mask that plain SDPA needs for a packed row.
Everything that is not packed (evaluation, generation) is plain SDPA.

A row may also hold a prompt once and several replies to it (`rplab.llm.shared_prefix`): each reply then sees the prompt
and itself, which is the same kernel with other borders for the keys than for the queries.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils.import_utils import is_flash_attn_4_available

from rplab.errors import ConfigError, ModelError
from rplab.llm.config import Attention
from rplab.llm.cpu_attention import causal_attention

logger = logging.getLogger(__name__)

VARLEN = "rplab_varlen"


@dataclass(frozen=True)
class Prefixes:
    """Which dialogue of a row each dialogue sees before itself, once as numbers and once as key positions."""

    before: tuple[int | None, ...]
    """One a dialogue: the number of the dialogue before it, or None."""
    key_places: torch.Tensor
    """(keys) positions of the row that are the keys of the first dialogue, of the second..., on the device."""


@dataclass(frozen=True)
class _Scores:
    """How scores become weights."""

    dropout: float
    scaling: float
    sliding_window: int | None
    softcap: float | None


_packed: ContextVar[bool] = ContextVar("rplab_packed", default=False)


def implementation(name: Attention) -> str:
    """Return the transformers name of a configured attention; `auto` takes the fastest that this machine has.

    The order is fa4 (FlashAttention 4: Hopper and data-centre Blackwell) > varlen (torch's own kernel) > sdpa (a mask).

    Raises:
        ConfigError: `fa4` was asked for and is not there.
    """
    if name in ("varlen", "sdpa"):
        return VARLEN if name == "varlen" else name
    if missing := _missing_for_fa4():
        if name == "fa4":
            raise ConfigError(f"attention: fa4 needs {missing}. Set attention: auto, or install it with pip install flash-attn-4")
        chosen, reason = VARLEN, f"fa4 needs {missing}"
        if torch.cuda.is_available() and importlib.util.find_spec("torch.nn.attention.varlen") is None:
            chosen, reason = "sdpa", f"{reason}, and varlen needs torch 2.10"
        logger.info("attention: %s (%s)", "varlen" if chosen == VARLEN else chosen, reason)
        return chosen
    logger.info("attention: fa4")
    return "flash_attention_4"


def _missing_for_fa4() -> str | None:
    """Return what FlashAttention 4 lacks here, or None."""
    if not torch.cuda.is_available():
        return "an NVIDIA GPU"
    major, _ = torch.cuda.get_device_capability()
    if major not in (9, 10):
        return f"compute capability 9 or 10, this card has {major}"
    return None if is_flash_attn_4_available() else "the package flash-attn-4"


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
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    prefixes: Prefixes | None = None,
    softcap: float | None = None,
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
        cu_seq_lens_k: Borders of the keys; the same unless `prefixes` is given.
        max_length_q: Longest dialogue.
        max_length_k: Most keys of a dialogue.
        prefixes: What a dialogue sees before itself. None: nothing.
        softcap: Scores are bent below this (Gemma 2); no fast kernel does that, so that it is written out.
        options: Whatever else the model passes on.

    Returns:
        (1, T, heads, head dim), None.

    Raises:
        ModelError: A packed row without borders: the model swallows them. Or attention sinks, which would be left out.
    """
    if options.get("s_aux") is not None:
        raise ModelError(f"{type(module).__name__} has attention sinks, which no attention here computes. Take another base")
    if cu_seq_lens_q is None and _packed.get():
        raise ModelError(
            f"{type(module).__name__} does not hand the borders of packed dialogues to its attention, so they would see each other. "
            "Set packing: false and attention: sdpa (SFT), or take a base of the Qwen, Llama, Mistral or Gemma families"
        )
    how = _Scores(dropout, query.shape[3] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    if cu_seq_lens_q is None or attention_mask is not None or query.shape[0] != 1:
        if softcap is not None:
            is_causal = attention_mask is None and query.shape[2] > 1
            mask = _seen(query.shape[2], key.shape[2], None, query.device) if is_causal else attention_mask
            return _written_out(query, key, value, mask, how).transpose(1, 2).contiguous(), None
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, sliding_window=sliding_window, **options
        )
    if query.is_cuda and dropout == 0.0 and softcap is None:
        if prefixes is not None:
            key, value = key.index_select(2, prefixes.key_places), value.index_select(2, prefixes.key_places)
        borders = cu_seq_lens_q, cu_seq_lens_q if cu_seq_lens_k is None else cu_seq_lens_k
        longest = int(max_length_q or 0), int(max_length_k or max_length_q or 0)
        return _by_kernel(query, key, value, borders, longest, scaling, sliding_window), None
    before = None if prefixes is None else prefixes.before
    return _by_dialogue(query, key, value, cu_seq_lens_q.diff().tolist(), before, how), None


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: tuple[torch.Tensor, torch.Tensor],
    longest: tuple[int, int],
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
    out = varlen_attn(q_THD.to(half), k_THD.to(half), v_THD.to(half), *borders, *longest, **options)
    assert isinstance(out, torch.Tensor)
    return out.to(query.dtype).unsqueeze(0)


def _by_dialogue(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: list[int],
    before: Sequence[int | None] | None,
    how: _Scores,
) -> torch.Tensor:
    """Attend in one dialogue after the other.

    The row is cut with `split`: the backward of one is one concatenation, that of a slice is a row of zeros per dialogue.
    The filler at the end of a row, which TRL's collator hands over as dialogues of one token each, is one dialogue here:
    nothing of it is learnt, and calls cost time.
    """
    if before is None:
        lengths = _with_one_filler(lengths)
    queries, keys, values = (tensor.split(lengths, dim=2) for tensor in (query, key, value))
    parts: list[torch.Tensor] = []
    for index, own_query in enumerate(queries):
        own_key, own_value = keys[index], values[index]
        if before is not None and (prefix := before[index]) is not None:
            own_key, own_value = torch.cat([keys[prefix], own_key], dim=2), torch.cat([values[prefix], own_value], dim=2)
        parts.append(_causal(own_query, own_key, own_value, how).transpose(1, 2))
    return torch.cat(parts, dim=1)


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: _Scores) -> torch.Tensor:
    """Attend from the last positions of the keys to all before them."""
    queries, keys = query.shape[2], key.shape[2]
    if how.softcap is not None:
        return _written_out(query, key, value, _seen(queries, keys, how.sliding_window, query.device), how)
    half = query.dtype in (torch.bfloat16, torch.float16)  # in float32 torch is as fast
    sees_all = how.sliding_window is None or keys <= how.sliding_window
    if half and sees_all and how.dropout == 0.0 and key.shape == value.shape and not query.is_cuda:
        return causal_attention(query, key, value, how.scaling)
    is_plain = sees_all and queries == keys
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if is_plain else _seen(queries, keys, how.sliding_window, query.device),
        dropout_p=how.dropout,
        is_causal=is_plain,
        scale=how.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, how: _Scores) -> torch.Tensor:
    """Attend operator by operator, with bent scores.

    Args:
        query: (B, heads, Q, head dim); `key` and `value` (B, key heads, K, head dim).
        key: See `query`.
        value: See `query`.
        mask: Broadcastable to (B, heads, Q, K), True where a query sees; None: everywhere.
        how: With `softcap`.
    """
    assert how.softcap is not None
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scores = how.softcap * torch.tanh(query @ key.transpose(2, 3) * (how.scaling / how.softcap))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    probs = torch.softmax(scores, dim=-1, dtype=torch.float32).nan_to_num(0.0).to(query.dtype)  # padding sees nothing
    return torch.dropout(probs, how.dropout, train=how.dropout > 0) @ value


def _with_one_filler(lengths: list[int]) -> list[int]:
    """Return the lengths with the dialogues of one token at the end counted as one: a single token has nothing to predict."""
    kept = len(lengths)
    while kept and lengths[kept - 1] == 1:
        kept -= 1
    return [*lengths[:kept], len(lengths) - kept] if kept < len(lengths) else lengths


def _seen(queries: int, keys: int, sliding_window: int | None, device: torch.device) -> torch.Tensor:
    """Return (queries, keys): what the last `queries` of `keys` positions see."""
    distance = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)[None, :]
    return distance >= 0 if sliding_window is None else (distance >= 0) & (distance < sliding_window)


AttentionInterface.register(VARLEN, varlen_attention)
AttentionMaskInterface.register(VARLEN, varlen_mask)
