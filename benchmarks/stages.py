"""Does every training stage improve its own held-out metric, for more than one seed? Paired bootstrap intervals, one table.

    python benchmarks/stages.py --store out/stages --seeds 1 2 3

Data and base are made once with the profile's seed; SFT 1, SFT 2 and GRPO run once a seed. What is measured:

    sft1, sft2   fall of the loss (nats a token) on their own held-out view, dialogues resampled in pairs
    grpo         rise of the mean reward on held-out prompts, replies drawn as in training (temperature 1), prompts in pairs
    diversity    distinct-2 and share of repetitive replies after GRPO against after SFT, replies drawn at temperature 1 (what
                 the policy does); beside it the same as play draws them, where a low temperature decides more than the policy

Everything is kept in the store, so that a second call only prints. Exit code 1 when a stage does not hold what it promises.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from rplab.artifact import Artifact
from rplab.execute import execute
from rplab.llm.eval_config import DecodingConfig
from rplab.pipeline import find_node, make_request, needed_by
from rplab.profile import Profile, load_profile
from rplab.stage import StageRun

SEEDED = ("sft1", "sft2", "merge", "grpo", "grpo_merge", "evaluate")
MOST_PROMPTS = 200
DISTINCT_LOSS = 0.10
"""Share of distinct-2 that GRPO may cost."""


def seeded(profile: Profile, seed: int) -> Profile:
    """Return the profile with another seed for the training stages."""
    llm = profile.llm
    changed = {name: getattr(llm, name).model_copy(update={"seed": seed}) for name in ("sft1", "sft2", "grpo")}
    for section in changed.values():
        section.model_fields_set.add("seed")
    evaluate = llm.evaluate.model_copy(update={"num_prompts": MOST_PROMPTS, "gates": llm.evaluate.gates})
    return profile.model_copy(update={"llm": llm.model_copy(update={**changed, "evaluate": evaluate})})


def run(name: str, profile: Profile, made: dict[str, Artifact], store: Path) -> StageRun:
    """Run one stage, or find it in the store."""
    outcome = execute(make_request(find_node(name), profile, made, store), lambda _: None)
    made[name] = outcome.artifact
    print(f"{name:<12} {'cached' if outcome.cached else 'made'} {outcome.artifact.path}", file=sys.stderr, flush=True)
    return outcome


def at_temperature_1(profile: Profile) -> Profile:
    """Return the profile with replies drawn as GRPO draws them."""
    decoding = DecodingConfig(max_new_tokens=profile.llm.evaluate.decoding.max_new_tokens, temperature=1.0)
    evaluate = profile.llm.evaluate.model_copy(update={"decoding": decoding, "nll_rows": 0})
    return profile.model_copy(update={"llm": profile.llm.model_copy(update={"evaluate": evaluate})})


def measure_seed(profile: Profile, made: dict[str, Artifact], store: Path) -> dict[str, Any]:
    """Run the stages of one seed and return what they gained."""
    result: dict[str, Any] = {}
    for name in SEEDED[:-1]:
        stats = run(name, profile, made, store).manifest.stats
        if name in ("sft1", "sft2"):
            gain = stats["eval_loss_before"] - stats["eval_loss_after"]
            result[name] = {"gain": round(gain, 5), "interval": stats["eval_gain_interval"], "items": stats["eval_dialogues"]}
    played = read(run("evaluate", profile, made, store))
    drawn = read(run("evaluate", at_temperature_1(profile), made, store))
    gain = drawn["gains"]["sft_to_grpo"]
    result["grpo"] = {"gain": gain["mean"], "interval": [gain["low"], gain["high"]], "items": drawn["prompts"]}
    result["diversity"] = diversity(drawn)
    result["diversity_as_played"] = diversity(played)
    result["reward_as_played"] = {name: model["reward"]["mean"] for name, model in played["models"].items()}
    return result


def diversity(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return distinct-2 and repetition after SFT and after GRPO."""
    before, after = (evaluation["models"][name]["rates"] for name in ("sft", "grpo"))
    return {
        "distinct_2": [before["distinct_2"], after["distinct_2"]],
        "loss": round(1 - after["distinct_2"] / before["distinct_2"], 4),
        "repetition": [before["repetition"], after["repetition"]],
    }


def read(outcome: StageRun) -> dict[str, Any]:
    """Return the evaluation that a run wrote."""
    return json.loads((outcome.artifact.path / "evaluation.json").read_text(encoding="utf-8"))


def failures(result: dict[str, Any]) -> list[str]:
    """Return what one seed does not hold."""
    found = [
        f"{name} gains {result[name]['gain']} {result[name]['interval']}"
        for name in ("sft1", "sft2", "grpo")
        if result[name]["interval"][0] <= 0
    ]
    if result["diversity"]["loss"] > DISTINCT_LOSS:
        found.append(f"GRPO costs {result['diversity']['loss']:.0%} of distinct-2")
    before, after = result["diversity"]["repetition"]
    if after > before:
        found.append(f"GRPO raises repetition from {before:.1%} to {after:.1%}")
    return found


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--store", type=Path, default=Path("out/stages"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    store: Path = arguments.store.absolute()
    profile = load_profile(arguments.profile, arguments.overrides)
    shared: dict[str, Artifact] = {}
    for node in needed_by("base", profile):
        run(node.name, profile, shared, store)
    results = {seed: measure_seed(seeded(profile, seed), dict(shared), store) for seed in arguments.seeds}
    failed = {seed: failures(result) for seed, result in results.items()}
    if arguments.json:
        print(json.dumps({"results": results, "failed": failed}, indent=1))
    else:
        _print_table(results, failed)
    return int(any(failed.values()))


def _print_table(results: dict[int, dict[str, Any]], failed: dict[int, list[str]]) -> None:
    print("| seed | stage | gain on its own held-out metric | 95 % interval | items |")
    print("|---|---|---|---|---|")
    for seed, result in results.items():
        for name, unit in (("sft1", "nats a token"), ("sft2", "nats a token"), ("grpo", "reward at T=1")):
            low, high = result[name]["interval"]
            print(f"| {seed} | {name} | {result[name]['gain']:+.4f} {unit} | [{low:+.4f}, {high:+.4f}] | {result[name]['items']} |")
        for key, title in (("diversity", "at T=1"), ("diversity_as_played", "as played")):
            (before, after), loss, (first, last) = (result[key][name] for name in ("distinct_2", "loss", "repetition"))
            print(f"| {seed} | distinct-2 {title} | {before:.3f} -> {after:.3f} ({-loss:+.1%}) | | |")
            print(f"| {seed} | repetitive {title} | {first:.1%} -> {last:.1%} | | |")
    for seed, problems in failed.items():
        print(f"seed {seed}: {'; '.join(problems) or 'every stage holds'}")


if __name__ == "__main__":
    raise SystemExit(main())
