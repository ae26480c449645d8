"""`rplab play` (= `python flows/play.py`): talk to the character that the pipeline made.

Three ways: a terminal with a live prompt, lines through a pipe (`--plain`), and batch (`--text`, `--script`).
This module only reads options; `play_session` wires, `play_batch` and `play_live` run. What a turn does is in `rplab.play`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rplab.errors import ConfigError
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.play.config import PlayConfig
    from rplab.play.published import Published


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab play`."""
    parser = commands.add_parser(
        "play",
        help=tr("캐릭터와 대화", "talk to the character"),
        epilog="examples: rplab play · rplab play --text '오늘 어땠어?' --wav out.wav --json · rplab play --script lines.txt --json",
    )
    parser.add_argument("--store", type=Path, default=Path("store"), help="where artefacts live (default: ./store)")
    parser.add_argument("--character", type=Path, metavar="DIR", help="folder with a character.json (default: the latest of the store)")
    parser.add_argument("--card", help="play another card, by name or YAML file, with the character's models")
    parser.add_argument("--profile", help="take the settings of this profile's section `play`")
    batch = parser.add_argument_group("batch")
    batch.add_argument("--text", help="say this, print the reply and end")
    batch.add_argument(
        "--script", metavar="FILE", help="every line a message or a command (- reads the standard input); # begins a comment"
    )
    batch.add_argument("--wav", type=Path, metavar="FILE", help="with --text or --script: write the speech here")
    batch.add_argument("--json", action="store_true", help="with --text: print one JSON object; with --script: one a line")
    live = parser.add_argument_group("session")
    live.add_argument("--plain", action="store_true", help="plain lines, for pipes (default without a terminal)")
    live.add_argument("--session", metavar="ID", help="go on with a saved conversation, or start one under this name")
    live.add_argument("--sessions", action="store_true", help="list the saved conversations and end")
    live.add_argument("--seed", type=int, help="root of the draws (default: 42)")
    engines = parser.add_argument_group("engines")
    engines.add_argument(
        "--llm-url", metavar="URL", help="OpenAI-compatible endpoint that writes the replies, for example http://127.0.0.1:8000/v1"
    )
    engines.add_argument("--llm-model", metavar="NAME", help="model on that endpoint (default: the first it offers)")
    engines.add_argument("--voice", default="", metavar="NAME", help="own, openjtalk, or a voice folder (default: the character's own)")
    engines.add_argument("--no-voice", action="store_true", help="text and subtitles only")
    engines.add_argument("--sink", choices=["auto", "sounddevice", "miniaudio", "ffplay", "wav", "null"], help="where sound goes")
    engines.add_argument("--device", metavar="NAME", help="output device: its number, or part of its name (/device lists them)")
    parser.set_defaults(handler=_play)


def _play(arguments: argparse.Namespace) -> int:
    if arguments.sessions:
        from rplab.cli.play_batch import print_sessions

        return print_sessions(arguments)
    _check(arguments)
    from rplab.play.published import find_character

    published = find_character(arguments.store, folder=arguments.character, card=arguments.card)
    config = _config(arguments, published)
    if arguments.text is not None or arguments.script is not None:
        from rplab.cli.play_batch import play_script, play_text

        play = play_text if arguments.text is not None else play_script
        return asyncio.run(play(arguments, published, config))
    from rplab.cli.play_live import play_lines, play_terminal

    if arguments.plain or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return asyncio.run(play_lines(arguments, published, config))
    return asyncio.run(play_terminal(arguments, published, config))


def _check(arguments: argparse.Namespace) -> None:
    is_batch = arguments.text is not None or arguments.script is not None
    if not is_batch and (arguments.json or arguments.wav):
        raise ConfigError("--json and --wav need --text or --script: they describe turns that are over")
    if arguments.text is not None and arguments.script is not None:
        raise ConfigError("--text and --script exclude each other; put the text into the script")
    if arguments.wav and arguments.no_voice:
        raise ConfigError("--wav wants speech and --no-voice wants none; leave one of them out")
    if arguments.text is not None and not arguments.text.strip():
        raise ConfigError("--text is empty; say something, for example --text '오늘 어땠어?'")
    if arguments.llm_model and not arguments.llm_url:
        raise ConfigError("--llm-model needs --llm-url, for example --llm-url http://127.0.0.1:8000/v1")


def _config(arguments: argparse.Namespace, published: Published) -> PlayConfig:
    """Return the settings: the character's, or those of the profile that is named, changed by the options."""
    config = published.play
    if arguments.profile:
        from rplab.profile import load_profile

        config = load_profile(arguments.profile).play
    changes: dict[str, Any] = {}
    if arguments.no_voice:
        changes["speak"] = False
    for name in ("sink", "device", "seed"):
        if (value := getattr(arguments, name)) is not None:
            changes[name] = value
    if arguments.llm_url:
        from rplab.play.config import EndpointConfig

        changes["llm"] = EndpointConfig(url=arguments.llm_url, model=arguments.llm_model or "")
    return config.model_copy(update=changes)
