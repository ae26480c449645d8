"""`rplab play --text` and `--script`: turns without anybody at the keyboard."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rplab.cli.play_session import Loaded, load_session
from rplab.errors import BackendError, ConfigError
from rplab.l10n import tr
from rplab.play.audio import WavSink
from rplab.play.commands_story import describe_sessions
from rplab.play.config import PlayConfig
from rplab.play.conversation import Conversation
from rplab.play.events import SessionEvent
from rplab.play.export import export
from rplab.play.published import Published
from rplab.play.screen import PlainScreen
from rplab.play.session import PlaySession
from rplab.play.sessions import list_sessions
from rplab.play.turn import Turn


class SilentScreen:
    """Keeps what a command says, for the JSON line."""

    def __init__(self) -> None:
        """Start empty."""
        self.subtitles = True
        self.said: list[str] = []

    def show(self, event: SessionEvent) -> None:
        """The whole turn is printed at its end."""
        del event

    def end_text(self) -> None:
        """See `show`."""

    def end_turn(self) -> None:
        """See `show`."""

    def info(self, text: str) -> None:
        """Keep a message."""
        self.said.append(text)


def print_sessions(arguments: argparse.Namespace) -> int:
    """`--sessions`."""
    folder = arguments.store / "sessions"
    if arguments.json:
        print(json.dumps([vars(entry) for entry in list_sessions(folder)], ensure_ascii=False))
    else:
        print(describe_sessions(folder))
    return 0


async def play_text(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> int:
    """One turn."""
    loaded = load_session(arguments, published, config)
    session = loaded.session
    try:
        screen = SilentScreen() if arguments.json else PlainScreen(sys.stdout)
        conversation = Conversation(session, loaded.opened, screen, loaded.host)
        turn = await session.say(arguments.text, conversation.screen.show)
        screen.end_text()
        await session.finish(turn)
        if arguments.session:
            await session.rest()
    finally:
        await session.aclose()
    if not turn.parsed().shown.strip():
        raise BackendError(turn.failure or "the model wrote nothing; try another --seed")
    if arguments.json:
        print(json.dumps(describe_turn(turn, session, loaded.notes), ensure_ascii=False))
        return 0
    path = _wav_path(session)
    if path is not None:
        screen.info(tr(f"음성: {path}", f"speech: {path}"))
    return 0


async def play_script(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> int:
    """Every line a message or a command. Ends with an error when a message got no reply."""
    lines = _read_script(arguments.script)
    if config.sink == "auto" and config.speak:
        config = config.model_copy(update={"sink": "null"})  # nobody listens; --sink says otherwise
    loaded = load_session(arguments, published, config)
    screen = SilentScreen() if arguments.json else PlainScreen(sys.stdout)
    conversation = Conversation(loaded.session, loaded.opened, screen, loaded.host)
    failed = 0
    try:
        for line in lines:
            failed += not await _play_line(conversation, line, loaded, as_json=arguments.json)
            if conversation.ended:
                break
        if arguments.wav is not None:
            written = await export("wav", arguments.wav, loaded.session, conversation.timeline)
            print(json.dumps({"wav": str(written[0]), "srt": str(written[1])}) if arguments.json else f"{written[0]}  {written[1]}")
    finally:
        await loaded.session.aclose()
    if failed:
        raise BackendError(f"{failed} of {len(lines)} lines got no reply; the notices above say why")
    return 0


async def _play_line(conversation: Conversation, line: str, loaded: Loaded, *, as_json: bool) -> bool:
    """Do one line and print what came of it; False when a message got no reply."""
    if not as_json:
        conversation.screen.info(f"{tr('나', 'you')}> {line}")
    turn = await conversation.handle(line)
    await conversation.session.rest()
    if as_json:
        row: dict[str, Any] = {"line": line}
        if turn is not None:
            row |= describe_turn(turn, conversation.session, loaded.notes) | {"node": conversation.timeline.head}
        screen = conversation.screen
        if isinstance(screen, SilentScreen) and screen.said:
            row["said"], screen.said = "\n".join(screen.said), []
        print(json.dumps(row, ensure_ascii=False), flush=True)
    return line.startswith("/") or (turn is not None and bool(turn.parsed().shown.strip()))


def _read_script(name: str) -> list[str]:
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig") if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file. Check the path of --script") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: not a UTF-8 text file ({error})") from None
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ConfigError(f"{name}: no line to play. Write one message or command a line")
    return lines


def _wav_path(session: PlaySession) -> Path | None:
    sink = session.engines.sink
    return sink.last_path if isinstance(sink, WavSink) else None


def describe_turn(turn: Turn, session: PlaySession, notes: list[str]) -> dict[str, Any]:
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
