"""Runs a flow as a script: `python flows/full.py --profile smoke`. A line per stage, no Prefect talk, honest exit codes.

Without `PREFECT_API_URL` Prefect starts a private server for the run; with it, the run shows up in that server's UI.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import httpx
from prefect import Flow

from rplab.cli.run import ProgressLine
from rplab.errors import LabError
from rplab.l10n import tr
from tasks.watch import CONSOLE, Console

_INTERRUPTED = 130


def run_as_script(flow: Flow[..., Any], argv: Sequence[str] | None = None) -> int:
    """Run a flow with the arguments of the command line and return the exit code (as the `rplab` command does)."""
    arguments = _parser(flow).parse_args(argv)
    _quieten_prefect()
    signal.signal(signal.SIGTERM, _exit_interrupted)
    show = ProgressLine()

    def print_line(text: str) -> None:
        show.clear()
        print(text, flush=True)  # noqa: T201 - this is the script's output

    CONSOLE.set(Console(progress=show, line=print_line))
    try:
        flow(profile=arguments.profile, overrides=arguments.overrides, store=arguments.store, force=arguments.force)
    except LabError as error:
        return _say(f"{error}", error.exit_code)
    except KeyboardInterrupt:
        return _say(_interruption(), _INTERRUPTED)
    except httpx.TransportError as error:
        address = os.environ.get("PREFECT_API_URL", "(a private server)")
        return _say(f"Prefect's server {address} does not answer: {error}. Start it, or unset PREFECT_API_URL to run without one", 1)
    return 0


def _parser(flow: Flow[..., Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=flow.description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smoke", help="name or YAML file (default: smoke)")
    parser.add_argument("--store", default="store", help="where artefacts live (default: ./store)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="K=V", help="change one value of the profile")
    parser.add_argument("--force", action="append", default=[], metavar="STAGE", help="run this stage even when the store has it")
    return parser


def _quieten_prefect() -> None:
    """Keep Prefect's own records off the console; an explicit PREFECT_LOGGING_LEVEL keeps them there.

    The library's warnings still show. Errors of runs are left out, since they come with tracebacks and this script
    prints their message. All of it still goes to the run's page in the UI.
    """
    if "PREFECT_LOGGING_LEVEL" in os.environ:
        return
    # The private server is ended while it still writes down the last states; the tracebacks of that mean nothing.
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logging.getLogger(name).propagate = False


def _exit_interrupted(_number: int, _frame: FrameType | None) -> None:
    """End like Ctrl-C. Prefect calls this after it has stopped the running stage, which saved a checkpoint by then."""
    sys.exit(_say(_interruption(), _INTERRUPTED))


def _interruption() -> str:
    return tr("중단했습니다. 다시 실행하면 이어집니다.", "interrupted. Run the same command again to resume.")


def _say(message: str, code: int) -> int:
    print(f"rplab: {message}", file=sys.stderr)  # noqa: T201
    return code
