"""`rplab doctor`: what works on this machine, what does not, and the remedy."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rplab.l10n import tr


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab doctor`."""
    parser = commands.add_parser(
        "doctor", help=tr("이 컴퓨터를 점검", "check this machine and say the remedy"), epilog="example: rplab doctor --store store"
    )
    parser.add_argument("--store", type=Path, default=Path("store"), help="where artefacts live (default: ./store)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(handler=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rplab.doctor import examine

    findings = list(examine(arguments.store))
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        for finding in findings:
            print(f"{finding.level:<8} {finding.subject:<14} {finding.found}")
            if finding.remedy:
                print(f"{'':<23} -> {finding.remedy}")
    return 1 if any(finding.level == "problem" for finding in findings) else 0
