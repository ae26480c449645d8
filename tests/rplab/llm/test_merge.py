"""Merging: the merged folder is the trained model, or there is none."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open

from rplab.errors import ModelError, TrainingError
from rplab.llm.adapter import load_adapter, new_adapter, save_adapter
from rplab.llm.config import LoraSettings, MergeConfig
from rplab.llm.lineage import Lineage, model_fingerprint, write_lineage
from rplab.llm.merge import merge_adapter, merged_weights, read_probes, tie_problems
from rplab.llm.parity import compare_logits, probe_logits
from rplab.llm.precision import load_model, load_tokenizer, model_folder


def test_the_merged_model_is_the_trained_one(merged):
    folder, stats = merged
    parity = json.loads((folder / "parity.json").read_text())

    assert parity["passed"]
    assert parity["rel_l2"] <= 0.02
    assert parity["top1"] >= 0.99
    assert parity["kl"] <= 1e-4
    assert parity["trained_on"] == "nf4"
    assert stats["layers"] == 14
    assert {path.name for path in (folder / "model").iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "README.md",
    }  # fmt: skip


def test_embeddings_stay_tied_after_a_reload(merged):
    folder, _ = merged
    model = load_model(folder / "model", "bf16")

    assert model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert tie_problems(model, folder / "model") == []
    with safe_open(folder / "model" / "model.safetensors", framework="pt") as file:
        assert not any("lm_head" in name for name in file.keys())  # noqa: SIM118
        assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {"torch.bfloat16"}  # noqa: SIM118


def test_merging_into_the_dequantised_weights_is_closer_than_into_the_original_ones(tiny, tuned, merged):
    base, tokenizer = model_folder(tiny), load_tokenizer(model_folder(tiny))
    probes = read_probes(tuned[0] / "probe.jsonl", tokenizer, MergeConfig(probes=4))
    trained = load_adapter(load_model(base, "nf4", "sdpa"), tuned[0] / "adapter", trainable=False)
    naive = load_adapter(load_model(base, "fp32", "sdpa"), tuned[0] / "adapter", trainable=False)
    expected = probe_logits(trained.get_base_model(), probes)

    ours = compare_logits(expected, probe_logits(load_model(merged[0] / "model", "bf16", "sdpa"), probes))
    stock = compare_logits(expected, probe_logits(naive.get_base_model(), probes))

    assert ours.rel_l2 < 0.3 * stock.rel_l2


def test_a_bf16_adapter_merges_too(stages, merged, tuned):
    base = merged[0] / "model"
    model = new_adapter(load_model(base, "bf16"), LoraSettings(rank=4, dropout=0.0), seed=2)
    with torch.no_grad():
        for index, (name, parameter) in enumerate(model.named_parameters()):
            if "lora_B" in name:
                parameter.normal_(std=0.005, generator=torch.Generator().manual_seed(index))
    save_adapter(model, stages.root / "adapter")
    shutil.copy(tuned[0] / "probe.jsonl", stages.root / "probe.jsonl")
    write_lineage(
        stages.root / "adapter",
        Lineage(stage="grpo", base=model_fingerprint(base), precision="bf16", template="", data="", steps=1),
    )

    _, stats = stages.run("merge", merge_adapter, MergeConfig(), {"base": merged[0], "adapter": stages.root})

    assert stats["passed"]
    assert stats["trained_on"] == "bf16"
    assert stats["rel_l2"] > 0


def test_a_model_that_is_not_the_trained_one_is_refused(stages, tiny, tuned, monkeypatch):
    def wrong(trained):
        return {name: weight * 1.2 for name, weight in merged_weights(trained).items()}

    monkeypatch.setattr("rplab.llm.merge.merged_weights", wrong)

    with pytest.raises(TrainingError, match="not the trained one: relative L2"):
        stages.run("merge", merge_adapter, MergeConfig(), {"base": tiny, "adapter": tuned[0]})
    assert json.loads((stages.root / "merge" / "parity.json").read_text())["passed"] is False


def test_an_adapter_of_another_base_is_refused(stages, tuned, merged):
    with pytest.raises(ModelError, match="trained on another base"):
        stages.run("merge", merge_adapter, MergeConfig(), {"base": merged[0], "adapter": tuned[0]})


def test_a_folder_without_adapter_is_named(stages, tiny):
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors"):
        stages.run("merge", merge_adapter, MergeConfig(), {"base": tiny, "adapter": tiny})


def test_merging_twice_gives_the_same_bytes(stages, tiny, tuned, merged):
    again, _ = stages.run("merge", merge_adapter, MergeConfig(), {"base": tiny, "adapter": tuned[0]})

    for path in (merged[0] / "model").iterdir():
        assert (again / "model" / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_adapter_from_elsewhere_is_compared_on_our_own_texts(stages, tiny, tuned):
    shutil.copytree(tuned[0] / "adapter", stages.root / "elsewhere")

    _, stats = stages.run("merge", merge_adapter, MergeConfig(), {"base": tiny, "adapter": stages.root / "elsewhere"})

    assert stats["probes"] == 6


def test_the_card_says_what_was_done(merged):
    import yaml

    folder, stats = merged
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")

    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "text-generation"
    assert front["language"] == ["ko"]
    assert f"| relative L2 | {stats['rel_l2']} |" in card
    assert "supervised fine-tuning on single exchanges: 12 steps" in card


def test_limits_are_widened_only_by_the_models_own_rounding():
    from rplab.llm.parity import Limits, Parity

    fixed = Limits(0.02, 0.99, 1e-4)

    assert fixed.widened(Parity(0.004, 0.999, 1e-6, 100)) == fixed
    deep = fixed.widened(Parity(0.031, 0.943, 0.0037, 100))
    assert Parity(0.0265, 0.964, 0.0025, 100).problems(deep) == []
    assert len(Parity(0.10, 0.88, 0.032, 100).problems(deep)) == 3


@pytest.mark.slow
def test_a_stack_of_adapters_is_merged_one_after_the_other(tmp_path, monkeypatch, capsys, tiny, tuned, merged):
    from rplab.cli.main import main

    model = load_model(model_folder(merged[0]), "bf16")
    second = new_adapter(model, LoraSettings(rank=4, alpha=8, dropout=0.0), 7)
    with torch.no_grad():
        for name, weight in second.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    save_adapter(second, tmp_path / "second" / "adapter")
    lineage = Lineage(
        stage="grpo", base=model_fingerprint(merged[0] / "model"), precision="bf16", template="t" * 64, data="d" * 64, steps=3
    )
    write_lineage(tmp_path / "second" / "adapter", lineage)
    out = tmp_path / "final"

    adapters = ["--adapter", str(tuned[0]), "--adapter", str(tmp_path / "second")]
    assert main(["llm", "merge", "--base", str(tiny), *adapters, "--out", str(out), "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["stats"]["adapter_stage"] == "grpo"
    card = (out / "model" / "README.md").read_text(encoding="utf-8")
    assert card.index("supervised fine-tuning") < card.index("reinforcement")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final", "second"]
    swapped = ["--adapter", str(tmp_path / "second"), "--adapter", str(tuned[0])]
    assert main(["llm", "merge", "--base", str(tiny), *swapped, "--out", str(tmp_path / "wrong")]) == 2
    assert "trained on another base" in capsys.readouterr().err
