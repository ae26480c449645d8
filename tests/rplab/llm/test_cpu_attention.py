"""Attention on a CPU whose gradient is matrix products: against float64, whole rows and replies that share a prompt."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rplab.llm.cpu_attention import _TILE, causal_attention

SHAPES = [
    # heads, key heads, head dim, queries, keys
    (4, 2, 32, 60, 60),
    (8, 4, 32, _TILE, _TILE),
    (4, 4, 16, 2 * _TILE + 3, 2 * _TILE + 3),
    (6, 2, 8, 50, 300),
    (2, 1, 64, _TILE + 1, _TILE + 40),
    (3, 3, 16, 1, 9),
]


def run(function, shape, dtype):
    """Return result and gradients of query, key and value, as float64."""
    heads, key_heads, size, queries, keys = shape
    draw = torch.Generator().manual_seed(queries)
    made = [
        torch.randn(1, count, length, size, generator=draw).bfloat16()
        for count, length in ((heads, queries), (key_heads, keys), (key_heads, keys))
    ]
    leaves = [tensor.to(dtype).requires_grad_() for tensor in made]
    out = function(*leaves)
    grad = torch.randn(out.shape, generator=draw).bfloat16().to(dtype)
    return [tensor.detach().double() for tensor in (out, *torch.autograd.grad(out, leaves, grad))]


def stock(query, key, value):
    mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=query.shape[1] != key.shape[1])


def ours(query, key, value):
    return causal_attention(query, key, value, query.shape[3] ** -0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_result_and_gradients_are_those_of_plain_attention(shape):
    for mine, right in zip(run(ours, shape, torch.float32), run(stock, shape, torch.float64), strict=True):
        assert torch.allclose(mine, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES[:5])
def test_bfloat16_stays_within_twice_the_rounding_of_torch(shape):
    wanted = run(stock, shape, torch.float64)
    for mine, theirs, right in zip(run(ours, shape, torch.bfloat16), run(stock, shape, torch.bfloat16), wanted, strict=True):
        assert (mine - right).norm() <= 2.2 * (theirs - right).norm()


def test_large_scores_do_not_overflow():
    query = torch.full((1, 1, 5, 8), 30.0, dtype=torch.bfloat16, requires_grad=True)
    key = (torch.arange(5.0).view(1, 1, 5, 1) * torch.ones(8)).bfloat16().requires_grad_()  # later keys score ever higher
    out = causal_attention(query, key, key, 1.0)
    out.sum().backward()

    assert torch.isfinite(query.grad).all()
    assert torch.isfinite(key.grad).all()
