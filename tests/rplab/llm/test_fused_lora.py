"""LoRA layers computed in one step: PEFT's numbers, in every situation in which PEFT's layers are asked for something else."""

import copy

import pytest
import torch
from torch import nn

from rplab.llm.adapter import new_adapter
from rplab.llm.config import LoraSettings
from rplab.llm.fused_lora import _draw_mask, _Fused, _masked, fuse_adapters
from rplab.llm.precision import load_model, model_folder


def adapted(tiny, precision, **settings):
    model = new_adapter(load_model(model_folder(tiny), precision), LoraSettings(rank=4, **settings), seed=1)
    with torch.no_grad():  # B starts at zero: nothing would show
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(len(name)))
    return model


def run(model, ids, precision):
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32"):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    return float(loss.detach()), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.06), ("nf4", 0.06)])
def test_loss_and_gradients_are_those_of_peft(tiny, precision, tolerance):
    model = adapted(tiny, precision, dropout=0.0).train()
    ids = torch.randint(20, 200, (2, 24), generator=torch.Generator().manual_seed(3))
    loss, gradients = run(model, ids, precision)

    assert fuse_adapters(model) == 14
    fused_loss, fused = run(model, ids, precision)
    assert fused_loss == pytest.approx(loss, rel=tolerance)
    assert fused.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert fused[name].dtype == torch.float32
        assert float((fused[name] - gradient).norm() / gradient.norm()) <= tolerance, name


def test_rounding_is_no_worse_than_pefts(tiny):
    model, exact = adapted(tiny, "bf16", dropout=0.0).train(), adapted(tiny, "fp32", dropout=0.0).train()
    exact.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    ids = torch.randint(20, 200, (4, 48), generator=torch.Generator().manual_seed(6))

    def gradient(which, precision):
        return torch.cat([value.flatten() for value in run(which, ids, precision)[1].values()])

    wanted, peft = gradient(exact, "fp32"), gradient(model, "bf16")
    fuse_adapters(model)
    assert float((gradient(model, "bf16") - wanted).norm()) <= 1.1 * float((peft - wanted).norm())


def test_gradients_of_the_one_step_are_right_to_the_last_digits():
    draw = torch.Generator().manual_seed(0)
    out, x, a, b = (
        torch.randn(shape, dtype=torch.float64, generator=draw, requires_grad=True) for shape in ((2, 3, 5), (2, 3, 4), (2, 4), (5, 2))
    )

    assert torch.autograd.gradcheck(lambda *values: _Fused.apply(*values, 0.7, 0.0), (out, x, a, b))


def test_dropout_drops_its_share_repeats_with_the_seed_and_reaches_the_gradient():
    x = torch.randn(64, 512)
    torch.manual_seed(4)
    mask = _draw_mask(x, 0.25)
    torch.manual_seed(4)

    assert torch.equal(mask, _draw_mask(x, 0.25))
    kept = mask == -1
    assert torch.equal(_masked(x, mask), torch.where(kept, x, 0.0))
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.01)
    torch.manual_seed(4)
    x.requires_grad_()
    out = _Fused.apply(torch.zeros(64, 3), x, torch.ones(1, 512), torch.ones(3, 1), 2.0, 0.25)
    wanted = (x * kept).sum(1, keepdim=True).expand(-1, 3) * 2.0 / 0.75
    assert torch.allclose(out, wanted, rtol=1e-4, atol=1e-3)
    out.sum().backward()
    assert torch.allclose(x.grad, kept * (3 * 2.0 / 0.75))


def test_switched_off_merged_and_mixed_adapters_go_pefts_way(tiny):
    model = adapted(tiny, "fp32", dropout=0.3).eval()
    ids = torch.randint(20, 200, (1, 12), generator=torch.Generator().manual_seed(5))
    plain = copy.deepcopy(model)
    fuse_adapters(model)

    with torch.no_grad():
        assert torch.allclose(model(ids).logits, plain(ids).logits, atol=1e-5)  # no dropout outside of training
        with model.disable_adapter(), plain.disable_adapter():
            assert torch.equal(model(ids).logits, plain(ids).logits)
        merged = plain.merge_and_unload()
        assert torch.allclose(model(ids).logits, merged(ids).logits, atol=1e-4)
        model.merge_adapter()
        assert torch.allclose(model(ids).logits, merged(ids).logits, atol=1e-4)


def test_layers_of_another_kind_are_left_alone(tiny):
    model = adapted(tiny, "fp32", dropout=0.0)
    other = next(module for module in model.modules() if type(module) is nn.Embedding)
    before = other.forward
    fuse_adapters(model)

    assert other.forward == before
