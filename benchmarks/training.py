"""How fast training is: our SFT and GRPO against the predecessor's settings and plain TRL, on this machine.

    python benchmarks/training.py [--parts sft grpo memory] [--shape smoke|tiny|wide|qwen3-4b] [--steps N] [--threads 1] [--json]

Every case runs in a process of its own, alone, on the same random-weight Qwen3 and the same synthetic rows, and prints

- real tokens a second (padding does not count; on a CPU seconds of the process' own CPU time, so that other programs do
  not matter) over the steps after the first, and the held-out loss before and after
  the same number of updates on the same rows, so that speed is compared at equal learning;
- the process' largest memory: resident on a CPU, allocated on a GPU;
- on a GPU the share of the peak arithmetic (MFU), counting 4 floating-point operations a token and matrix weight
  (forward and backward through frozen weights), recomputation not counted.

SFT: the profile `predecessor` (one padded dialogue a pass, 4-bit, activation checkpointing) against packed rows, on rows
as long as single exchanges (300 tokens) and dialogues (1,000). GRPO: a step of TRL's `GRPOTrainer` as it is, against
ours with the same prompts, group, reply length, adapter and learning rate. Memory: plain TRL against ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rplab.llm.standalone import prepare_environment

SFT_CASES = ("predecessor", "packed-nf4", "packed-bf16")
"""What is trained on each kind of row."""
KINDS = ("single", "multi")
GRPO_CASES = ("trl-grpo", "lab-grpo")
MEMORY_CASES = ("trl-sft",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("sft", "grpo", "memory"), default=["sft", "grpo", "memory"])
    parser.add_argument("--shape", help="size of the model (default: tiny on a CPU, qwen3-4b on a GPU)")
    parser.add_argument("--steps", type=int, help="optimiser steps of a case (default: 6 on a CPU, 12 on a GPU)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (tiny models spin-wait with more)")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ.update(
        OMP_NUM_THREADS=str(arguments.threads), HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false"
    )
    if arguments.case:
        sys.path.insert(0, str(Path(__file__).parent))
        if not arguments.case.startswith("trl"):  # the lab's own commands run so
            prepare_environment()
        from training_cases import run_case

        print(json.dumps(run_case(arguments.case, arguments.shape, arguments.steps, arguments.folder)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = child("model", folder, arguments)
        results = {case: child(case, folder, arguments) for case in cases(arguments.parts)}
    result = {**model, "steps": arguments.steps, "cases": results, "ratios": ratios(results)}
    print(json.dumps(result) if arguments.json else report(result))
    return 0


def cases(parts: list[str]) -> list[str]:
    """Return the cases of the chosen parts."""
    chosen: list[str] = []
    if "sft" in parts or "memory" in parts:
        chosen += [f"{case}-{kind}" for kind in KINDS for case in SFT_CASES]
    if "memory" in parts:
        chosen += [f"{case}-{kind}" for kind in KINDS for case in MEMORY_CASES]
    return chosen + (list(GRPO_CASES) if "grpo" in parts else [])


def child(case: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one case alone in a process of its own."""
    command = [sys.executable, __file__, "--case", case, "--folder", str(folder)]
    if arguments.shape:
        command += ["--shape", arguments.shape]
    if arguments.steps:
        command += ["--steps", str(arguments.steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"case {case} failed:\n{done.stderr[-3000:]}")
    print(f"{case} done", file=sys.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """Return what is compared, by name."""
    found: dict[str, float] = {}

    def compare(name: str, ours: str, theirs: str, key: str) -> None:
        if ours in results and theirs in results:
            found[name] = round(results[ours][key] / results[theirs][key], 3)

    for kind in KINDS:
        for case in SFT_CASES[1:]:
            compare(f"{case} / predecessor, {kind}: tokens a second", f"{case}-{kind}", f"predecessor-{kind}", "tokens_per_s")
            compare(f"{case} / predecessor, {kind}: loss after", f"{case}-{kind}", f"predecessor-{kind}", "loss_after")
        compare(f"packed-bf16 / plain TRL, {kind}: tokens a second", f"packed-bf16-{kind}", f"trl-sft-{kind}", "tokens_per_s")
        compare(f"packed-bf16 / plain TRL, {kind}: peak memory", f"packed-bf16-{kind}", f"trl-sft-{kind}", "peak_mib")
    compare("GRPO / plain TRL: steps a second", "lab-grpo", "trl-grpo", "steps_per_s")
    compare("GRPO / plain TRL: peak memory", "lab-grpo", "trl-grpo", "peak_mib")
    return found


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = [f"{result['device']}, {result['versions']}; model: {result['parameters'] / 1e6:.1f} M parameters"]
    for name, case in result["cases"].items():
        cells = [f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in case.items()]
        lines.append(f"  {name:<22} {'  '.join(cells)}")
    lines.append("ratios")
    lines += [f"  {name:<58} {value:.3f}" for name, value in result["ratios"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
