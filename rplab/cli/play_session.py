"""Wire a session: models, voice, device, saved conversation. Imported only when somebody plays; torch comes with the models."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.cli.play_speaker import Loudspeaker, open_speaker, reopen_sink
from rplab.dialogue.pack import load_pack
from rplab.dialogue.singleturn_text import card_system_text
from rplab.errors import StorageError
from rplab.l10n import tr
from rplab.play.archive import Archive
from rplab.play.config import PlayConfig
from rplab.play.conversation import Opened
from rplab.play.engines import Engines
from rplab.play.prompt import World
from rplab.play.published import Published
from rplab.play.session import PlaySession, Scene
from rplab.play.sessions import open_session
from rplab.play.timeline import Timeline


@dataclass(frozen=True)
class Playhouse:
    """Opens conversations: the `Host` of slash commands."""

    published: Published
    config: PlayConfig
    sessions: Path
    """Folder of the saved conversations."""

    def open(self, session_id: str | None, card: str | None) -> Opened:
        """Open a saved conversation, or start one; `card` replaces the character's own."""
        return self._opened(session_id, card, keep=True)

    def begin(self, session_id: str | None) -> Opened:
        """Open the conversation of a batch: it is saved only under a name."""
        return self._opened(session_id, None, keep=session_id is not None)

    def _opened(self, session_id: str | None, card: str | None, *, keep: bool) -> Opened:
        from rplab.character import load_card

        person = load_card(card) if card else self.published.card
        system = card_system_text(person, load_pack(self.published.pack))
        world = World(
            system=system,
            character=person.name,
            player=person.player.name,
            greeting=person.greeting.strip(),
            lore=person.lore,
            config=self.config.memory,
            max_turns=self.config.max_history_turns,
        )
        scene = Scene(
            system=system,
            protagonist=(person.name, person.name_ja),
            player=(person.player.name, person.player.name_ja),
            greeting=person.greeting.strip(),
        )
        archive = open_session(self.sessions, session_id, person.name) if keep else None
        return Opened(person, scene, Timeline(world, archive))


@dataclass(frozen=True)
class Loaded:
    """Everything that a conversation needs."""

    session: PlaySession
    opened: Opened
    host: Playhouse
    notes: list[str]
    """What was chosen and what does not work, for the player."""


def load_session(arguments: argparse.Namespace, published: Published, config: PlayConfig) -> Loaded:
    """Load everything and open the conversation. Blocks for as long as the models take.

    Raises:
        LabError: A model or the session cannot be opened; what was opened before is closed again.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when transformers is imported; bars would cross the prompt
    host = Playhouse(published, config, arguments.store / "sessions")
    is_batch = arguments.text is not None or arguments.script is not None
    notes: list[str] = []
    try:
        opened = host.begin(arguments.session) if is_batch else host.open(arguments.session, None)
    except StorageError as error:
        opened = host.begin(None)
        notes.append(tr(f"저장하지 않고 시작합니다: {error}", f"this conversation is not saved: {error}"))
    try:
        engines, spoken = _load_engines(arguments, published, config, opened)
    except BaseException:
        opened.timeline.close()
        raise
    notes += [*spoken, *describe_opened(opened)]
    return Loaded(PlaySession(opened.scene, engines, config, opened.timeline), opened, host, notes)


def describe_opened(opened: Opened) -> list[str]:
    """Say which conversation is open."""
    archive = opened.timeline.archive
    if archive is None:
        return []
    note = tr(f"대화 이름: {archive.path.stem}", f"session {archive.path.stem}")
    if count := len(opened.timeline.tree.path()):
        note += tr(f" ({count}번의 대화를 이어 갑니다)", f", going on after {count} exchanges")
    return [note, *_damage(archive)]


def _damage(archive: Archive) -> list[str]:
    if archive.salvaged is None:
        return []
    return [
        tr(
            f"대화 파일이 손상되어 {archive.salvaged} 에 따로 두고, 읽을 수 있는 것으로 이어 갑니다.",
            f"the conversation's file was damaged; it is kept as {archive.salvaged}, and what could be read goes on",
        )
    ]


def _load_engines(arguments: argparse.Namespace, published: Published, config: PlayConfig, opened: Opened) -> tuple[Engines, list[str]]:
    """Load the models here and start the voice beside them: each takes a second or more."""
    from rplab.cli.play_models import open_reply_model, open_translator, warm_up

    def start_speaker() -> Loudspeaker:
        if not config.speak:
            return Loudspeaker(None, None, ())
        return open_speaker(config, published.voice, choice=arguments.voice, wav=_turn_wav(arguments))

    with ThreadPoolExecutor(1) as pool:
        speaking = pool.submit(start_speaker)
        try:
            model, translator = open_reply_model(published, config), open_translator(published)
            prompt = opened.timeline.compose("", model.count, model.context_tokens - config.sampling.max_new_tokens)
            warm_up(model, translator, prompt if prompt is not None else [{"role": "user", "content": ""}])
        except BaseException:
            _close(speaking.result())
            raise
        speaker = speaking.result()
    reopen: Any = None
    if speaker.voice is not None and arguments.wav is None:
        rate_hz = speaker.voice.sample_rate
        reopen = lambda: reopen_sink(config, rate_hz)  # noqa: E731 - a name would say no more
    return Engines(model, translator, speaker.voice, speaker.sink, reopen), list(speaker.notes)


def _turn_wav(arguments: argparse.Namespace) -> Path | None:
    """The file of the one turn; a script writes its whole sound at the end."""
    return arguments.wav if arguments.text is not None else None


def _close(speaker: Loudspeaker) -> None:
    for part in (speaker.sink, speaker.voice):
        if part is not None:
            part.close()
