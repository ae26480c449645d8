"""`rplab play` (= `python flows/play.py`): talk to the character that the pipeline made.

Three ways: a terminal with a live prompt, lines through a pipe (`--plain`), and one turn without a terminal (`--text`).
Everything is wired here; what a turn does is in `rplab.play`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rplab.errors import BackendError, ConfigError
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.play.config import PlayConfig
    from rplab.play.conversation import Conversation
    from rplab.play.engines import Engines
    from rplab.play.events import SessionEvent
    from rplab.play.published import Published
    from rplab.play.session import PlaySession, Scene
    from rplab.play.turn import Turn


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab play`."""
    parser = commands.add_parser(
        "play",
        help=tr("캐릭터와 대화", "talk to the character"),
        epilog="example: rplab play    or: rplab play --text '오늘 어땠어?' --wav out.wav --json",
    )
    parser.add_argument("--store", type=Path, default=Path("store"), help="where artefacts live (default: ./store)")
    parser.add_argument("--character", type=Path, metavar="DIR", help="folder with a character.json (default: the latest of the store)")
    parser.add_argument("--card", help="play another card, by name or YAML file, with the character's models")
    parser.add_argument("--profile", help="take the settings of this profile's section `play`")
    parser.add_argument("--text", help="say this, print the reply and end")
    parser.add_argument("--wav", type=Path, metavar="FILE", help="with --text: write the speech here")
    parser.add_argument("--json", action="store_true", help="with --text: print one JSON object")
    parser.add_argument("--plain", action="store_true", help="plain lines, for pipes (default without a terminal)")
    parser.add_argument("--no-voice", action="store_true", help="text and subtitles only")
    parser.add_argument("--sink", choices=["auto", "sounddevice", "miniaudio", "ffplay", "wav", "null"], help="where sound goes")
    parser.add_argument("--session", metavar="ID", help="go on with a saved conversation, or start one under this name")
    parser.add_argument("--seed", type=int, help="root of the draws (default: 42)")
    parser.set_defaults(handler=_play)


def _play(arguments: argparse.Namespace) -> int:
    if arguments.text is None and (arguments.json or arguments.wav):
        raise ConfigError("--json and --wav need --text: they describe one turn")
    if arguments.wav and arguments.no_voice:
        raise ConfigError("--wav wants speech and --no-voice wants none; leave one of them out")
    if arguments.text is not None and not arguments.text.strip():
        raise ConfigError("--text is empty; say something, for example --text '오늘 어땠어?'")
    from rplab.play.published import find_character

    published = find_character(arguments.store, folder=arguments.character, card=arguments.card)
    config = _config(arguments, published)
    if arguments.text is not None:
        return asyncio.run(_one_turn(arguments, published, config))
    if arguments.plain or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return asyncio.run(_lines(arguments, published, config))
    return asyncio.run(_terminal(arguments, published, config))


def _config(arguments: argparse.Namespace, published: Published) -> PlayConfig:
    """Return the settings: the character's, or those of the profile that is named, changed by the options."""
    config = published.play
    if arguments.profile:
        from rplab.profile import load_profile

        config = load_profile(arguments.profile).play
    changes: dict[str, Any] = {}
    if arguments.no_voice:
        changes["speak"] = False
    if arguments.sink:
        changes["sink"] = arguments.sink
    if arguments.seed is not None:
        changes["seed"] = arguments.seed
    return config.model_copy(update=changes)


def _scene(published: Published) -> Scene:
    from rplab.dialogue.pack import load_pack
    from rplab.dialogue.singleturn_text import card_system_text
    from rplab.play.session import Scene

    card = published.card
    return Scene(
        system=card_system_text(card, load_pack(published.pack)),
        protagonist=(card.name, card.name_ja),
        player=(card.player.name, card.player.name_ja),
        greeting=card.greeting.strip(),
    )


def _load(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> tuple[PlaySession, list[str]]:
    """Load everything and open the conversation; also return lines that say what is used."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when transformers is imported; bars would cross the prompt
    from rplab.cli.play_models import load_models
    from rplab.play.session import PlaySession
    from rplab.play.store import open_session

    model, translator = load_models(published)
    engines, notes = _speech(arguments, config, model, translator)
    log = None
    if arguments.text is None or arguments.session:
        log = open_session(arguments.store / "sessions", arguments.session, published.card.name)
        notes.append(tr(f"대화 이름: {log.session_id}", f"session {log.session_id}"))
        if log.exchanges:
            notes[-1] += tr(f" ({len(log.exchanges)}번의 대화를 이어 갑니다)", f", going on after {len(log.exchanges)} exchanges")
    return PlaySession(_scene(published), engines, config, log), notes


def _speech(arguments: argparse.Namespace, config: PlayConfig, model: Any, translator: Any) -> tuple[Engines, list[str]]:
    """Add voice and loudspeaker; without them the conversation goes on in text."""
    from rplab.errors import AudioError
    from rplab.play.audio import WavSink, open_sink
    from rplab.play.engines import Engines
    from rplab.tts.open import open_voice

    if not config.speak:
        return Engines(model, translator), []
    try:
        voice = open_voice(config.voice)
        if arguments.wav:
            path = arguments.wav
            sink, note = WavSink(voice.sample_rate, lambda: path, name=f"wav ({path})"), ""
        else:
            sink, note = open_sink(config.sink, voice.sample_rate, max_buffered_s=config.max_buffered_s)
    except AudioError as error:
        return Engines(model, translator), [tr(f"소리 없이 시작합니다: {error}", f"going on without sound: {error}")]
    return Engines(model, translator, voice, sink), [note] if note else []


# -- one turn


async def _one_turn(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> int:
    from rplab.play.screen import PlainScreen

    session, notes = _load(arguments, published, config)
    try:
        screen = PlainScreen(sys.stdout)
        turn = await session.say(arguments.text, _ignore if arguments.json else screen.show)
        if not arguments.json:
            screen.end_text()
        await session.finish(turn)
    finally:
        await session.aclose()
    if not turn.parsed().shown.strip():
        raise BackendError(turn.failure or "the model wrote nothing; try another --seed")
    if arguments.json:
        print(json.dumps(_describe(turn, session, notes), ensure_ascii=False))
        return 0
    path = _wav_path(session)
    if path is not None:
        screen.info(tr(f"음성: {path}", f"speech: {path}"))
    return 0


def _ignore(event: SessionEvent) -> None:
    """The whole turn is printed at its end."""
    del event


def _wav_path(session: PlaySession) -> Path | None:
    from rplab.play.audio import WavSink

    sink = session.engines.sink
    return sink.last_path if isinstance(sink, WavSink) else None


def _describe(turn: Turn, session: PlaySession, notes: list[str]) -> dict[str, Any]:
    """Return the turn as the JSON object of `--json`."""
    reply = turn.parsed()
    path = _wav_path(session)
    japanese = {line.sentence: line.japanese for line in turn.lines}
    spoken = [sentence for sentence in reply.dialogue if sentence.speaker == "character"]
    return {
        "text": reply.shown.strip(),
        "narration": "\n".join(reply.narration),
        "dialogue_ko": " ".join(sentence.text for sentence in spoken),
        "dialogue_ja": "".join(line.japanese for line in turn.lines),
        "sentences": [{"ko": sentence.text, "ja": japanese.get(sentence)} for sentence in spoken],
        "wav": str(path) if path else None,
        "complete": not turn.failure,
        "metrics": turn.metrics.as_json(),
        "notices": [notice.message for notice in turn.notices],
        "notes": notes,
    }


# -- a conversation


async def _lines(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> int:
    """Line mode: read a line, answer it, speak it, read the next."""
    from rplab.play.conversation import Conversation
    from rplab.play.screen import PlainScreen

    screen = PlainScreen(sys.stdout)
    session, notes = _load(arguments, published, config)
    conversation = Conversation(session, screen)
    _greet(conversation, notes)
    loop = asyncio.get_running_loop()
    try:
        while not conversation.ended:
            sys.stdout.write(tr("나> ", "you> "))
            sys.stdout.flush()
            line = (await loop.run_in_executor(None, sys.stdin.buffer.readline)).decode("utf-8", "replace")
            if not line:
                break
            if not sys.stdin.isatty():
                screen.info(line.rstrip("\n"))  # a pipe does not echo
            if line.strip():
                await conversation.handle(line)
    finally:
        await session.aclose()
    screen.info("")
    return 0


async def _terminal(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> int:
    """A live prompt at once; the models load behind it."""
    from rplab.play.conversation import Conversation
    from rplab.play.terminal import Terminal, TerminalScreen
    from rplab.play.threads import Threads

    screen, threads = TerminalScreen(), Threads()
    terminal = Terminal(screen)
    opened: list[PlaySession] = []

    async def load() -> Conversation:
        session, notes = await threads.call("load", _load, arguments, published, config, timeout_s=3600.0)
        opened.append(session)
        conversation = Conversation(session, screen)
        _greet(conversation, notes)
        terminal.status = session.engines.sink.name if session.engines.sink else tr("소리 없음", "no sound")
        return conversation

    screen.info(tr(f"{published.card.name} · /도움말 로 명령을 볼 수 있습니다.", f"{published.card.name} · /help lists the commands"))
    try:
        await terminal.run(load())
    finally:
        threads.close()
        for session in opened:
            await session.aclose()
    return 0


def _greet(conversation: Conversation, notes: list[str]) -> None:
    """Say what is used, then what was said last, or the character's greeting."""
    for note in notes:
        conversation.screen.info(note)
    session = conversation.session
    if session.exchanges:
        conversation.screen.info(session.exchanges[-1].reply)
    elif session.scene.greeting:
        conversation.screen.info(session.scene.greeting)
