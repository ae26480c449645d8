"""Build what `rplab play` speaks with: the voice process and the sound device, and what to do where one does not work.

Nothing here is imported before the prompt is shown; the voice process starts beside the loading of the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rplab.errors import AudioError, LabError
from rplab.l10n import tr
from rplab.play.audio import AudioSink, WavSink, open_sink
from rplab.play.config import PlayConfig
from rplab.play.voice_process import VoiceProcess
from rplab.tts.config import VoiceConfig
from rplab.tts.engine import VoiceEngine

EMBEDDED = "openjtalk"
OWN = "own"


@dataclass(frozen=True)
class Loudspeaker:
    """A voice and where it sounds; both None where neither works."""

    voice: VoiceEngine | None
    sink: AudioSink | None
    notes: tuple[str, ...]
    """What was chosen and why, for the player."""


def plan_voices(
    config: PlayConfig, own: Path | None, *, choice: str = "", extra: Mapping[str, Path] | None = None
) -> dict[str, VoiceConfig]:
    """Return the voices to keep warm, the one to speak with first.

    Args:
        config: Settings of the session.
        own: Folder of the character's own voice; used unless the settings name an engine.
        choice: Name of the voice to begin with: own, openjtalk, one of `extra`, or a folder.
        extra: Further voices by name.
    """
    settings = config.voice
    voices: dict[str, VoiceConfig] = {}
    if settings.engine == "onnx" and settings.folder:
        voices[OWN] = settings
    elif own is not None and "engine" not in settings.model_fields_set:
        voices[OWN] = settings.model_copy(update={"engine": "onnx", "folder": str(own)})
    for name, folder in (extra or {}).items():
        voices[name] = settings.model_copy(update={"engine": "onnx", "folder": str(folder), "style": ""})
    if choice and choice not in (*voices, EMBEDDED, OWN):
        voices = {Path(choice).name: settings.model_copy(update={"engine": "onnx", "folder": choice, "style": ""}), **voices}
        choice = next(iter(voices))
    if not voices or choice == EMBEDDED:
        embedded = settings.model_copy(update={"engine": "openjtalk", "folder": ""})
        return {EMBEDDED: embedded, **voices}
    if choice in voices:
        return {choice: voices[choice], **voices}
    return voices


def open_speaker(
    config: PlayConfig, own: Path | None = None, *, choice: str = "", wav: Path | None = None, out: Path = Path("out")
) -> Loudspeaker:
    """Start the voice process and open the sound device.

    A voice that does not work is replaced by the embedded one; without any voice or device the session goes on in text.

    Args:
        config: Settings of the session.
        own: Folder of the character's own voice.
        choice: See `plan_voices`.
        wav: Write the speech of every turn into this file instead.
        out: Folder for WAV files where there is no sound device.
    """
    notes: list[str] = []
    voices = plan_voices(config, own, choice=choice)
    voice: VoiceProcess | None = None
    try:
        voice = VoiceProcess(voices)
    except LabError as error:
        if list(voices) != [EMBEDDED]:
            notes.append(
                tr(f"이 음성을 쓸 수 없어 내장 음성으로 말합니다: {error}", f"the embedded voice speaks, this one does not work: {error}")
            )
            voices = {EMBEDDED: config.voice.model_copy(update={"engine": "openjtalk", "folder": "", "style": ""})}
            try:
                voice = VoiceProcess(voices)
            except LabError as second:
                error = second
        if voice is None:
            return Loudspeaker(None, None, (*notes, tr(f"소리 없이 시작합니다: {error}", f"going on without sound: {error}")))
    try:
        sink, note = _open(config, voice.sample_rate, wav, out)
    except AudioError as error:
        voice.close()
        return Loudspeaker(None, None, (*notes, tr(f"소리 없이 시작합니다: {error}", f"going on without sound: {error}")))
    return Loudspeaker(voice, sink, (*notes, note) if note else tuple(notes))


def reopen_sink(config: PlayConfig, rate_hz: int, out: Path = Path("out")) -> tuple[AudioSink, str]:
    """Open the sound again after the device was taken away; see `Engines.reopen_sink`. Raises AudioError."""
    return _open(config, rate_hz, None, out)


def _open(config: PlayConfig, rate_hz: int, wav: Path | None, out: Path) -> tuple[AudioSink, str]:
    if wav is not None:
        return WavSink(rate_hz, lambda: wav, name=f"wav ({wav})"), ""
    return open_sink(config.sink, rate_hz, max_buffered_s=config.max_buffered_s, out=out, device=config.device)
