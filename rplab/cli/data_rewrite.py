"""`rplab data rewrite`: polish turns with a text model, behind guards."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rplab.l10n import tr

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction  # pyright: ignore[reportPrivateUsage]


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `rplab data rewrite`."""
    text = tr(
        "대화의 모든 턴을 텍스트 모델로 다듬습니다. 형식이나 말투가 바뀐 답은 쓰지 않고 원문을 둡니다.",
        "Polish every turn with a text model; an answer that changes form or speech level is refused and the original stays.",
    )
    parser = subparsers.add_parser(
        "rewrite",
        help=text,
        description=text,
        epilog="example: rplab data rewrite in.jsonl out.jsonl --backend openai --backend-set model=gpt-4o-mini",
    )
    parser.add_argument("input", metavar="IN", type=Path, help="{messages} rows")
    parser.add_argument("output", metavar="OUT", type=Path, help="appears at once and whole; run again after a stop to resume")
    parser.add_argument("--backend", required=True, metavar="KIND", help="text model: openai, spawn or transformers")
    parser.add_argument("--backend-set", action="append", default=[], metavar="KEY=VALUE", help="backend setting; may be repeated")
    parser.add_argument("--recent-turns", type=int, default=3, metavar="N", help="exchanges that the model sees before a turn (default 3)")
    parser.add_argument("--in-flight", type=int, default=64, metavar="N", help="rows at work at once (default 64)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    parser.set_defaults(handler=rewrite)


def rewrite(arguments: argparse.Namespace) -> int:
    """Run `rplab data rewrite`."""
    import asyncio

    from rplab.backend.open import open_backend
    from rplab.cli.data_convert import report_counts
    from rplab.cli.data_generate import read_backend, stop_on_signal
    from rplab.dataset.rewrite import Rewriter, rewrite_file
    from rplab.dialogue.journal import Journal, request_hash
    from rplab.errors import ConfigError

    config = read_backend(arguments)
    if config.kind == "scripted":
        raise ConfigError("the scripted backend cannot rewrite texts. Use --backend openai, spawn or transformers")
    if arguments.in_flight < 1 or arguments.recent_turns < 0:
        raise ConfigError("--in-flight must be 1 or more and --recent-turns 0 or more")
    record = arguments.output.with_name(f".{arguments.output.name}.journal")

    async def run() -> None:
        backend = open_backend(config)
        try:
            with stop_on_signal() as stop, Journal(record) as journal:
                rewriter = Rewriter(backend, journal, request_hash, seed=arguments.seed, recent=arguments.recent_turns, stop=stop)
                counts = await rewrite_file(arguments.input, arguments.output, rewriter, journal, in_flight=arguments.in_flight)
        finally:
            await backend.aclose()
        report_counts(counts, [arguments.output], as_json=arguments.json)

    asyncio.run(run())
    record.unlink(missing_ok=True)
    return 0
