"""The options of commands that ask a text model: which one, how much it may cost, and how progress and stops are handled."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rplab.cli.data_options import positive
from rplab.errors import ConfigError

if TYPE_CHECKING:
    from rplab.backend.config import BackendConfig
    from rplab.stage import Progress

REPORT_INTERVAL_S = {True: 0.2, False: 5.0}
"""Seconds between progress lines, on a terminal and elsewhere."""
PILOT_ITEMS = 20
_BUDGET = re.compile(r"\$?(?P<number>\d+(?:\.\d+)?)\s*(?P<scale>[kKmM]?)\s*(?P<unit>usd|\$|tok|tokens?)?", re.IGNORECASE)
_SCALES = {"": 1, "k": 1_000, "m": 1_000_000}


def add_text_model(parser: argparse.ArgumentParser, default: str | None = "scripted") -> None:
    """Add `--backend`, `--backend-set`, `--budget` and `--in-flight`.

    Args:
        parser: Of the command.
        default: Backend when none is named; None: one must be.
    """
    kinds = "text model: openai, spawn or transformers" if default is None else f"text model (default: {default}, embedded)"
    parser.add_argument("--backend", default=default, required=default is None, metavar="KIND", help=kinds)
    set_help = "backend setting, for example model=gpt-4o-mini; may be repeated"
    parser.add_argument("--backend-set", action="append", default=[], metavar="KEY=VALUE", help=set_help)
    budget_help = "stop before more is spent, earlier runs of the same command included: 2.50 (USD) or 500k-tokens"
    parser.add_argument("--budget", metavar="AMOUNT", help=budget_help)
    parser.add_argument("--in-flight", type=positive, default=128, metavar="N", help="items at work at once (default: 128)")


def add_estimate(parser: argparse.ArgumentParser) -> None:
    """Add `--estimate`."""
    text = f"make N items for real (default: {PILOT_ITEMS}), say what all of them will cost, and stop; a later run keeps them"
    parser.add_argument("--estimate", type=positive, nargs="?", const=PILOT_ITEMS, metavar="N", help=text)


def read_backend(arguments: argparse.Namespace) -> BackendConfig:
    """Return the backend settings that `--backend`, `--backend-set` and `--budget` ask for.

    Raises:
        ConfigError: An unknown backend or setting, or a budget for a model that costs nothing.
    """
    from pydantic import TypeAdapter, ValidationError

    from rplab.backend.config import BackendConfig

    settings: dict[str, Any] = {"kind": arguments.backend}
    for item in arguments.backend_set:
        key, separator, value = item.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--backend-set {item!r} must look like model=gpt-4o-mini")
        settings[key.strip()] = _value(value)
    if arguments.budget:
        if arguments.backend in ("scripted", "transformers"):
            raise ConfigError(f"--budget: the {arguments.backend} backend runs on this machine and costs nothing. Leave --budget away")
        settings.update(read_budget(arguments.budget))
    try:
        return TypeAdapter[BackendConfig](BackendConfig).validate_python(settings)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'backend'}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"--backend {arguments.backend}: {problems}. Correct --backend or --backend-set") from None


def read_budget(text: str) -> dict[str, float | int]:
    """Return the settings of a budget: `2.50`, `$2.50`, `2usd`; `500000-tokens`, `500k-tokens`, `1.5M tokens`.

    Raises:
        ConfigError: It is none of these, or nothing.
    """
    match = _BUDGET.fullmatch(text.strip().replace("-", " ").replace(",", ""))
    amount = float(match["number"]) * _SCALES[match["scale"].lower()] if match else 0.0
    if match is None or amount <= 0:
        raise ConfigError(f"--budget {text!r} must look like 2.50 (USD) or 500k-tokens, and be more than nothing")
    if (match["unit"] or "").lower().startswith("tok"):
        return {"budget_tokens": int(amount)}
    return {"budget_usd": amount}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


class Reporter:
    """Shows progress on stderr: one line that moves on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Take the latest progress; shown when the last was some time ago."""
        now = time.monotonic()
        if now - self._last < REPORT_INTERVAL_S[self._terminal]:
            return
        self._last = now
        end = "\r" if self._terminal and progress.done < progress.total else "\n"
        clear = "\x1b[K" if self._terminal else ""
        print(f"{clear}{progress.message}", end=end, file=sys.stderr, flush=True)


@contextmanager
def stop_on_signal() -> Generator[threading.Event]:
    """Ask for an end on SIGTERM or Ctrl-C; a second Ctrl-C ends at once (nothing is lost: answers are journalled)."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        del frame
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
