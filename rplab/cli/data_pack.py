"""`rplab data pack check | simulate | graph`: look at packs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rplab.cli.data_options import Commands, add_seed, positive
from rplab.errors import ConfigError
from rplab.l10n import tr


def register(commands: Commands) -> None:
    """Add `rplab data pack`."""
    pack = commands.add_parser("pack", help=tr("팩 살펴보기", "look at packs"), epilog="example: rplab data pack check v7")
    actions = pack.add_subparsers(title="pack commands", metavar="COMMAND", required=True)
    check = actions.add_parser(
        "check", help="unreachable states, dead ends, rules that never fire, overlaps", epilog="example: rplab data pack check v7"
    )
    check.add_argument("--notes", action="store_true", help="show overlaps too, where the order of rules decides")
    check.set_defaults(handler=_pack_check)
    simulate = actions.add_parser("simulate", help="path statistics", epilog="example: rplab data pack simulate v7 --dialogues 5000")
    simulate.add_argument("--dialogues", type=positive, default=5_000, metavar="N", help="walks (default: 5000)")
    simulate.add_argument("--turns", type=positive, metavar="N", help="exchanges per walk (default: the pack's own)")
    add_seed(simulate, "root of the draws")
    simulate.set_defaults(handler=_pack_simulate)
    graph = actions.add_parser(
        "graph", help="state diagrams as Mermaid or SVG", epilog="example: rplab data pack graph v7 --format svg --out v7.svg"
    )
    graph.add_argument("--format", choices=("mermaid", "svg"), default="mermaid", help="text for Mermaid, or a picture (default: mermaid)")
    graph.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: standard output)")
    graph.add_argument("--machine", choices=("relation", "action", "both"), default="both", help="which machine (default: both)")
    graph.set_defaults(handler=_pack_graph)
    for parser in (check, simulate, graph):
        parser.add_argument("pack", metavar="PACK", help="pack name or folder")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")


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
    result = simulate(pack, arguments.dialogues, arguments.turns, arguments.seed)
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
    from rplab.dialogue.graph import mermaid, svg
    from rplab.dialogue.pack import load_pack
    from rplab.jsonl import write_text

    pack = load_pack(arguments.pack)
    machines = {"relation": pack.relation_machine, "action": pack.action_machine}
    wanted = {name: machine for name, machine in machines.items() if arguments.machine in (name, "both")}
    if arguments.json:
        drawn = {name: mermaid(machine) if arguments.format == "mermaid" else svg([machine]) for name, machine in wanted.items()}
        text = json.dumps(drawn, ensure_ascii=False) + "\n"
    elif arguments.format == "svg":
        text = svg(list(wanted.values()))
    else:
        text = "\n".join(mermaid(machine) for machine in wanted.values())
    if arguments.out is None:
        print(text, end="")
    else:
        write_text(arguments.out, text)
        print(tr(f"{arguments.out} 을(를) 썼습니다", f"wrote {arguments.out}"))
    return 0
