"""`rplab data singleturn | scenarios | dialogues | merge-shards`: generate data."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path

from rplab.cli.data_estimate import run_or_estimate
from rplab.cli.data_jobs import build_job, read_job, run_job
from rplab.cli.data_options import Commands, add_command, add_seed, positive
from rplab.cli.text_model import add_estimate, add_text_model, read_budget
from rplab.errors import ConfigError


def register(commands: Commands) -> None:
    """Add the generating commands to `rplab data`."""
    singleturn = _add(
        commands, "singleturn", "단일 턴 행을 생성합니다.", "Generate one-exchange rows.", "--out rows.jsonl --target-rows 200 --card saya"
    )
    singleturn.add_argument("--target-rows", type=positive, default=12_000, metavar="N", help="accepted rows wanted (default: 12000)")
    singleturn.add_argument("--max-attempts", type=positive, default=6, metavar="N", help="attempts per row (default: 6)")
    scenarios = _add(
        commands, "scenarios", "시나리오를 생성합니다.", "Generate scenarios.", "--pack v7 --samples 100 --out scenarios.jsonl"
    )
    scenarios.add_argument("--samples", type=positive, default=100, metavar="N", help="accepted scenarios wanted (default: 100)")
    for parser in (singleturn, scenarios):
        card_help = "character card: a bundled name or a YAML file (default: the pack's cast only)"
        parser.add_argument("--card", metavar="NAME|PATH", help=card_help)
    dialogues = _add(
        commands,
        "dialogues",
        "시나리오에서 대화를 생성합니다.",
        "Generate dialogues from scenarios.",
        "--pack v7 --scenarios scenarios.jsonl --out dialogues.jsonl --turns 3",
    )
    dialogues.add_argument("--scenarios", type=Path, required=True, metavar="FILE", help="file made by `rplab data scenarios`")
    dialogues.add_argument("--turns", type=positive, metavar="N", help="exchanges per dialogue (default: the pack's own)")
    signals_help = "plan: a seeded planner moves the signals; judge: a model reads them off (default: plan)"
    dialogues.add_argument("--signals", choices=("plan", "judge"), default="plan", help=signals_help)
    _register_merge(commands)


def _add(commands: Commands, name: str, korean: str, english: str, example: str) -> argparse.ArgumentParser:
    parser = add_command(commands, name, korean, english, f"rplab data {name} {example}", _generate)
    parser.set_defaults(stage=name)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to make; run again after a stop to resume")
    parser.add_argument("--pack", default="v7", help="pack name or folder (default: v7)")
    add_seed(parser, "equal seed, equal rows")
    add_text_model(parser)
    parser.add_argument("--shard", metavar="I/N", help="do only the I-th of N parts; `merge-shards` puts them together")
    add_estimate(parser)
    parser.add_argument("--force", action="store_true", help="make the file again although the same command has finished it")
    return parser


def _generate(arguments: argparse.Namespace) -> int:
    return run_or_estimate(read_job(arguments), arguments)


def _register_merge(commands: Commands) -> None:
    parser = add_command(
        commands,
        "merge-shards",
        "--shard 로 나눈 결과를 하나로 합칩니다. 나누지 않은 실행과 같은 파일이 됩니다.",
        "Put the parts of `--shard` runs together: the same bytes as one run that did everything itself.",
        "rplab data merge-shards part1.jsonl part2.jsonl --out rows.jsonl",
        _merge,
    )
    parser.add_argument("parts", metavar="PART", type=Path, nargs="+", help="outputs of the `--shard` runs, or their .answers.jsonl")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to make; run again after a stop to resume")
    parser.add_argument("--scenarios", type=Path, metavar="FILE", help="for dialogues: the scenarios file that the parts were made from")
    parser.add_argument("--budget", metavar="AMOUNT", help="for what is still missing, the parts included: 2.50 (USD) or 500k-tokens")
    parser.add_argument("--in-flight", type=positive, default=128, metavar="N", help="items at work at once (default: 128)")


def _merge(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.shard_answers import ANSWERS, check_complete

    paths = [path if path.name.endswith(ANSWERS) else path.with_name(f"{path.stem}.{ANSWERS}") for path in arguments.parts]
    files = tuple(dict.fromkeys(paths))
    header = check_complete(files)
    backend = {**header.config["backend"], **(read_budget(arguments.budget) if arguments.budget else {})}
    settings = {**header.config, "in_flight": arguments.in_flight, "backend": backend}
    job = build_job(header.stage, settings, _merge_inputs(header.inputs, arguments.scenarios), arguments.out)
    return run_job(job, as_json=arguments.json, answers=files)


def _merge_inputs(wanted: Mapping[str, str], scenarios: Path | None) -> dict[str, Path]:
    """Return the input files of the merging run, checked to be those of the parts."""
    if not wanted:
        return {}
    if scenarios is None:
        raise ConfigError("these are parts of dialogues: add --scenarios FILE, the file that they were made from")
    if not scenarios.is_file():
        raise ConfigError(f"--scenarios {scenarios}: no such file")
    if hashlib.sha256(scenarios.read_bytes()).hexdigest() != wanted["scenarios"]:
        raise ConfigError(f"--scenarios {scenarios} is not the file that the parts were made from. Name that one")
    return {"scenarios": scenarios}
