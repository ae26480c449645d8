"""`rplab llm merge` of one adapter or a stack of them, and `rplab llm gguf`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rplab.l10n import tr


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab llm gguf`."""
    parser = commands.add_parser(
        "gguf",
        help=tr("llama.cpp 변환기로 GGUF 내보내기", "export a merged model as GGUF with llama.cpp's converter"),
        epilog="example: rplab llm gguf --model merged --out saya.gguf --converter ~/llama.cpp",
    )
    parser.add_argument("--model", type=Path, required=True, help="merged model folder, or an artefact that holds model/")
    parser.add_argument("--out", type=Path, required=True, help="GGUF file to write")
    parser.add_argument("--type", default="bf16", choices=("f32", "f16", "bf16", "q8_0", "auto"), help="number format (default: bf16)")
    parser.add_argument("--converter", type=Path, help="llama.cpp checkout or its convert_hf_to_gguf.py (default: $LLAMA_CPP, then PATH)")
    parser.add_argument("--json", action="store_true", help="print {out, bytes}")
    parser.set_defaults(handler=_gguf)


def _gguf(arguments: argparse.Namespace) -> int:
    from rplab.llm.gguf import export_gguf

    model: Path = arguments.model / "model" if (arguments.model / "model").is_dir() else arguments.model
    size = export_gguf(model, arguments.out, kind=arguments.type, converter=arguments.converter)
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), "bytes": size}))
    else:
        print(f"{arguments.out}  {size / 1e6:.1f} MB")
    return 0


def merge_stack(base: Path, adapters: list[Path], out: Path, last: Callable[[Path, Path], int]) -> int:
    """Merge adapters one after the other, each into the result of the one before; every step passes the parity gate.

    Args:
        base: Model that the first adapter was trained on.
        adapters: In the order of training, for example SFT, then GRPO.
        out: Folder of the result; intermediate models are kept beside it only while this runs.
        last: Merges the last adapter into `out`, given base and adapter.

    Raises:
        ModelError: An adapter belongs to another base than the model before it.
        TrainingError: A merged model is not the trained one.
    """
    if len(adapters) == 1:
        return last(base, adapters[0])
    from rplab.cli.run import ProgressLine, stop_on_sigterm
    from rplab.llm.standalone import prepare_environment, run_standalone

    prepare_environment()
    from rplab.llm.config import MergeConfig
    from rplab.llm.merge import merge_adapter

    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}.stack-") as folder:
        for number, adapter in enumerate(adapters[:-1], start=1):
            step = Path(folder) / str(number)
            show = ProgressLine()
            inputs = {"base": base, "adapter": adapter}
            stats = run_standalone(
                merge_adapter, MergeConfig(), inputs, step, report=partial(show, f"merge {number}"), stop=stop_on_sigterm()
            )
            show.clear()
            print(f"{adapter}: rel_l2 {stats['rel_l2']}, top-1 {stats['top1']}", file=sys.stderr)
            base = step
        return last(base, adapters[-1])
