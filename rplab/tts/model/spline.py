"""Monotone rational-quadratic spline with linear tails (neural spline flows, arXiv 1906.04032), without branches.

Values outside the tails pass unchanged through `where`: no data-dependent `if`, so both ONNX exporters can follow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

_MIN_BIN = 1e-3
_MIN_SLOPE = 1e-3
_EDGE_SLOPE = math.log(math.expm1(1.0 - _MIN_SLOPE))
"""softplus of it + _MIN_SLOPE = 1: the spline meets its linear tails smoothly."""


def rational_quadratic(x: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor, *, reverse: bool, tail: float) -> tuple[Tensor, Tensor]:
    """Apply the spline to every element.

    Args:
        x: Any shape.
        widths: Shape of `x` + (bins,), unnormalised.
        heights: As `widths`.
        slopes: Shape of `x` + (bins - 1,): slopes at the inner knots, before softplus.
        reverse: Apply the inverse.
        tail: The spline covers -tail..tail.

    Returns:
        Transformed values and log |derivative| (of the inverse when `reverse`).
    """
    inside = (x >= -tail) & (x <= tail)
    clamped = x.clamp(-tail, tail)
    slopes = _MIN_SLOPE + F.softplus(F.pad(slopes, (1, 1), value=_EDGE_SLOPE))
    knots_x, knots_y = _knots(widths, tail), _knots(heights, tail)
    index = _find_bin(knots_y if reverse else knots_x, clamped)
    left, right = (knots_x.gather(-1, index + step).squeeze(-1) for step in (0, 1))
    low, high = (knots_y.gather(-1, index + step).squeeze(-1) for step in (0, 1))
    slope_0, slope_1 = (slopes.gather(-1, index + step).squeeze(-1) for step in (0, 1))
    width, height = right - left, high - low
    mean = height / width
    curve = slope_0 + slope_1 - 2 * mean
    if reverse:
        rise = clamped - low
        a = rise * curve + height * (mean - slope_0)
        b = height * slope_0 - rise * curve
        c = -mean * rise
        root = 2 * c / (-b - torch.sqrt((b.square() - 4 * a * c).clamp_min(0.0)))
        value = root * width + left
    else:
        root = (clamped - left) / width
        value = low + height * (mean * root.square() + slope_0 * root * (1 - root)) / (mean + curve * root * (1 - root))
    cross = root * (1 - root)
    numerator = mean.square() * (slope_1 * root.square() + 2 * mean * cross + slope_0 * (1 - root).square())
    log_slope = numerator.log() - 2 * (mean + curve * cross).log()
    log_slope = -log_slope if reverse else log_slope
    return torch.where(inside, value, x), torch.where(inside, log_slope, torch.zeros_like(x))


def _knots(raw: Tensor, tail: float) -> Tensor:
    """Return bins + 1 knots from -tail to tail."""
    bins = raw.shape[-1]
    shares = _MIN_BIN + (1 - _MIN_BIN * bins) * torch.softmax(raw, dim=-1)
    inner = 2 * tail * torch.cumsum(shares, dim=-1)[..., :-1] - tail
    return torch.cat([torch.full_like(inner[..., :1], -tail), inner, torch.full_like(inner[..., :1], tail)], dim=-1)


def _find_bin(knots: Tensor, x: Tensor) -> Tensor:
    """Return the index of the bin that holds each value, shape of `x` + (1,)."""
    return (x.unsqueeze(-1) >= knots[..., 1:-1]).sum(dim=-1, keepdim=True)
