"""`rplab llm chat`: talk to a model folder, or to a base with an adapter, in the terminal. Text only; `rplab play` speaks."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rplab.errors import ConfigError, ModelError
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.llm.eval_config import DecodingConfig
    from rplab.llm.generate import TextModel


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab llm chat`."""
    parser = commands.add_parser(
        "chat",
        help=tr("터미널에서 모델과 대화", "talk to a model in the terminal"),
        epilog="example: rplab llm chat --model merged --card saya    (/reset forgets, exit ends)",
    )
    parser.add_argument("--model", type=Path, help="model folder (default: the newest one in the store)")
    parser.add_argument("--adapter", type=Path, help="adapter that is put on --model without merging")
    precision_help = "number format of the weights; nf4 = 4 bits, where memory is short (default: auto; with --adapter: as it was trained)"
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32", "nf4"), default="auto", help=precision_help)
    parser.add_argument("--store", type=Path, default=Path("store"), help="where artefacts live (default: ./store)")
    parser.add_argument("--card", default="saya", help="character card, by name or YAML file (default: saya)")
    parser.add_argument("--pack", default="v7", help="recipe whose system text is used (default: v7)")
    parser.add_argument("--system", help="system text to use instead of the card's; @FILE reads a file")
    parser.add_argument("--text", action="append", default=[], help="say this and end; may be repeated")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 = always the most likely token (default: 0.7)")
    parser.add_argument("--top-p", type=float, default=0.9, help="(default: 0.9)")
    parser.add_argument("--max-new-tokens", type=int, default=200, help="longest reply in tokens (default: 200)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="with --text: print {replies: [...]}")
    parser.set_defaults(handler=_chat)


def _chat(arguments: argparse.Namespace) -> int:
    if arguments.json and not arguments.text:
        raise ConfigError("--json needs --text: a conversation in the terminal is no JSON")
    system = _system_text(arguments)
    decoding = _decoding(arguments)
    model = _load(arguments)
    messages: list[dict[str, str]] = [{"role": "system", "content": system}]
    if arguments.text:
        replies = [_answer(model, messages, text, decoding, arguments, echo=not arguments.json) for text in arguments.text]
        if arguments.json:
            print(json.dumps({"model": str(model.folder), "replies": replies}, ensure_ascii=False))
        return 0
    print(
        tr("대화를 시작합니다. /reset 처음부터, exit 종료.", "Say something. /reset forgets the conversation, exit ends."), file=sys.stderr
    )
    while (text := _read_line()) is not None:
        if text == "/reset":
            del messages[1:]
            print(tr("처음부터 다시 시작합니다.", "forgotten."), file=sys.stderr)
        elif text:
            _answer(model, messages, text, decoding, arguments, echo=True)
    return 0


def _read_line() -> str | None:
    """Return the next line of the user, None at its end."""
    try:
        text = input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
    return None if text in {"exit", "quit", "/exit", "/quit"} else text


def _answer(
    model: TextModel, messages: list[dict[str, str]], text: str, decoding: DecodingConfig, arguments: argparse.Namespace, *, echo: bool
) -> str:
    """Stream one reply and add both sides to the conversation."""
    messages.append({"role": "user", "content": text})
    reply = ""
    for piece in model.stream(_within_window(model, messages, decoding), decoding, seed=arguments.seed):
        reply += piece
        if echo:
            print(piece, end="", flush=True)
    if echo:
        print(flush=True)
    messages.append({"role": "assistant", "content": reply})
    return reply


def _within_window(model: TextModel, messages: list[dict[str, str]], decoding: DecodingConfig) -> list[dict[str, str]]:
    """Drop the oldest exchanges until the prompt leaves room for the reply; the system text stays."""
    kept = list(messages)
    while len(kept) > 3 and len(model.encode(kept)) + decoding.max_new_tokens > model.max_positions:
        del kept[1:3]
    return kept


def _system_text(arguments: argparse.Namespace) -> str:
    if arguments.system is None:
        from rplab.character import load_card
        from rplab.dialogue.pack import load_pack
        from rplab.dialogue.singleturn_text import card_system_text

        return card_system_text(load_card(arguments.card), load_pack(arguments.pack))
    if not arguments.system.startswith("@"):
        return str(arguments.system)
    path = Path(arguments.system[1:])
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--system {arguments.system}: cannot be read ({error})") from None


def _decoding(arguments: argparse.Namespace) -> DecodingConfig:
    from pydantic import ValidationError

    from rplab.llm.eval_config import DecodingConfig

    try:
        return DecodingConfig(temperature=arguments.temperature, top_p=arguments.top_p, max_new_tokens=arguments.max_new_tokens)
    except ValidationError as error:
        problems = "; ".join(f"--{str(item['loc'][0]).replace('_', '-')}: {item['msg']}" for item in error.errors())
        raise ConfigError(problems) from None


def _load(arguments: argparse.Namespace) -> TextModel:
    from rplab.llm.standalone import prepare_environment

    prepare_environment()
    path: Path = arguments.model or arguments.store / "latest" / "grpo_merge"
    if arguments.model is None and not path.is_dir():
        raise ModelError(f"{path}: there is no model yet. Make one with `rplab run`, or give a folder with --model")
    from rplab.llm.generate import TextModel

    if arguments.adapter is None:
        return TextModel.load(path / "model" if (path / "model").is_dir() else path, precision=arguments.precision)
    if arguments.precision != "auto":
        raise ConfigError("--precision has no effect with --adapter: an adapter fits the number format that it was trained on. Remove it")
    from rplab.llm.adapter import load_with_lineage
    from rplab.llm.precision import load_tokenizer, model_folder, quiet_libraries

    quiet_libraries()
    folder = model_folder(path)
    return TextModel(load_with_lineage(folder, arguments.adapter), load_tokenizer(folder), folder)
