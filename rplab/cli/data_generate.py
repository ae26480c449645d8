"""`rplab data singleturn | scenarios | dialogues | pack`: generate data, and look at packs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rplab.errors import ConfigError
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.stage import Progress, StageConfig, StageFunction

REPORT_INTERVAL_S = {True: 0.2, False: 5.0}
"""Seconds between progress lines, on a terminal and elsewhere."""

Commands = argparse._SubParsersAction  # pyright: ignore[reportPrivateUsage]


def register(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the generating commands to `rplab data`."""
    singleturn = commands.add_parser(
        "singleturn",
        help=tr("단일 턴 행 생성", "generate one-exchange rows"),
        epilog="example: rplab data singleturn --out rows.jsonl --target-rows 200 --card saya",
    )
    singleturn.add_argument("--target-rows", type=_positive, default=12_000, metavar="N", help="accepted rows wanted (default: 12000)")
    singleturn.add_argument("--max-attempts", type=_positive, default=6, metavar="N", help="attempts per row (default: 6)")
    _add_card(singleturn)
    _add_run(singleturn, _singleturn)

    scenarios = commands.add_parser(
        "scenarios",
        help=tr("시나리오 생성", "generate scenarios"),
        epilog="example: rplab data scenarios --pack v7 --samples 100 --out scenarios.jsonl",
    )
    scenarios.add_argument("--samples", type=_positive, default=100, metavar="N", help="accepted scenarios wanted (default: 100)")
    _add_card(scenarios)
    _add_run(scenarios, _scenarios)

    dialogues = commands.add_parser(
        "dialogues",
        help=tr("시나리오에서 대화 생성", "generate dialogues from scenarios"),
        epilog="example: rplab data dialogues --pack v7 --scenarios scenarios.jsonl --out dialogues.jsonl --turns 3",
    )
    dialogues.add_argument("--scenarios", type=Path, required=True, metavar="FILE", help="file made by `rplab data scenarios`")
    dialogues.add_argument("--turns", type=_positive, metavar="N", help="exchanges per dialogue (default: the pack's own)")
    signals_help = "plan: a seeded planner moves the signals; judge: a model reads them off (default: plan)"
    dialogues.add_argument("--signals", choices=("plan", "judge"), default="plan", help=signals_help)
    _add_run(dialogues, _dialogues)

    pack = commands.add_parser("pack", help=tr("팩 살펴보기", "look at packs"), epilog="example: rplab data pack check v7")
    actions = pack.add_subparsers(title="pack commands", metavar="COMMAND", required=True)
    _add_pack_commands(actions)


def _add_card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--card", metavar="NAME|PATH", help="character card: a bundled name or a YAML file (default: the pack's cast only)")


def _add_run(parser: argparse.ArgumentParser, handler: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to make; run again after a stop to resume")
    parser.add_argument("--pack", default="v7", help="pack name or folder (default: v7)")
    parser.add_argument("--seed", type=int, default=42, help="equal seed, equal rows (default: 42)")
    parser.add_argument("--backend", default="scripted", metavar="KIND", help="text model (default: scripted, embedded)")
    set_help = "backend setting, for example latency_ms=20; may be repeated"
    parser.add_argument("--backend-set", action="append", default=[], metavar="KEY=VALUE", help=set_help)
    parser.add_argument("--in-flight", type=_positive, default=64, metavar="N", help="items at work at once (default: 64)")
    parser.add_argument("--json", action="store_true", help="print {out, stats, side_files} as JSON")
    parser.set_defaults(handler=handler)


def _add_pack_commands(actions: Commands[argparse.ArgumentParser]) -> None:
    check = actions.add_parser(
        "check", help="unreachable states, dead ends, rules that never fire, overlaps", epilog="example: rplab data pack check v7"
    )
    check.add_argument("--notes", action="store_true", help="show overlaps too, where the order of rules decides")
    check.set_defaults(handler=_pack_check)
    simulate = actions.add_parser("simulate", help="path statistics", epilog="example: rplab data pack simulate v7 --dialogues 5000")
    simulate.add_argument("--dialogues", type=_positive, default=5_000, metavar="N", help="walks (default: 5000)")
    simulate.add_argument("--turns", type=_positive, metavar="N", help="exchanges per walk (default: the pack's own)")
    simulate.add_argument("--seed", type=int, default=42, help="root of the draws (default: 42)")
    simulate.set_defaults(handler=_pack_simulate)
    graph = actions.add_parser("graph", help="Mermaid state diagrams", epilog="example: rplab data pack graph v7 --machine relation")
    graph.add_argument("--machine", choices=("relation", "action", "both"), default="both", help="which machine (default: both)")
    graph.set_defaults(handler=_pack_graph)
    for parser in (check, simulate, graph):
        parser.add_argument("pack", metavar="PACK", help="pack name or folder")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _singleturn(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.config import SingleturnConfig
    from rplab.dialogue.singleturn import generate_singleturn

    config = SingleturnConfig(
        card=_card(arguments), target_rows=arguments.target_rows, max_attempts=arguments.max_attempts, **_shared(arguments)
    )
    return _run(arguments, generate_singleturn, config, {}, "rows.jsonl")


def _scenarios(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.config import ScenariosConfig
    from rplab.dialogue.scenario import generate_scenarios

    config = ScenariosConfig(card=_card(arguments), count=arguments.samples, **_shared(arguments))
    return _run(arguments, generate_scenarios, config, {}, "scenarios.jsonl")


def _dialogues(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.config import DialoguesConfig
    from rplab.dialogue.generate import generate_dialogues

    config = DialoguesConfig(turns=arguments.turns, signals=arguments.signals, **_shared(arguments))
    return _run(arguments, generate_dialogues, config, {"scenarios": arguments.scenarios}, "dialogues.jsonl")


def _shared(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"seed": arguments.seed, "pack": arguments.pack, "in_flight": arguments.in_flight, "backend": read_backend(arguments)}


def _card(arguments: argparse.Namespace) -> Any:
    from rplab.character import load_card

    return load_card(arguments.card) if arguments.card else None


def read_backend(arguments: argparse.Namespace) -> Any:
    """Return the backend settings that `--backend` and `--backend-set` ask for.

    Raises:
        ConfigError: An unknown backend or setting.
    """
    from pydantic import TypeAdapter, ValidationError

    from rplab.backend.config import BackendConfig

    settings: dict[str, Any] = {"kind": arguments.backend}
    for item in arguments.backend_set:
        key, separator, value = item.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--backend-set {item!r} must look like latency_ms=20")
        settings[key.strip()] = _value(value)
    try:
        return TypeAdapter(BackendConfig).validate_python(settings)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'backend'}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"--backend {arguments.backend}: {problems}. Correct --backend or --backend-set") from None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _run(arguments: argparse.Namespace, function: StageFunction, config: StageConfig, inputs: Mapping[str, Path], main: str) -> int:
    from rplab.dialogue.single_file import run_to_file, summarise

    started = time.monotonic()
    with stop_on_signal() as stop:
        done = run_to_file(function, config, inputs, arguments.out, main=main, report=_Reporter(), stop=stop)
    if arguments.json:
        shown = {"out": str(done.out), "stats": done.stats, "side_files": [str(path) for path in done.side_files]}
        print(json.dumps(shown, ensure_ascii=False))
        return 0
    print(f"{done.out}: {summarise(done.stats)}, {time.monotonic() - started:.1f} s")
    for path in done.side_files:
        print(tr(f"  버린 것과 까닭: {path}", f"  what was refused, and why: {path}"))
    return 0


class _Reporter:
    """Shows progress on stderr: one line that moves on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < REPORT_INTERVAL_S[self._terminal]:
            return
        self._last = now
        end = "\r" if self._terminal and progress.done < progress.total else "\n"
        print(progress.message, end=end, file=sys.stderr, flush=True)


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


def _pack_check(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.inspect import check_pack
    from rplab.dialogue.pack import load_pack

    pack = load_pack(arguments.pack)
    remarks = check_pack(pack)
    errors = [remark for remark in remarks if remark.level == "error"]
    if arguments.json:
        print(json.dumps({"pack": pack.name, "ok": not errors, "remarks": [vars(remark) for remark in remarks]}, ensure_ascii=False))
    else:
        for remark in remarks if arguments.notes else errors:
            print(remark.line())
        states = len(pack.relation_machine.states), len(pack.action_machine.states)
        notes = len(remarks) - len(errors)
        print(f"{pack.name}: {states[0]} relation states, {states[1]} action states, {len(errors)} errors, {notes} notes on rule order")
    if errors:
        raise ConfigError(f"pack {pack.name} has {len(errors)} errors. Correct its relation.yaml and action.yaml")
    return 0


def _pack_simulate(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.inspect import simulate
    from rplab.dialogue.pack import load_pack

    pack = load_pack(arguments.pack)
    result = simulate(pack, arguments.dialogues, arguments.turns or pack.pacing.turns, arguments.seed)
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
        return 0
    print(f"{pack.name}: {result['dialogues']} walks of {result['turns']} turns, {result['distinct_paths']} distinct relation paths")
    for name, states in result["states"].items():
        print(f"\n{name} (coverage {result['coverage'][name]:.0%})")
        for state, numbers in states.items():
            print(f"  {state:<20} {numbers['share']:>7.1%} of turns, in {numbers['dialogues']} dialogues")
    print()
    for path, count in result["top_paths"].items():
        print(f"  {count:>6}  {path}")
    return 0


def _pack_graph(arguments: argparse.Namespace) -> int:
    from rplab.dialogue.inspect import mermaid
    from rplab.dialogue.pack import load_pack

    pack = load_pack(arguments.pack)
    machines = {"relation": pack.relation_machine, "action": pack.action_machine}
    wanted = {name: mermaid(machine) for name, machine in machines.items() if arguments.machine in (name, "both")}
    if arguments.json:
        print(json.dumps(wanted, ensure_ascii=False))
        return 0
    print("\n".join(wanted.values()), end="")
    return 0


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value
