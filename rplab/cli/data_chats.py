"""`rplab data import-chats | export`."""

from __future__ import annotations

import argparse

from rplab.cli.data_options import Commands, add_command, add_in_out, report_counts

FORMATS = ("sharegpt", "messages", "chatml", "sillytavern")


def register(subparsers: Commands) -> None:
    """Add the commands that exchange chats with other tools."""
    parser = add_command(
        subparsers,
        "import-chats",
        "다른 도구의 대화 파일을 {messages} 행으로 바꿉니다.",
        "Turn chat files of other tools into {messages} rows.",
        "rplab data import-chats chats/ messages.jsonl --format sillytavern",
        import_command,
    )
    add_in_out(parser, "JSON lines, a JSON array, or a folder of SillyTavern chats")
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto")
    parser = add_command(
        subparsers,
        "export",
        "{messages} 행을 다른 도구의 형식으로 씁니다.",
        "Write {messages} rows in the form of another tool; several SillyTavern chats go into a folder.",
        "rplab data export messages.jsonl sharegpt.jsonl --format sharegpt",
        export_command,
    )
    add_in_out(parser, "{messages} rows")
    parser.add_argument("--format", choices=FORMATS, default="sharegpt")


def import_command(arguments: argparse.Namespace) -> int:
    """Run `rplab data import-chats`."""
    from rplab.dataset.chat_files import import_chats

    counts = import_chats(arguments.input, arguments.output, arguments.format)
    return report_counts(counts, [arguments.output], as_json=arguments.json)


def export_command(arguments: argparse.Namespace) -> int:
    """Run `rplab data export`."""
    from rplab.dataset.chat_files import export_chats

    counts = export_chats(arguments.input, arguments.output, arguments.format)
    return report_counts(counts, [arguments.output], as_json=arguments.json)
