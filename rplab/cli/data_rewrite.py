"""`rplab data rewrite`: polish turns with a text model, behind guards."""

from __future__ import annotations

import argparse

from rplab.cli.data_options import Commands, add_command, add_in_out, add_seed, count, report_counts
from rplab.cli.text_model import add_text_model, read_backend, stop_on_signal
from rplab.errors import ConfigError


def register(subparsers: Commands) -> None:
    """Add `rplab data rewrite`."""
    parser = add_command(
        subparsers,
        "rewrite",
        "대화의 모든 턴을 텍스트 모델로 다듬습니다. 형식이나 말투가 바뀐 답은 쓰지 않고 원문을 둡니다.",
        "Polish every turn with a text model; an answer that changes form or speech level is refused and the original stays.",
        "rplab data rewrite in.jsonl out.jsonl --backend openai --backend-set model=gpt-4o-mini",
        rewrite,
    )
    add_in_out(parser, "{messages} rows")
    add_text_model(parser, default=None)
    parser.add_argument(
        "--recent-turns", type=count, default=3, metavar="N", help="exchanges that the model sees before a turn (default: 3)"
    )
    add_seed(parser)


def rewrite(arguments: argparse.Namespace) -> int:
    """Run `rplab data rewrite`."""
    import asyncio

    from rplab.backend.open import open_backend
    from rplab.backend.usage import Metered
    from rplab.dataset.rewrite import Rewriter, rewrite_file
    from rplab.dialogue.journal import Journal, request_hash

    config = read_backend(arguments)
    if config.kind == "scripted":
        raise ConfigError("the scripted backend cannot rewrite texts. Use --backend openai, spawn or transformers")
    record = arguments.output.with_name(f".{arguments.output.name}.journal")

    async def run() -> None:
        backend = open_backend(config)
        try:
            with stop_on_signal() as stop, Journal(record) as journal:
                if isinstance(backend, Metered):
                    backend.meter.recall(journal.usages())  # a budget covers the file, not the process
                rewriter = Rewriter(backend, journal, request_hash, seed=arguments.seed, recent=arguments.recent_turns, stop=stop)
                counts = await rewrite_file(arguments.input, arguments.output, rewriter, journal, in_flight=arguments.in_flight)
        finally:
            await backend.aclose()
        report_counts(counts, [arguments.output], as_json=arguments.json)

    asyncio.run(run())
    record.unlink(missing_ok=True)
    return 0
