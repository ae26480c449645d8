"""What the commands of `rplab data` share: how one is added, its options, and how counts of rows are printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.dataset.counts import RowCounts

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # pyright: ignore[reportPrivateUsage]
Handler: TypeAlias = Callable[[argparse.Namespace], int]


def add_command(subparsers: Commands, name: str, korean: str, english: str, example: str, handler: Handler) -> argparse.ArgumentParser:
    """Add a command with its help text, an example and `--json`."""
    text = tr(korean, english)
    parser = subparsers.add_parser(
        name, help=text, description=text, epilog=f"example: {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help=tr("결과를 JSON으로 출력", "print the result as one JSON object"))
    parser.set_defaults(handler=handler)
    return parser


def add_in_out(parser: argparse.ArgumentParser, what: str = "JSON lines") -> None:
    """Add the two files that a command reads and makes."""
    parser.add_argument("input", metavar="IN", type=Path, help=what)
    parser.add_argument(
        "output", metavar="OUT", type=Path, help=tr("끝까지 성공했을 때만 바뀝니다", "replaced only when the whole run succeeded")
    )


def add_strict(parser: argparse.ArgumentParser) -> None:
    """Add `--strict`."""
    parser.add_argument("--strict", action="store_true", help="stop at a line that is no JSON (otherwise it is counted and passed over)")


def add_seed(parser: argparse.ArgumentParser, of: str = "") -> None:
    """Add `--seed`."""
    parser.add_argument("--seed", type=int, default=42, help=f"{of or 'equal seed, equal result'} (default: 42)")


def positive(text: str) -> int:
    """Read a whole number of 1 or more (an argument type)."""
    value = _whole(text)
    if value is None or value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value


def count(text: str) -> int:
    """Read a whole number of 0 or more (an argument type)."""
    value = _whole(text)
    if value is None or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return value


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def report_counts(counts: RowCounts, targets: list[Path], *, as_json: bool) -> int:
    """Print what happened: JSON, or a line of counts and one line for each reason."""
    if as_json:
        print(json.dumps({**counts.as_json(), "out": [str(target) for target in targets]}, ensure_ascii=False))
        return 0
    notes = "".join(f", {name} {number}" for name, number in sorted(counts.notes.items()))
    print(tr(f"{counts.rows}행 읽음, {counts.kept}개 남김", f"{counts.rows} rows read, {counts.kept} kept") + notes)
    for target in targets:
        print(f"  -> {target}")
    for reason, number in counts.dropped.most_common():
        places = [f"{item['file']}:{item['line']}" for item in counts.dropped_rows if item["reason"] == reason][:3]
        more = " ..." if number > len(places) else ""
        print(tr(f"  제외 {number}: {reason}", f"  left out {number}: {reason}") + f" ({', '.join(places)}{more})", file=sys.stderr)
    return 0
