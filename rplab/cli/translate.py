"""`rplab translate`: Korean lines to Japanese with the translator that the pipeline made, or another one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rplab.errors import ConfigError, DataError, ModelError
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.translator.translate import Translation


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab translate`."""
    parser = commands.add_parser(
        "translate",
        help=tr("한국어를 일본어로 번역", "translate Korean to Japanese"),
        epilog="example: rplab translate --text '오늘은 비가 오네.'    or: rplab translate --text - < lines.txt",
    )
    text_help = tr("한국어 문장; `-`는 표준 입력의 각 줄", "a Korean line; `-` reads lines from stdin")
    parser.add_argument("--text", required=True, help=text_help)
    parser.add_argument("--model", type=Path, help="model/ folder of a translator (default: the newest one in the store)")
    parser.add_argument("--store", type=Path, default=Path("store"), help="where artefacts live (default: ./store)")
    name_help = "how a name is written in Japanese, for example 사야=サヤ; may be repeated"
    parser.add_argument("--name", action="append", default=[], metavar="KO=KANA", help=name_help)
    parser.add_argument("--max-new-tokens", type=int, default=128, help="longest translation in tokens (default: 128)")
    parser.add_argument("--batch-size", type=int, default=32, help="lines translated together (default: 32)")
    parser.add_argument("--json", action="store_true", help="print {translations: [{source, text, flags, retried}]}")
    parser.set_defaults(handler=_translate)


def _translate(arguments: argparse.Namespace) -> int:
    glossary = dict(_parse_name(item) for item in arguments.name)
    if arguments.max_new_tokens < 1 or arguments.batch_size < 1:
        raise ConfigError("--max-new-tokens and --batch-size must be 1 or more")
    lines = _read_lines(arguments.text)
    folder = _model_folder(arguments.model) if arguments.model else _latest(arguments.store)

    from rplab.translator.translate import Translator  # loads torch

    translator = Translator.load(folder, glossary=glossary)
    results = translator.translate(lines, max_new_tokens=arguments.max_new_tokens, batch_size=arguments.batch_size)
    if arguments.json:
        rows = [{"source": r.source, "text": r.text, "flags": list(r.flags), "retried": r.retried} for r in results]
        print(json.dumps({"translations": rows}, ensure_ascii=False))
        return 0
    for result in results:
        print(result.text)
    _warn(results)
    return 0


def _read_lines(text: str) -> list[str]:
    """Return the lines to translate; blank ones of stdin stay, so that output line n belongs to input line n."""
    if text != "-":
        lines = [text]
    else:
        try:
            lines = sys.stdin.buffer.read().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"stdin is not UTF-8 (byte {error.start})", remedy="Convert it, for example with iconv -t utf-8") from None
    if not any(line.strip() for line in lines):
        raise DataError("there is nothing to translate", remedy="Give --text a Korean sentence, or lines on stdin with --text -")
    return lines


def _parse_name(item: str) -> tuple[str, str]:
    korean, separator, kana = item.partition("=")
    if not separator or not korean.strip() or not kana.strip():
        raise ConfigError(f"--name {item!r} must look like 사야=サヤ")
    return korean.strip(), kana.strip()


def _model_folder(path: Path) -> Path:
    """Take an artefact of the stage `translator` for its model/ folder."""
    return path / "model" if (path / "model").is_dir() else path


def _latest(store: Path) -> Path:
    folder = store / "latest" / "translator" / "model"
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no translator yet. Make one with `rplab run`, or give its folder with --model")
    return folder


def _warn(results: list[Translation]) -> None:
    for number, result in enumerate(results, start=1):
        if result.flags:
            print(f"rplab: line {number}: {', '.join(result.flags)}: {result.source}", file=sys.stderr)
