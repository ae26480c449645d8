"""A generating command as data: which stage function runs with which settings for which file; and how it is run."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rplab.cli.text_model import Reporter, read_backend, stop_on_signal
from rplab.errors import ConfigError
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.backend.base import ChatRequest
    from rplab.stage import StageConfig, StageFunction


@dataclass(frozen=True)
class Job:
    """What one command line asks for: a stage's function with settings, for one output file."""

    stage: str
    function: StageFunction
    config: StageConfig
    inputs: Mapping[str, Path]
    main: str
    """The stage's file that becomes the output."""
    out: Path
    count_items: Callable[[], int] | None = None
    """Returns how many items there are, where neither the settings nor the rows of the input say so."""
    first_requests: Callable[[], list[ChatRequest]] | None = None
    """Returns the first request of every item, where one is usually enough: such a job fits the Batch API."""


def read_job(arguments: argparse.Namespace) -> Job:
    """Return what a generating command line asks for.

    Raises:
        ConfigError: A wrong setting.
    """
    from rplab.character import load_card

    settings: dict[str, Any] = {name: getattr(arguments, name) for name in ("seed", "pack", "in_flight", "shard")}
    settings["backend"] = read_backend(arguments)
    inputs: dict[str, Path] = {}
    if arguments.stage == "dialogues":
        settings |= {"turns": arguments.turns, "signals": arguments.signals}
        inputs = {"scenarios": arguments.scenarios}
    else:
        settings["card"] = load_card(arguments.card) if arguments.card else None
    if arguments.stage == "scenarios":
        settings["count"] = arguments.samples
    elif arguments.stage == "singleturn":
        settings |= {"target_rows": arguments.target_rows, "max_attempts": arguments.max_attempts}
    return build_job(arguments.stage, settings, inputs, arguments.out)


def build_job(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Job:
    """Return the job of a stage.

    Raises:
        ConfigError: A wrong setting.
    """
    from pydantic import ValidationError

    from rplab.dialogue.batch import first_requests
    from rplab.dialogue.config import DialoguesConfig, ScenariosConfig, SingleturnConfig
    from rplab.dialogue.generate import generate_dialogues
    from rplab.dialogue.scenario import generate_scenarios
    from rplab.dialogue.singleturn import generate_singleturn

    table: dict[str, tuple[StageFunction, type[StageConfig], str]] = {
        "singleturn": (generate_singleturn, SingleturnConfig, "rows.jsonl"),
        "scenarios": (generate_scenarios, ScenariosConfig, "scenarios.jsonl"),
        "dialogues": (generate_dialogues, DialoguesConfig, "dialogues.jsonl"),
    }
    function, config_type, main = table[stage]
    try:
        config = config_type.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{stage}: {problems}. Correct the options") from None
    single = config if isinstance(config, SingleturnConfig) else None
    return Job(stage, function, config, inputs, main, out, first_requests=(lambda: first_requests(single)) if single else None)


def run_job(job: Job, *, as_json: bool, answers: tuple[Path, ...] = (), force: bool = False) -> int:
    """Run a job to its output file and print what came of it.

    Args:
        job: What to do.
        as_json: Print {out, stats, side_files}.
        answers: Answers of shards to take over.
        force: Make the file again although it is finished.
    """
    from rplab.dialogue.shard_answers import hand_over
    from rplab.dialogue.single_file import run_to_file, summarise

    def prepare(resume: Path) -> None:
        if answers:
            hand_over(answers, resume)

    started = time.monotonic()
    with stop_on_signal() as stop:
        done = run_to_file(
            job.function, job.config, job.inputs, job.out, main=job.main, report=Reporter(), stop=stop, prepare=prepare, force=force
        )
    if as_json:
        shown = {"out": str(done.out), "stats": done.stats, "side_files": [str(path) for path in done.side_files], "before": done.before}
        print(json.dumps(shown, ensure_ascii=False))
        return 0
    if done.before:
        korean = f"{done.out}: 같은 명령으로 이미 끝났습니다 ({summarise(done.stats)}). 아무것도 묻지 않았습니다. 다시 만들려면 --force"
        english = f"{done.out}: finished before by the same command ({summarise(done.stats)}). Nothing was asked; --force makes it again"
        print(tr(korean, english))
        return 0
    print(f"{done.out}: {summarise(done.stats)}, {time.monotonic() - started:.1f} s")
    for path in done.side_files:
        if path.name.endswith("answers.jsonl"):
            print(tr(f"  합칠 때 필요한 답: {path}", f"  answers, for `rplab data merge-shards`: {path}"))
        else:
            print(tr(f"  버린 것과 까닭: {path}", f"  what was refused, and why: {path}"))
    return 0
