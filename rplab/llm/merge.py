"""Merging: fold an adapter into its base so that one ordinary model folder is left.

An adapter learns to correct the weights it was trained on. One that was trained on a 4-bit base corrects the 4-bit
errors too, so it is folded into the dequantised weights, in float32, and rounded to bfloat16 once: measured nine times
closer to what was trained than merging into the original weights (spec/llm.md 0.4). The merged folder is loaded again
from disk and compared with base + adapter; if it is not the same model the stage fails.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from rplab.errors import DataError, TrainingError
from rplab.jsonl import read_rows, write_text
from rplab.llm.adapter import adapter_folder, load_with_lineage
from rplab.llm.config import MergeConfig
from rplab.llm.lineage import Lineage, model_fingerprint, read_lineage
from rplab.llm.model_card import write_card
from rplab.llm.parity import Limits, Parity, compare_logits, probe_logits
from rplab.llm.precision import ending_config, load_model, load_tokenizer, model_folder, quiet_libraries, save_tokenizer
from rplab.llm.template import TURN_END, TURN_START
from rplab.stage import StageContext, Stats

logger = logging.getLogger(__name__)

_PEFT_PREFIX = "base_model.model."
_OWN_PROBES = (
    f"{TURN_START}user\n오늘은 뭐 하고 있었어?{TURN_END}\n{TURN_START}assistant\n그녀는 창가에서 고개를 든다.",
    "봄이 오면 강가의 나무마다 새잎이 돋고, 사람들은 느린 걸음으로 둑을 따라 걷는다.",
    "雨が上がったら、港まで散歩に行きましょう。夕方の海は静かで、遠くの船の灯りがゆっくりと動いていく。",
    "그날 밤 두 사람은 오래된 책방의 이층에서 창문을 열어 두고, 빗소리를 들으며 지난 이야기를 천천히 나누었다.",
    "아침이 되자 시장에는 갓 구운 빵 냄새가 퍼졌고, 가게 주인은 첫 손님에게 따뜻한 차를 내주었다.",
    "The ferry left at seven, and by noon the island was only a thin grey line behind the wake.",
)
"""Compared when an adapter comes without probe.jsonl (one that was trained elsewhere)."""


def merge_adapter(config: MergeConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Merge an adapter into its base and check the result.

    Args:
        config: The gate.
        inputs: `base` (the model that the adapter was trained on) and `adapter`; with `other_base` the adapter may belong to
            that one instead (GRPO that went on with the adapter of stage 2).
        context: Writes model/ (self-contained Hugging Face folder) and parity.json.

    Returns:
        Parity and sizes.

    Raises:
        ModelError: A folder is missing or incomplete, or the adapter belongs to another base.
        TrainingError: The merged model is not the trained one.
    """
    quiet_libraries()
    adapter = adapter_folder(inputs["adapter"])
    lineage = read_lineage(adapter)
    base = _base_of(lineage, inputs)
    tokenizer = load_tokenizer(base)
    probes = read_probes(inputs["adapter"] / "probe.jsonl", tokenizer, config)

    context.progress(0, 4, "merge: base with adapter")
    trained = load_with_lineage(base, adapter)
    plain: Any = trained.get_base_model()
    expected = probe_logits(plain, probes)
    noise = compare_logits(expected, probe_logits(plain, probes, exact=False))
    context.progress(1, 4, "merge: folding in")
    target = context.out / "model"
    num_changed = _write_merged(trained, base, target, tokenizer)
    del trained
    context.progress(2, 4, "merge: comparing")
    merged = load_model(target, "bf16", "sdpa")
    parity = compare_logits(expected, probe_logits(merged, probes))
    limits = Limits(config.max_rel_l2, config.min_top1, config.max_kl).widened(noise)
    report = _report(parity, noise, limits, lineage, len(probes), tie_problems(merged, target))
    write_text(context.out / "parity.json", json.dumps(report, indent=2, sort_keys=True) + "\n")
    if report["problems"]:
        raise TrainingError(
            f"{adapter}: the merged model is not the trained one: {'; '.join(report['problems'])}. "
            "It is not published. Look for a change of bitsandbytes or peft, or a layer that was trained outside the adapter"
        )
    write_card(target, lineage, report, earlier=base)
    context.progress(4, 4, "merge: same model")
    return {**report, "layers": num_changed, "fingerprint": model_fingerprint(target)}


def _base_of(lineage: Lineage, inputs: Mapping[str, Path]) -> Path:
    """Return the base that an adapter belongs to; when it is neither, the one that the check names."""
    base = model_folder(inputs["base"])
    if "other_base" in inputs and model_fingerprint(base) != lineage.base:
        other = model_folder(inputs["other_base"])
        return other if model_fingerprint(other) == lineage.base else base
    return base


def read_probes(path: Path, tokenizer: PreTrainedTokenizerBase, config: MergeConfig) -> list[list[int]]:
    """Return the token ids of the texts on which the models are compared."""
    texts: list[str] = list(_OWN_PROBES)
    if path.is_file():
        texts = []
        for number, row in read_rows(path):
            if not isinstance(row.get("text"), str):
                raise DataError("text is missing", file=path, line=number, remedy="Run the training stage again")
            texts.append(row["text"])
    encoded = [list(tokenizer(text, add_special_tokens=False)["input_ids"])[: config.probe_tokens] for text in texts[: config.probes]]
    return [ids for ids in encoded if ids]


def merged_weights(trained: PeftModel) -> dict[str, torch.Tensor]:
    """Return every weight that differs from the base's file: dequantised, the adapter added in float32, as bfloat16."""
    weights: dict[str, torch.Tensor] = {}
    for name, module in trained.named_modules():
        plain_name = name.removeprefix(_PEFT_PREFIX) + ".weight"
        if isinstance(module, LoraLayer):
            delta: Any = module.get_delta_weight(trained.active_adapter)  # type: ignore[operator]
            weights[plain_name] = (_dense(module.get_base_layer()) + delta.float()).to(torch.bfloat16).cpu()
        elif isinstance(module, Linear4bit) and not name.endswith(".base_layer"):
            weights[plain_name] = _dense(module).to(torch.bfloat16).cpu()
    return weights


def turned_weights(trained: PeftModel, plain: PreTrainedModel) -> list[str]:
    """Return the weights that are (out, in) in 4 bits and (in, out) in the file: GPT-2's, whose layers are no `nn.Linear`."""
    turned = {f"{name}.weight" for name, module in plain.named_modules() if isinstance(module, Conv1D)}
    quantised = {
        name.removeprefix(_PEFT_PREFIX).removesuffix(".base_layer") for name, m in trained.named_modules() if isinstance(m, Linear4bit)
    }
    return sorted(turned & {f"{name}.weight" for name in quantised})


def _dense(layer: torch.nn.Module) -> torch.Tensor:
    """Return the weight of a linear layer as float32."""
    weight: Any = layer.weight
    if isinstance(layer, Linear4bit):
        return dequantize_4bit(weight.data, weight.quant_state).float()
    return weight.detach().float()


def _write_merged(trained: PeftModel, base: Path, target: Path, tokenizer: PreTrainedTokenizerBase) -> int:
    """Write the merged folder and return the number of changed layers."""
    weights = merged_weights(trained)
    plain = load_model(base, "bf16", "sdpa")
    own = plain.state_dict()
    for name in turned_weights(trained, plain):
        weights[name] = weights[name].T
    if unknown := sorted(set(weights) - set(own)):
        raise TrainingError(f"{base}: merged layer {unknown[0]} is not in the base model; this architecture needs a look at merge.py")
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)
    plain.generation_config = ending_config(tokenizer, base)
    plain.save_pretrained(str(target))
    save_tokenizer(tokenizer, target)
    return len(weights)


def tie_problems(model: PreTrainedModel, folder: Path) -> list[str]:
    """Return what is wrong with tied embeddings after a reload (nothing when the model has none)."""
    if not model.config.get_text_config().tie_word_embeddings:
        return []
    problems: list[str] = []
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight.data_ptr() != embedding.weight.data_ptr():  # type: ignore[operator]
        problems.append("input and output embeddings are no longer tied")
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            problems += [f"{path.name} stores {name} though it is tied" for name in file.keys() if name.endswith("lm_head.weight")]  # noqa: SIM118
    return problems


def _report(parity: Parity, noise: Parity, limits: Limits, lineage: Lineage, num_probes: int, tie: list[str]) -> dict[str, Any]:
    problems = [*parity.problems(limits), *tie]
    return {
        "passed": not problems,
        "problems": problems,
        **_numbers(parity),
        "tokens": parity.tokens,
        "probes": num_probes,
        "own_rounding": _numbers(noise),
        "limits": {
            "max_rel_l2": round(limits.max_rel_l2, 6),
            "min_top1": round(limits.min_top1, 6),
            "max_kl": float(f"{limits.max_kl:.4g}"),
        },
        "adapter_stage": lineage.stage,
        "adapter_steps": lineage.steps,
        "trained_on": lineage.precision,
        "tied_embeddings_kept": not tie,
    }


def _numbers(parity: Parity) -> dict[str, float]:
    return {"rel_l2": float(f"{parity.rel_l2:.5g}"), "top1": round(parity.top1, 5), "kl": float(f"{parity.kl:.4g}")}
