"""The README.md of a merged model: what it is, what it was made from, how it was checked. Torch-free.

Hub front matter (YAML between `---`) comes first, so that the page of an uploaded folder is filled in. Nothing that
changes from run to run (dates, paths, times) goes in: equal models have equal cards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rplab.jsonl import write_text
from rplab.llm.lineage import Lineage

CARD = "README.md"
_STAGES = {
    "sft1": "supervised fine-tuning on single exchanges",
    "sft2": "supervised fine-tuning on single exchanges, then on dialogues",
    "grpo": "reinforcement with text rewards (GRPO)",
    "translator": "supervised fine-tuning on Korean-Japanese pairs",
}


def write_card(folder: Path, lineage: Lineage, parity: Mapping[str, Any], *, earlier: Path | None = None) -> None:
    """Write the card beside the weights.

    Args:
        folder: Model folder.
        lineage: Of the adapter that was merged.
        parity: What the merge measured (see parity.json).
        earlier: Folder of the base; what its own card says about earlier training is carried on.
    """
    front = {
        "license": "other",
        "license_name": "that-of-the-base-model",
        "language": ["ko", "ja"] if lineage.stage == "translator" else ["ko"],
        "library_name": "transformers",
        "pipeline_tag": "translation" if lineage.stage == "translator" else "text-generation",
        "tags": ["rplab", "lora-merged", *(["role-play"] if lineage.stage != "translator" else [])],
    }
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    history = [*_history(earlier), _line(lineage)]
    lines = [
        "---",
        yaml.safe_dump(front, allow_unicode=True, sort_keys=False).rstrip(),
        "---",
        "",
        "# Korean-Japanese translator" if lineage.stage == "translator" else "# Korean role-play model",
        "",
        "Made with RP Lab. General audience; every character is an adult.",
        "",
        f"- architecture: `{', '.join(config.get('architectures') or ['unknown'])}`, {config.get('num_hidden_layers', '?')} layers, "
        f"vocabulary {config.get('vocab_size', '?')}",
        f"- weights: bfloat16 safetensors, merged from an adapter that was trained on a {lineage.precision} base",
        f"- chat template: sha256 `{lineage.template[:16]}`, beside the weights",
        "",
        "## Training",
        "",
        *history,
        "",
        "## Checks of the merge",
        "",
        "Logits on held-out text, merged model against base + adapter:",
        "",
        "| | measured | limit |",
        "|---|---|---|",
        f"| relative L2 | {parity['rel_l2']} | {parity['limits']['max_rel_l2']} |",
        f"| same most likely token | {parity['top1']} | {parity['limits']['min_top1']} |",
        f"| KL, nats a token | {parity['kl']} | {parity['limits']['max_kl']} |",
        "",
    ]
    write_text(folder / CARD, "\n".join(lines))


def _line(lineage: Lineage) -> str:
    what = _STAGES.get(lineage.stage, lineage.stage)
    return f"- {what}: {lineage.steps} steps, data sha256 `{lineage.data[:16]}`, base `{lineage.base[:16]}`"


def _history(earlier: Path | None) -> list[str]:
    """Return the training lines of a card that this lab wrote before."""
    path = None if earlier is None else earlier / CARD
    if path is None or not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    if "Made with RP Lab" not in text or "## Training\n" not in text:
        return []
    part = text.split("## Training\n", 1)[1].split("\n## ", 1)[0]
    return [line for line in part.splitlines() if line.startswith("- ")]


def add_metrics(folder: Path, evaluation: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """Return the card of `folder` with what an evaluation measured; the folder is not changed.

    Args:
        folder: Model folder with a card.
        evaluation: Content of evaluation.json.
        models: Its `models`.
    """
    text = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
    lines = ["", "## Evaluation", "", f"{evaluation.get('prompts', '?')} held-out prompts; mean reward with its 95 % interval.", ""]
    lines += ["| model | reward | format | speech level | name | stops | distinct-2 |", "|---|---|---|---|---|---|---|"]
    for name, model in models.items():
        reward, rates = model["reward"], model["rates"]
        interval = f" [{reward['low']:.3f}, {reward['high']:.3f}]" if "low" in reward else ""
        shown = " | ".join(f"{rates[rate]:.0%}" if rate in rates else "-" for rate in ("format", "register", "name", "eos"))
        lines.append(f"| {name} | {reward['mean']:.3f}{interval} | {shown} | {rates.get('distinct_2', float('nan')):.3f} |")
    return text.rstrip() + "\n" + "\n".join(lines) + "\n"
