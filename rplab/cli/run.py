"""`rplab run`: the full pipeline without a server."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.stage import Progress

_PROGRESS_INTERVAL_S = 10.0


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab run`."""
    parser = commands.add_parser(
        "run",
        help=tr("전체 파이프라인을 서버 없이 실행", "run the full pipeline without a server"),
        epilog="example: rplab run --profile smoke --set data.dialogues.turns=4",
    )
    parser.add_argument("--profile", default="smoke", help="name or YAML file (default: smoke)")
    parser.add_argument("--store", type=Path, default=Path("store"), help="where artefacts live (default: ./store)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="K=V", help="change one value of the profile")
    parser.add_argument("--only", metavar="STAGE", help="run this stage alone; its inputs must be in the store")
    parser.add_argument("--from", dest="first", metavar="STAGE", help="run this stage and all that is made from it again")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(handler=_run)


class ProgressLine:
    """Progress on stderr: rewritten in place on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()

    def __call__(self, name: str, progress: Progress) -> None:
        """Show the progress of the stage called `name`."""
        interval = 0.1 if self._terminal else _PROGRESS_INTERVAL_S
        if time.monotonic() - self._last < interval:
            return
        self._last = time.monotonic()
        text = f"{name:<16} {progress.done:g}/{progress.total:g} {progress.message}"
        end = "\r" if self._terminal else "\n"
        print(f"\x1b[K{text[:110]}" if self._terminal else f"  … {text}", end=end, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Wipe the line before something else is printed."""
        if self._terminal:
            print("\x1b[K", end="", file=sys.stderr, flush=True)


def stop_on_sigterm() -> threading.Event:
    """Return an event that SIGTERM sets, so that stages save what they have before they end."""
    stop = threading.Event()

    def ask_stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
        stop.set()

    signal.signal(signal.SIGTERM, ask_stop)
    return stop


def _run(arguments: argparse.Namespace) -> int:
    from rplab.pipeline import dependants, run_pipeline
    from rplab.profile import load_profile
    from rplab.report import evaluation_table, stage_line

    profile = load_profile(arguments.profile, arguments.overrides)
    forced = dependants(arguments.first) if arguments.first else set[str]()
    show = ProgressLine()
    outcomes = run_pipeline(profile, arguments.store, only=arguments.only, forced=forced, report=show, stop=stop_on_sigterm())
    done: dict[str, object] = {}
    for outcome in outcomes:
        show.clear()
        print(stage_line(outcome, arguments.store), file=sys.stderr if arguments.json else sys.stdout, flush=True)
        done[outcome.name] = {
            "key": outcome.run.artifact.key,
            "path": str(outcome.run.artifact.path),
            "cached": outcome.run.cached,
            "wall_s": round(outcome.wall_s, 2),
            "stats": outcome.run.manifest.stats,
        }
    if arguments.json:
        print(json.dumps({"profile": profile.name, "stages": done}, ensure_ascii=False))
    elif not arguments.only:
        print(evaluation_table(arguments.store))
    return 0
