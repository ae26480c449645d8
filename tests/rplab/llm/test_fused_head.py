"""Scores of learnt tokens with their gradient made on the way: TRL's numbers, and TRL's function wherever ours does not fit."""

import pytest
import torch
from trl.trainer import utils as trl_utils

from rplab.llm.fused_head import _Dispatch, fused_head

OUTPUTS = ("log_probs", "entropy", "is_top1")
STOCK = trl_utils._ChunkedLogProbFunction


def case(tokens=150, size=32, vocabulary=700, sure=False):
    draw = torch.Generator().manual_seed(tokens)
    hidden, weight = torch.randn(tokens, size, generator=draw), torch.randn(vocabulary, size, generator=draw)
    targets = torch.randint(vocabulary, (tokens,), generator=draw)
    if sure:  # the model knows: only the last digits of 1 - p are learnt from
        hidden = 12 * weight[targets] / weight[targets].norm(dim=1, keepdim=True)
    return hidden, weight, targets, torch.rand(tokens, generator=draw) + 0.5


def run(function, hidden, weight, targets, factors, dtype, temperature=1.0, **options):
    """Return log probabilities, entropy, top-1 and the gradient of the hidden states, all as float64."""
    leaf = hidden.detach().clone().to(dtype).requires_grad_()
    arguments = {"bias": None, "chunk_size": 256, "softcap": None, "logit_scale": 1.0, "outputs": OUTPUTS} | options
    result = function.apply(
        leaf, weight.to(dtype), arguments["bias"], targets, temperature, arguments["chunk_size"], arguments["softcap"],
        arguments["logit_scale"], arguments["outputs"],
    )  # fmt: skip
    (result[0] * factors).sum().backward()
    return result[0].detach().double(), result[1].detach().double(), result[4], leaf.grad.double()


def exact(hidden, weight, targets, factors, scale=1.0):
    leaf = hidden.detach().double().requires_grad_()
    every = torch.log_softmax(scale * leaf @ weight.double().t(), dim=-1)
    chosen = every.gather(1, targets[:, None])[:, 0]
    (chosen * factors.double()).sum().backward()
    return chosen.detach(), -(every.exp() * every).sum(-1).detach(), every.argmax(-1) == targets, leaf.grad


def distance(first, second):
    return float((first - second).norm() / second.norm())


@pytest.mark.parametrize("sure", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("tokens", "vocabulary"), [(1, 700), (150, 700), (70, 40_000)])
def test_scores_and_gradient_are_exact(tokens, vocabulary, temperature, sure):
    given = case(tokens, vocabulary=vocabulary, sure=sure)

    found = run(_Dispatch(STOCK), *given, torch.float32, temperature)
    wanted = exact(*given, 1 / temperature)

    for mine, right in zip((found[0], found[1], found[3]), (wanted[0], wanted[1], wanted[3]), strict=True):
        assert torch.allclose(mine, right, rtol=1e-4, atol=1e-4)  # scores of 80 in float32
    assert torch.equal(found[2], wanted[2])


@pytest.mark.parametrize("sure", [False, True])
def test_bfloat16_rounds_like_trl(sure):
    hidden, weight, targets, factors = case(sure=sure)
    given = hidden.bfloat16().float(), weight.bfloat16().float(), targets, factors
    wanted = exact(*given)

    ours, stock = run(_Dispatch(STOCK), *given, torch.bfloat16), run(STOCK, *given, torch.bfloat16)

    for part, most in ((0, 1.15), (1, 1.15), (3, 2.0)):  # the gradient is rounded twice: 2^-9 each time
        assert distance(ours[part], wanted[part]) <= most * distance(stock[part], wanted[part]) + 1e-6


class Witness:
    """Notes that TRL's function was called."""

    calls = 0

    def apply(self, *arguments):
        Witness.calls += 1
        return STOCK.apply(*arguments)


@pytest.mark.parametrize("unlike", ["softcap", "bias", "trainable head", "another output"])
def test_what_is_not_ours_is_left_to_trl(unlike):
    hidden, weight, targets, factors = case()
    options = {
        "softcap": {"softcap": 30.0},
        "bias": {"bias": torch.zeros(len(weight))},
        "trainable head": {},
        "another output": {"outputs": (*OUTPUTS, "log_sum_sq_probs")},
    }[unlike]
    Witness.calls = 0

    if unlike == "trainable head":
        weight.requires_grad_()
    run(_Dispatch(Witness()), hidden, weight, targets, factors, torch.float32, **options)

    assert Witness.calls == 1
    assert (weight.grad is not None) == (unlike == "trainable head")


def test_trl_gets_its_own_function_back_even_after_an_error():
    def fail():
        with fused_head():
            assert trl_utils._ChunkedLogProbFunction is not STOCK
            raise RuntimeError("stop")

    with fused_head(enabled=False):
        assert trl_utils._ChunkedLogProbFunction is STOCK
    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert trl_utils._ChunkedLogProbFunction is STOCK
