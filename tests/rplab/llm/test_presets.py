"""Shipped presets: each is a whole profile, and a dry run shows that it fits its card and that every setting has an effect."""

import json

import pytest
import torch
from pydantic import ValidationError

from rplab.errors import ConfigError, ModelError, TrainingError
from rplab.llm.config import GrpoConfig, LoraSettings, OptimiserSettings, SftConfig
from rplab.llm.dry_run import plan_grpo, plan_sft
from rplab.llm.memory import GIB, MemoryEstimate, estimate_training, read_shape, refuse_without_room
from rplab.profile import load_profile

QWEN3_4B = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
ROOM_GIB = {"predecessor": 16, "single-16gb": 14, "single-24gb": 22, "h200": 139}


@pytest.fixture(scope="module")
def bare(tmp_path_factory, tiny):
    """A 4B model's folder without weights."""
    folder = tmp_path_factory.mktemp("bare")
    for path in (tiny / "model").glob("*token*"):
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("chat_template.jinja", "generation_config.json"):
        if (tiny / "model" / name).is_file():
            (folder / name).write_bytes((tiny / "model" / name).read_bytes())
    (folder / "config.json").write_text(json.dumps(QWEN3_4B))
    return folder


@pytest.mark.parametrize("name", sorted(ROOM_GIB))
def test_every_preset_fits_its_card(name, bare, toy):
    llm = load_profile(name).llm
    for config in (llm.sft1, llm.sft2):
        plan = plan_sft(config, bare, toy)
        assert plan["memory_gib"]["total"] <= ROOM_GIB[name], plan["memory_gib"]
        assert plan["memory_gib"]["weights"] == pytest.approx(2.5 if config.precision == "nf4" else 7.5, abs=0.2)
        assert plan["steps"] >= 1
        assert 0 < plan["packing_efficiency"] <= 1
    assert plan_grpo(llm.grpo, bare, toy)["memory_gib"]["total"] <= ROOM_GIB[name]


def test_the_predecessor_preset_has_the_predecessors_settings():
    llm = load_profile("predecessor").llm

    assert (llm.sft1.packing, llm.sft1.rows_per_step, llm.sft1.passes_per_step, llm.sft1.max_length) == (False, 1, 16, 4096)
    assert (llm.sft1.epochs, llm.sft2.epochs, llm.sft1.optimiser.learning_rate) == (8, 4, 2e-5)
    assert llm.sft1.lora == LoraSettings(rank=16, alpha=32, dropout=0.05)
    assert (llm.grpo.prompts_per_step * llm.grpo.num_generations, llm.grpo.beta, llm.grpo.optimiser.learning_rate) == (16, 0.0, 2e-6)


def test_a_dry_run_shows_what_is_learnt(bare, toy):
    plan = plan_sft(SftConfig(max_length=512, step_tokens=2048, epochs=2), bare, toy)

    assert plan["tokens"]["total"] > 0
    assert plan["tokens_per_pass"] == 512
    assert plan["steps"] == -(-plan["packed_rows"] * 2 // 4)
    assert plan["preview"].count("⟦") == plan["preview"].count("<|im_end|>⟧") >= 1
    assert "<|im_start|>user" in plan["preview"].split("⟦")[0]
    assert plan["estimated_minutes"] >= 0


def test_the_estimate_counts_the_weights_of_the_model(tiny):
    from rplab.llm.adapter import new_adapter
    from rplab.llm.precision import load_model, model_folder

    folder = model_folder(tiny)
    lora = LoraSettings(rank=4, dropout=0.1)
    model = new_adapter(load_model(folder, "bf16", "sdpa"), lora, 1)
    shape = read_shape(folder)

    estimate = estimate_training(shape, "bf16", lora, OptimiserSettings(), tokens=512, checkpointing=False)

    held = sum(p.numel() for n, p in model.named_parameters() if "lora_" not in n)
    assert estimate.weights == pytest.approx(2 * held, rel=0.01)
    assert estimate.adapter == 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert estimate.activations == pytest.approx(kept_by_autograd(model, 512), rel=0.35)


def kept_by_autograd(model, tokens):
    """Bytes that the backward pass of the layers needs, without weights and without the head."""
    weights = {p.data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        hidden = model.get_base_model().model(input_ids=torch.ones(1, tokens, dtype=torch.long), use_cache=False).last_hidden_state
    total = sum(kept.values())
    del hidden
    return total


def test_too_little_memory_is_refused_with_what_to_lower(monkeypatch, stages, toy, tiny):
    from rplab.llm import memory
    from rplab.llm.sft import train_sft

    monkeypatch.setattr(memory, "free_memory", lambda: (1 << 20, "main memory"))

    with pytest.raises(TrainingError, match=r"too little memory: .* Set activation_checkpointing: true"):
        stages.run("x", train_sft, SftConfig(max_length=512, activation_checkpointing=False), {"base": tiny, "dataset": toy})


def test_a_tight_fit_is_a_warning(monkeypatch, caplog):
    from rplab.llm import memory

    monkeypatch.setattr(memory, "free_memory", lambda: (2 * GIB, "a card"))

    refuse_without_room(MemoryEstimate(GIB, 0, 0, 0, GIB, 0), "sft1", "less")

    assert "may run out of memory" in caplog.text


def test_out_of_memory_says_what_to_lower():
    from rplab.llm.sft import advice_when_out_of_memory

    with (
        pytest.raises(TrainingError, match=r"activation_checkpointing: true.*rows_per_step below 4.*max_length below 4096"),
        advice_when_out_of_memory("sft1", SftConfig(activation_checkpointing=False, rows_per_step=4)),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="something else"), advice_when_out_of_memory("sft1", SftConfig()):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("config", "settings", "match"),
    [
        (SftConfig, {"step_tokens": 8192, "accumulation_steps": 2}, "not both"),
        (SftConfig, {"step_tokens": 8192, "packing": False}, "no effect with packing: false"),
        (SftConfig, {"warmup_ratio": 0.05}, "warmup_ratio"),
        (SftConfig, {"report_to": ["mlflow"]}, "report_to"),
        (GrpoConfig, {"vllm_memory": 0.5}, "no effect without vllm"),
        (GrpoConfig, {"vllm": True, "precision": "nf4"}, "needs precision: bf16"),
        (GrpoConfig, {"start": "merged", "precision": "nf4"}, "rounds the merged model a second time"),
        (GrpoConfig, {"max_prompt_length": 1024}, "max_prompt_length"),
    ],
)
def test_settings_without_effect_are_refused(config, settings, match):
    with pytest.raises(ValidationError, match=match):
        config.model_validate(settings)


def test_what_this_machine_lacks_is_named(monkeypatch, tmp_path):
    from rplab.llm.grpo_trainer import trainer_arguments as grpo_arguments
    from rplab.llm.sft_trainer import tracker_callbacks, trainer_arguments

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    paged = SftConfig(optimiser=OptimiserSettings(algorithm="paged_adamw_8bit"))
    with pytest.raises(ConfigError, match="paged_adamw_8bit needs an NVIDIA GPU"):
        trainer_arguments(paged, tmp_path)
    with pytest.raises(ConfigError, match="vllm: true needs an NVIDIA GPU"):
        grpo_arguments(GrpoConfig(vllm=True, start="merged"), tmp_path, [1.0])
    with pytest.raises(ConfigError, match="pip install wandb"):
        tracker_callbacks(["wandb"], tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="cannot be shared by 3 processes"):
        trainer_arguments(SftConfig(), tmp_path)


def test_a_base_that_is_no_decoder_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(ModelError, match="no decoder-only transformer"):
        read_shape(tmp_path)
    with pytest.raises(ModelError, match=r"nowhere.*cannot be read"):
        read_shape(tmp_path / "nowhere")
