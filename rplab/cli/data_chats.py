"""`rplab data import-chats | export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rplab.l10n import tr

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction  # pyright: ignore[reportPrivateUsage]

FORMATS = ("sharegpt", "messages", "chatml", "sillytavern")


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add the commands that exchange chats with other tools."""
    text = tr("다른 도구의 대화 파일을 {messages} 행으로", "Turn chat files of other tools into {messages} rows.")
    parser = subparsers.add_parser(
        "import-chats",
        help=text,
        description=text,
        epilog="example: rplab data import-chats chats/ messages.jsonl --format sillytavern",
    )
    parser.add_argument("input", metavar="IN", type=Path, help="JSON lines, a JSON array, or a folder of SillyTavern chats")
    parser.add_argument("output", metavar="OUT", type=Path)
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto")
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    parser.set_defaults(handler=import_command)
    text = tr("{messages} 행을 다른 도구의 형식으로", "Write {messages} rows in the form of another tool.")
    parser = subparsers.add_parser(
        "export", help=text, description=text, epilog="example: rplab data export messages.jsonl sharegpt.jsonl --format sharegpt"
    )
    parser.add_argument("input", metavar="IN", type=Path, help="{messages} rows")
    parser.add_argument("output", metavar="OUT", type=Path, help="file; a folder for several SillyTavern chats")
    parser.add_argument("--format", choices=FORMATS, default="sharegpt")
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    parser.set_defaults(handler=export_command)


def import_command(arguments: argparse.Namespace) -> int:
    """Run `rplab data import-chats`."""
    from rplab.cli.data_convert import report_counts
    from rplab.dataset.chat_files import import_chats

    counts = import_chats(arguments.input, arguments.output, arguments.format)
    return report_counts(counts, [arguments.output], as_json=arguments.json)


def export_command(arguments: argparse.Namespace) -> int:
    """Run `rplab data export`."""
    from rplab.cli.data_convert import report_counts
    from rplab.dataset.chat_files import export_chats

    counts = export_chats(arguments.input, arguments.output, arguments.format)
    return report_counts(counts, [arguments.output], as_json=arguments.json)
