"""Find a published character and its models, before anything heavy is loaded.

`<store>/latest/character/character.json` names the card and two artefacts; their models lie at
`<store>/<stage>/<key>/model`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rplab.character import Card, load_card, parse_card
from rplab.errors import ConfigError
from rplab.llm.model_folder import check_model_folder
from rplab.play.config import PlayConfig

CHARACTER_FILE = "character.json"


@dataclass(frozen=True)
class Published:
    """A character that can be played."""

    card: Card
    rp_model: Path
    """Folder of the role-play model."""
    translator: Path
    """Folder of the translator."""
    voice: Path | None = None
    """Folder of the character's own voice."""
    pack: str = "v7"
    """Recipe whose system text the model was trained on."""
    play: PlayConfig = field(default_factory=PlayConfig)
    """How the character was made to be played."""


def find_character(store: Path, *, folder: Path | None = None, card: str | None = None) -> Published:
    """Return what to load.

    Args:
        store: Root of the store.
        folder: Folder that holds a character.json; the latest one of the store when None.
        card: Play this card (name or YAML file) with the character's models instead of its own.

    Raises:
        ConfigError: There is no character, its file is broken, or the card is wrong.
        ModelError: A model folder is missing or incomplete; named with what to do.
    """
    home = folder if folder is not None else store / "latest" / "character"
    data = _read(home / CHARACTER_FILE, store, named=folder is not None)
    try:
        models = {name: _model_folder(store, home, str(data[name]["stage"]), str(data[name]["key"])) for name in ("rp_model", "translator")}
        own = parse_card(data["card"], home / CHARACTER_FILE)
    except (KeyError, TypeError):
        raise ConfigError(f"{home / CHARACTER_FILE}: not a character file. Run `rplab run` to make it again") from None
    for path in models.values():
        check_model_folder(path)
    try:
        play = PlayConfig.model_validate(data.get("play", {}))
    except ValidationError as error:
        raise ConfigError(f"{home / CHARACTER_FILE}: play: {error.errors()[0]['msg']}. Run `rplab run` to make it again") from None
    return Published(
        card=load_card(card) if card else own,
        rp_model=models["rp_model"],
        translator=models["translator"],
        voice=_voice_folder(store, home, data.get("voice")),
        pack=str(data.get("pack", "v7")),
        play=play,
    )


def _voice_folder(store: Path, home: Path, voice: Any) -> Path | None:
    """Return the folder of the character's voice; it is opened, and replaced when it does not work, by whoever speaks."""
    if not isinstance(voice, dict):
        return None
    return _artefact_folder(store, home, str(voice.get("stage")), str(voice.get("key")), "voice")


def _read(path: Path, store: Path, *, named: bool) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if named:
            raise ConfigError(f"{path}: no such file. Give --character a folder that holds a {CHARACTER_FILE}") from None
        raise ConfigError(f"no character in {store}; run `make demo` or `rplab run` first, or name another store with --store") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Run `rplab run` to make it again") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: not a character file. Run `rplab run` to make it again")
    return data


def _model_folder(store: Path, home: Path, stage: str, key: str) -> Path:
    return _artefact_folder(store, home, stage, key, "model")


def _artefact_folder(store: Path, home: Path, stage: str, key: str, name: str) -> Path:
    """Return a folder of an artefact: in the store, or in the store that the character's own folder lies in."""
    inside = Path(stage) / key / name
    if any(part in ("", "..", "/") for part in (stage, key)) or inside.is_absolute() or len(inside.parts) != 3:
        raise ConfigError(f"{home / CHARACTER_FILE}: {stage}/{key} is no artefact name. Run `rplab run` to make it again")
    beside = home.resolve().parent.parent / inside
    return beside if beside.is_dir() and not (store / inside).is_dir() else store / inside
