"""`rplab`: each stage alone, outside Prefect. Exit 0 = done, 2 = bad usage or input, 1 = failed, 130 = interrupted."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from rplab.cli import (
    card,
    data_annotate,
    data_batch,
    data_chats,
    data_convert,
    data_generate,
    data_pack,
    data_rewrite,
    doctor,
    llm,
    play,
    run,
    store,
    translate,
    tts,
)
from rplab.errors import LabError
from rplab.l10n import tr


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    parser = argparse.ArgumentParser(
        prog="rplab",
        description=tr(
            "RP Lab: 한국어로 답하고 일본어로 말하는 롤플레이 캐릭터를 만듭니다.",
            "RP Lab makes a Korean role-play character that answers in text and speaks Japanese.",
        ),
        epilog="example: rplab run --profile smoke && rplab play",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help=tr("자세한 로그", "show what the library logs"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run.register(commands)
    data = commands.add_parser(
        "data", help=tr("데이터 생성과 변환", "generate and convert data"), epilog="example: rplab data normalise in.jsonl out.jsonl"
    )
    data_commands = data.add_subparsers(title="data commands", metavar="COMMAND", required=True)
    for group in (data_generate, data_batch, data_pack, data_annotate, data_convert, data_chats, data_rewrite):
        group.register(data_commands)
    for group in (card, llm, translate, tts, play, doctor, store):
        group.register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    level = logging.INFO if arguments.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        code: int = arguments.handler(arguments)
        sys.stdout.flush()
    except LabError as error:
        print(f"rplab: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            tr("rplab: 중단했습니다. 다시 실행하면 이어집니다.", "rplab: interrupted. Run the same command again to resume."),
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: no traceback at exit
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
