"""LoRA layers computed in one step: the numbers of PEFT's, with half the passes over the activations.

PEFT computes `base(x) + lora_B(lora_A(dropout(x))) * scaling` operator by operator. With float32 adapters (see
`rplab.llm.adapter`) that casts every input to float32, multiplies and adds whole outputs, and keeps the dropped-out input
for the backward pass. Here the scale goes into the narrow middle (T x rank), the sum into the matrix product, and what is
kept is the input itself, which other layers keep anyway, and one byte a number for dropout. Rounding is that of autocast:
bfloat16 products with float32 sums. Nothing here knows a GPU from a CPU.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.bnb import Linear4bit
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd import Function

_LEVELS = 1 << 16
"""Dropout decides by 16 random bits a number: a quarter of the generator's work, and within 1e-5 of the share asked for."""
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of a number -> integers of that width."""


def fuse_adapters(model: PeftModel) -> int:
    """Give every plain LoRA layer the fused forward, in place; return how many.

    A layer whose adapters are switched off, merged, mixed or of another kind (DoRA) goes PEFT's way in that call.
    """
    layers = [module for module in model.modules() if isinstance(module, Linear | Linear4bit)]
    for layer in layers:
        layer.forward = types.MethodType(_forward, layer)
    return len(layers)


def _forward(layer: Any, x: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """Forward of a PEFT layer."""
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(names) != 1 or names[0] in layer.lora_variant or arguments or options:
        return type(layer).forward(layer, x, *arguments, **options)
    name = names[0]
    dropout = layer.lora_dropout[name]
    share = dropout.p if isinstance(dropout, nn.Dropout) and layer.training else 0.0
    out: Tensor = layer.base_layer(x)
    fused: Tensor = _Fused.apply(out, x.to(out.dtype), layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name], share)
    return fused


class _Fused(Function):
    """out + scale * dropout(x) A^T B^T."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, a: Tensor, b: Tensor, scale: float, share: float) -> Tensor:
        """Add the adapter's part.

        Args:
            ctx: Of autograd.
            out: (..., outputs) of the frozen layer.
            x: (..., inputs), of the same type.
            a: (rank, inputs) float32.
            b: (outputs, rank) float32.
            scale: alpha / rank.
            share: Share of the inputs that is dropped.
        """
        mask = _draw_mask(x, share) if share else None
        ctx.scale = scale / (1 - share)
        rows = _masked(x, mask).reshape(-1, x.shape[-1])
        middle = torch.mm(rows, a.to(x.dtype).t()).mul_(ctx.scale)
        ctx.save_for_backward(x, None if mask is None else mask.to(torch.int8), middle, a, b)
        return torch.addmm(out.reshape(-1, out.shape[-1]), middle, b.to(x.dtype).t()).view(out.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradients of `out`, `x`, `a` and `b`."""
        x, small_mask, middle, a, b = ctx.saved_tensors
        mask = None if small_mask is None else small_mask.to(_INTEGERS[x.element_size()])
        upper = grad.reshape(-1, grad.shape[-1])
        to_middle = torch.mm(upper, b.to(grad.dtype)).mul_(ctx.scale)
        rows = _masked(x, mask).reshape(-1, x.shape[-1])
        grad_a = torch.mm(to_middle.t(), rows).to(a.dtype)
        grad_b = torch.mm(upper.t(), middle).to(b.dtype)
        grad_x = None
        if ctx.needs_input_grad[1]:
            grad_x = _masked(torch.mm(to_middle, a.to(grad.dtype)).view(x.shape), mask)
        return grad, grad_x, grad_a, grad_b, None, None


def _draw_mask(x: Tensor, share: float) -> Tensor:
    """Return integers as wide as the numbers of `x`, from the global generator of its device: all bits set where one stays, else 0."""
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
    drawn = bits.view(torch.int16)[: x.numel()].view(x.shape)
    mask = torch.empty(x.shape, dtype=_INTEGERS[x.element_size()], device=x.device)
    return torch.ge(drawn, round(share * _LEVELS) - _LEVELS // 2, out=mask).neg_()


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return `x` with 0 where the mask is 0; bits, because multiplying with booleans converts them first (five times as slow)."""
    return x if mask is None else (x.view(mask.dtype) & mask).view(x.dtype)
