"""The cases of `benchmarks/training.py`, each run in a process of its own."""

from __future__ import annotations

import json
import random
import resource
import time
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from transformers import Qwen3Config, Qwen3ForCausalLM, TrainerCallback

from rplab.llm.config import GrpoConfig, LoraSettings, SftConfig
from rplab.llm.precision import load_model, load_tokenizer, quiet_libraries, save_tokenizer
from rplab.llm.template import IGNORED, Example, pad_id
from rplab.llm.tokenizer import train_tokenizer
from rplab.stage import StageContext

SHAPES: dict[str, dict[str, int]] = {
    "smoke": {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 32, "vocab_size": 2560,
    },
    "tiny": {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 32, "vocab_size": 4096,
    },
    "wide": {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 3, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 128, "vocab_size": 4096,
    },
    "qwen3-4b": {
        "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "vocab_size": 151_936,
    },
}  # fmt: skip
LENGTHS = {"single": 300, "multi": 1000}
"""Mean tokens of a row."""
PER_UPDATE = 16
"""Rows of one update, as the predecessor's accumulation of 16 single rows."""
REPLY_TOKENS = 128
"""Longest reply."""
END_SHARE = 0.025
"""Share of the vocabulary that ends a reply of the random model: replies of 40 tokens in the mean, as unlike as real ones."""
PROMPT_WORDS = (150, 250)
"""Words of a prompt, some 1.5 tokens each: a card and a few exchanges."""
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "RTX 5080": 113e12, "RTX 4090": 165e12}
"""Dense bf16, by a part of the card's name (vendors' data sheets)."""


def run_case(case: str, shape: str | None, steps: int | None, folder: Path) -> dict[str, Any]:
    """Run one case and return what was measured."""
    quiet_libraries()
    cuda = torch.cuda.is_available()
    shape = shape or ("qwen3-4b" if cuda else "tiny")
    steps = steps or (12 if cuda else 6)
    if case == "model":
        return make_model(shape, folder)
    if case.endswith("grpo"):
        return run_grpo(case, steps, folder)
    name, kind = case.rsplit("-", 1)
    return run_sft(name, kind, steps, folder)


def make_model(shape: str, folder: Path) -> dict[str, Any]:
    """Save a random model of a shape, with a small tokenizer whose ids it knows."""
    tokenizer = train_tokenizer(["사야는 웃는다. 기다리고 있었어. 비가 오네, 같이 걸을래?"] * 50, 600, 8192)
    torch.manual_seed(0)
    settings = Qwen3Config(
        **SHAPES[shape],
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="bfloat16",
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = Qwen3ForCausalLM(settings).to(torch.bfloat16)
    ends = random.Random(0).sample(range(settings.vocab_size), round(END_SHARE * settings.vocab_size))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *ends]
    model.save_pretrained(str(folder / "model"))
    save_tokenizer(tokenizer, folder / "model")
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, trl {trl.__version__}"
    return {"device": name, "versions": versions, "shape": shape, "parameters": sum(p.numel() for p in model.parameters())}


def rows(kind: str, count: int, seed: int, vocabulary: int = 500) -> list[Example]:
    """Make rows of a language with something to learn: each token has four likely successors; the last half is learnt."""
    draw = random.Random(seed)
    table = random.Random(0)
    successors = [[table.randrange(20, vocabulary) for _ in range(4)] for _ in range(vocabulary)]
    examples: list[Example] = []
    for _ in range(count):
        length = max(32, min(int(2.2 * LENGTHS[kind]), round(draw.lognormvariate(0, 0.4) * LENGTHS[kind] * 0.92)))
        ids = [draw.randrange(20, vocabulary)]
        while len(ids) < length:
            ids.append(draw.choice(successors[ids[-1]]))
        examples.append(Example(ids, [*([IGNORED] * (length // 2)), *ids[length // 2 :]]))
    return examples


def now() -> float:
    """Return seconds: of the process' own CPU time on a CPU, where other programs must not count, else of the clock."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def context(folder: Path, name: str, times: list[float]) -> StageContext:
    """Return a stage context in a folder of its own, which notes when each step was logged."""
    out, resume = folder / name / "out", folder / name / "resume"
    for path in (out, resume):
        path.mkdir(parents=True, exist_ok=True)
    return StageContext(out=out, resume=resume, report=lambda _: times.append(now()))


def run_sft(case: str, kind: str, steps: int, folder: Path) -> dict[str, Any]:
    """Train on the same rows with the settings of a case."""
    from rplab.llm.heldout import measure_loss

    train, held = rows(kind, PER_UPDATE * steps, 1), rows(kind, 16, 2)
    tokenizer = load_tokenizer(folder / "model")
    if case == "trl-sft":
        return plain_sft(train, steps, folder, kind)
    from rplab.llm.adapter import new_adapter
    from rplab.llm.sft import fit_adapter

    config = sft_settings(case, kind, steps)
    model = new_adapter(load_model(folder / "model", config.precision, config.attention), config.lora or LoraSettings(), 1)
    times: list[float] = []
    where = context(folder, f"{case}-{kind}", times)
    fit = fit_adapter(model, tokenizer, train, held, config, where, label=case)
    metrics = [json.loads(line) for line in (where.out / "logs" / "metrics.jsonl").read_text().splitlines()]
    seconds, tokens = times[-1] - times[0], metrics[-1]["num_tokens"] - metrics[0]["num_tokens"]
    after = measure_loss(model, held, pad_id(tokenizer)).mean
    return measured(tokens, seconds, model) | {"steps": fit.steps, "loss_before": round(fit.before.mean, 4), "loss_after": round(after, 4)}


def sft_settings(case: str, kind: str, steps: int) -> SftConfig:
    """Return the predecessor's settings, or packed rows that hold as many tokens an update."""
    from rplab.profile import load_profile

    profile = load_profile("predecessor").llm.sft1
    shared = {"max_steps": steps, "save_steps": 10_000, "eval_rows": 16, "optimiser": {"learning_rate": 1e-3, "warmup": 0.0}}
    lora = (profile.lora or LoraSettings()).model_dump()
    if case == "predecessor":
        return SftConfig.model_validate(profile.model_dump() | {"epochs": 1, "eval_steps": None, "sample_prompts": 0} | shared)
    update = PER_UPDATE * LENGTHS[kind]
    row = 2432 if kind == "single" else 4096
    packed = {"precision": case.removeprefix("packed-"), "max_length": row, "step_tokens": update, "activation_checkpointing": False}
    return SftConfig.model_validate({"lora": lora, **packed, **shared})


class Clock(TrainerCallback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.times.append(now())


def plain_sft(train: list[Example], steps: int, folder: Path, kind: str) -> dict[str, Any]:
    """TRL's trainer with its own defaults (8 padded rows a pass, activation checkpointing), 16 rows an update."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig as TrlConfig
    from trl.trainer.sft_trainer import SFTTrainer

    clock = Clock()
    trainer = SFTTrainer(
        model=load_model(folder / "model", "bf16", "sdpa"),
        args=TrlConfig(
            output_dir=str(folder / f"trl-{kind}"), max_steps=steps, gradient_accumulation_steps=PER_UPDATE // 8, learning_rate=1e-3,
            max_length=None, report_to="none", disable_tqdm=True, save_strategy="no", use_cpu=not torch.cuda.is_available(), bf16=True,
        ),
        train_dataset=Dataset.from_list([{"input_ids": example.input_ids, "labels": example.labels} for example in train]),
        processing_class=load_tokenizer(folder / "model"),
        callbacks=[clock],
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip
    trainer.train()
    tokens = sum(len(example.input_ids) for example in train) * (steps - 1) / steps
    return measured(tokens, clock.times[-1] - clock.times[0], trainer.model) | {"steps": steps}


def run_grpo(case: str, steps: int, folder: Path) -> dict[str, Any]:
    """Take GRPO steps on equal prompts, with a reward that costs nothing."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.grpo_config import GRPOConfig as TrlConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from rplab.llm.fused_head import fused_head
    from rplab.llm.grpo_trainer import LabGrpoTrainer, trainer_arguments

    config = GrpoConfig.model_validate(
        {"max_steps": steps, "max_completion_tokens": REPLY_TOKENS, "micro_batch": 8, "beta": 0.0, "save_steps": 10_000}
    )
    tokenizer = load_tokenizer(folder / "model")
    draw = random.Random(3)
    words = ["사야는", "웃는다", "기다리고", "있었어", "비가", "오네", "같이", "걸을래"]
    prompts = [[{"role": "user", "content": " ".join(draw.choice(words) for _ in range(draw.randint(*PROMPT_WORDS)))}] for _ in range(64)]
    shared = {"learning_rate": 1e-5, "max_steps": steps, "num_generations": config.num_generations, "max_completion_length": REPLY_TOKENS}
    if case == "trl-grpo":
        arguments = TrlConfig(
            output_dir=str(folder / case), **shared, per_device_train_batch_size=8, gradient_accumulation_steps=8,
            report_to="none", disable_tqdm=True, save_strategy="no", use_cpu=not torch.cuda.is_available(), bf16=True,
        )  # fmt: skip
    else:
        arguments = trainer_arguments(config, folder / case, [1.0])
    clock = Clock()
    trainer = (GRPOTrainer if case == "trl-grpo" else LabGrpoTrainer)(
        model=load_model(folder / "model", "bf16", "sdpa" if case == "trl-grpo" else "varlen"),
        reward_funcs=lambda completion_ids, **_: [sum(ids) % 97 / 97 for ids in completion_ids],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=tokenizer,
        callbacks=[clock],
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=list(LoraSettings().targets), task_type="CAUSAL_LM"),
    )
    if case == "lab-grpo":
        from rplab.llm.adapter import to_float32
        from rplab.llm.fused_lora import fuse_adapters

        to_float32(trainer.model)
        fuse_adapters(trainer.model)
    with fused_head(case == "lab-grpo"):
        trainer.train()
    log = [row for row in trainer.state.log_history if "completions/mean_length" in row]
    seconds = clock.times[-1] - clock.times[0]
    return {
        "steps_per_s": (steps - 1) / seconds,
        "replies_per_step": config.prompts_per_step * config.num_generations,
        "mean_reply_tokens": round(sum(row["completions/mean_length"] for row in log) / len(log), 1),
        "peak_mib": peak_mib(),
    }


def measured(tokens: float, seconds: float, model: Any) -> dict[str, Any]:
    """Return rate, memory and, on a known GPU, the share of its peak."""
    result: dict[str, Any] = {"tokens_per_s": tokens / seconds, "peak_mib": peak_mib()}
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        weights = sum(shape_of(p) for n, p in model.named_parameters() if n.endswith(("proj.weight", "base_layer.weight")))
        peak = next((value for part, value in PEAK_FLOPS.items() if part in name), None)
        result["peak_gib"] = round(peak_mib() / 1024, 2)
        result["mfu_4n"] = round(4 * weights * tokens / seconds / peak, 4) if peak else None
    return result


def shape_of(parameter: torch.nn.Parameter) -> int:
    """Return the numbers of a weight; a 4-bit one holds two in a byte."""
    return parameter.numel() * (2 if parameter.dtype == torch.uint8 else 1)


def peak_mib() -> float:
    """Return the most memory that this process had: allocated on the GPU, else resident."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_reserved() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
