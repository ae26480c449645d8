"""Number formats: adapters stay float32, and 4-bit gradients survive a generation on the CPU."""

import json
import shutil

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit

from rplab.errors import ModelError, TrainingError
from rplab.llm.adapter import kept_adapters, low_precision_adapters, new_adapter
from rplab.llm.config import LoraSettings
from rplab.llm.hooks import LabHooks
from rplab.llm.precision import load_model, load_tokenizer, model_folder

TEXT = '<|im_start|>user\n비가 오네.<|im_end|>\n<|im_start|>assistant\n사야는 부두에서 고개를 든다.\n"기다리고 있었어."<|im_end|>'


def gradient(model, ids):
    model.train()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def test_gradients_after_a_generation_on_nf4_are_those_before(tiny):
    folder = model_folder(tiny)
    tokenizer = load_tokenizer(folder)
    model = new_adapter(load_model(folder, "nf4"), LoraSettings(rank=4, dropout=0.0), seed=1)
    with torch.no_grad():  # B starts at zero: give A a gradient
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02, generator=torch.Generator().manual_seed(len(name)))
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]

    before = gradient(model, ids)
    model.eval()
    model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
    after = gradient(model, ids)

    assert sum(isinstance(module, Linear4bit) for module in model.modules()) == 14
    assert torch.cosine_similarity(before, after, dim=0) >= 0.999
    assert torch.allclose(before.norm(), after.norm(), rtol=1e-3)


def test_what_a_trainer_does_to_adapters_is_undone(tiny):
    model = new_adapter(load_model(model_folder(tiny), "nf4"), LoraSettings(rank=4), seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    with kept_adapters(model):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
        assert low_precision_adapters(model)

    assert not low_precision_adapters(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if p.requires_grad)


def test_a_rounded_adapter_stops_training():
    layer = torch.nn.Linear(2, 2).to(torch.bfloat16)

    with pytest.raises(TrainingError, match="not float32"):
        LabHooks().compute_loss(layer, {})


def test_the_fused_head_scores_learnt_positions_only_and_rightly(tiny):
    from trl.trainer.utils import add_fused_lm_head

    model = load_model(model_folder(tiny), "fp32")
    ids = torch.arange(5, 45)[None]
    labels = ids.clone()
    labels[:, :30] = -100
    expected = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]

    add_fused_lm_head(model)
    scored = model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs[0]

    assert torch.equal(scored[:29], torch.zeros(29))
    assert torch.allclose(scored[29:], expected[29:], atol=1e-4)


def test_equal_seeds_give_equal_adapters(tiny):
    settings = LoraSettings(rank=4)
    first, second, other = (new_adapter(load_model(model_folder(tiny), "bf16"), settings, seed) for seed in (5, 5, 6))

    def weights(model):
        return torch.cat([p.flatten() for name, p in model.named_parameters() if "lora_A" in name])

    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_unknown_adapter_target_is_named_with_the_known_ones(tiny):
    with pytest.raises(ModelError, match=r"no layer is called wqkv.*q_proj"):
        new_adapter(load_model(model_folder(tiny), "bf16"), LoraSettings(targets=("wqkv",)), seed=1)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_model_folder_is_named(tiny, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(tiny / "model", folder)
    (folder / name).unlink()

    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        model_folder(tmp_path)


def test_a_missing_model_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        model_folder(tmp_path / "nowhere")


def test_broken_weights_are_named(tiny, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny / "model", folder)
    (folder / "model.safetensors").write_bytes(b"no weights")

    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder, "bf16")


def test_a_model_that_brings_its_own_code_is_refused(tiny, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))

    with pytest.raises(ModelError, match="auto_map"):
        model_folder(tmp_path)
