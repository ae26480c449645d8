"""`rplab data judge | translate`: let a text model read finished rows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rplab.cli.data_estimate import run_or_estimate
from rplab.cli.data_jobs import Job
from rplab.cli.data_options import Commands, add_command, add_in_out, add_seed, positive
from rplab.cli.text_model import add_estimate, add_text_model, read_backend
from rplab.errors import ConfigError


def register(subparsers: Commands) -> None:
    """Add the commands."""
    judge = add_command(
        subparsers,
        "judge",
        "텍스트 모델이 대화의 결함을 나열하게 하고, 기준에 못 미치는 행을 뺍니다.",
        "Let a text model list the flaws of each conversation and leave out what does not reach the rubric's score.",
        "rplab data judge dialogues.jsonl kept.jsonl --backend openai --backend-set model=gpt-4o-mini --budget 2.00",
        lambda arguments: run_or_estimate(read_judge(arguments), arguments),
    )
    judge.add_argument("--rubric", default="flaws", metavar="NAME|FILE", help="what to look for (default: flaws)")
    judge.add_argument("--min-score", type=_score, metavar="0..100", help="leave out what is below (default: the rubric's own)")
    translate = add_command(
        subparsers,
        "translate",
        "대화 파일의 대사를 텍스트 모델로 일본어로 옮깁니다: {instruction,input,output}.",
        "Translate the speech lines of any {messages} file into Japanese: {instruction,input,output}, each different line once.",
        "rplab data translate dialogues.jsonl ko-ja.jsonl --glossary names.yaml --backend openai --backend-set model=gpt-4o-mini",
        lambda arguments: run_or_estimate(read_translate(arguments), arguments),
    )
    translate.add_argument("--narration", action="store_true", help="also narration lines")
    translate.add_argument("--players", action="store_true", help="also the player's turns")
    translate.add_argument("--glossary", type=Path, metavar="FILE", help="YAML or JSON mapping, or TSV: Korean term -> Japanese")
    for parser in (judge, translate):
        add_in_out(parser, "{messages} rows")
        add_text_model(parser, default=None)
        parser.add_argument("--max-attempts", type=positive, default=3, metavar="N", help="attempts per item (default: 3)")
        add_estimate(parser)
        parser.add_argument("--force", action="store_true", help="make the file again although the same command has finished it")
        add_seed(parser)


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no score from 0 to 100")
    return value


def read_judge(arguments: argparse.Namespace) -> Job:
    """Return the job of `rplab data judge`."""
    from rplab.annotate.config import JudgeConfig
    from rplab.annotate.judge import first_requests, judge_rows

    config = JudgeConfig(
        **_asking(arguments),
        rubric=arguments.rubric,
        min_score=arguments.min_score,
    )
    inputs = {"rows": arguments.input}
    return Job(
        "judge", judge_rows, config, inputs, "dialogues.jsonl", arguments.output, first_requests=lambda: first_requests(config, inputs)
    )


def read_translate(arguments: argparse.Namespace) -> Job:
    """Return the job of `rplab data translate`."""
    from rplab.annotate.config import TranslateConfig
    from rplab.annotate.translate import first_requests, read_glossary, translate_rows

    config = TranslateConfig(
        **_asking(arguments),
        narration=arguments.narration,
        players=arguments.players,
        glossary=read_glossary(arguments.glossary) if arguments.glossary else {},
    )
    inputs = {"rows": arguments.input}
    return Job(
        "translate",
        translate_rows,
        config,
        inputs,
        "pairs.jsonl",
        arguments.output,
        count_items=lambda: len(first_requests(config, inputs)),
        first_requests=lambda: first_requests(config, inputs),
    )


def _asking(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how a model is asked: what judge and translate have in common."""
    from rplab.annotate.judge import check_judge

    if arguments.max_attempts > 10:
        raise ConfigError(f"--max-attempts {arguments.max_attempts}: more than 10 attempts do not make an answer better")
    return {
        "seed": arguments.seed,
        "in_flight": arguments.in_flight,
        "backend": check_judge(read_backend(arguments)),
        "max_attempts": arguments.max_attempts,
    }
