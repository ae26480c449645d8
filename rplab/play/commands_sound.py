"""Commands about what is heard: voice, style, subtitles, mute, replay, device."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pydantic import ValidationError

from rplab.l10n import tr
from rplab.play.audio import list_output_devices, open_sink
from rplab.play.command import Command, refuse

if TYPE_CHECKING:
    from rplab.play.conversation import Conversation
    from rplab.tts.engine import VoiceEngine


@runtime_checkable
class VoiceChoice(Protocol):
    """A voice engine with several warm voices."""

    @property
    def voices(self) -> tuple[str, ...]:
        """Their names."""
        ...

    def choose(self, voice: str) -> None:
        """Speak with another from the next sentence on. Raises LabError with the names."""
        ...


def commands() -> list[Command]:
    """Return the table."""
    return [
        Command(
            ("/voice", "/목소리"),
            tr("[이름 | speed 1.2 | pitch -2]", "[NAME | speed 1.2 | pitch -2]"),
            tr("목소리 보기, 바꾸기, 빠르기, 높낮이", "show or change the voice, its speed, its pitch"),
            _voice,
            ("speed", "pitch"),
        ),
        Command(
            ("/style", "/말투"),
            tr("[이름|auto]", "[NAME|auto]"),
            tr("말투 보기, 고정하기", "show the speaking styles, or keep to one"),
            _style,
        ),
        Command(("/ja", "/일본어"), "[on|off]", tr("일본어 자막", "Japanese subtitles"), _japanese, ("on", "off")),
        Command(("/mute", "/음소거"), "", tr("목소리 끄기·켜기", "voice off or on"), _mute),
        Command(("/replay", "/재생"), "", tr("마지막 대사 다시 듣기", "hear the last reply again"), _replay),
        Command(
            ("/device", "/장치"),
            tr("[번호|이름]", "[N|NAME]"),
            tr("소리 나는 장치 보기, 바꾸기", "show or change where sound goes"),
            _device,
        ),
    ]


def _need_voice(conversation: Conversation) -> VoiceEngine:
    voice = conversation.session.engines.voice
    if voice is None:
        raise refuse("목소리 없이 시작했습니다.", "this session started without a voice")
    return voice


async def _voice(conversation: Conversation, argument: str) -> None:
    voice, settings = _need_voice(conversation), conversation.session.config.voice
    name, _, value = argument.partition(" ")
    if name in ("speed", "pitch"):
        try:
            conversation.session.change_voice(**{name: float(value)})
        except (ValueError, ValidationError):
            low, high = (0.5, 2.0) if name == "speed" else (-12, 12)
            raise refuse(f"{name}: {low}에서 {high} 사이의 수가 필요합니다.", f"{name}: a number from {low} to {high} is needed") from None
        settings = conversation.session.config.voice
    elif argument:
        if not isinstance(voice, VoiceChoice):
            raise refuse("이 목소리뿐입니다.", "there is no other voice")
        voice.choose(argument)
    others = ", ".join(voice.voices) if isinstance(voice, VoiceChoice) else voice.name
    conversation.screen.info(
        tr(
            f"목소리: {voice.name} (있는 것: {others}) · 빠르기 {settings.speed:g} · 높낮이 {settings.pitch:+g}",
            f"voice: {voice.name} (of {others}), speed {settings.speed:g}, pitch {settings.pitch:+g}",
        )
    )


async def _style(conversation: Conversation, argument: str) -> None:
    voice = _need_voice(conversation)
    if argument:
        conversation.session.change_voice(style="" if argument in ("auto", "자동") else argument)
    style = conversation.session.config.voice.style or tr("이야기에 따라 자동", "chosen by the story")
    names = ", ".join(voice.styles) or tr("없음", "none")
    conversation.screen.info(tr(f"말투: {style} (있는 것: {names})", f"style: {style} (of {names})"))


async def _japanese(conversation: Conversation, argument: str) -> None:
    if argument not in ("on", "off", ""):
        raise refuse("/일본어 on 또는 /일본어 off", "/ja on or /ja off")
    screen = conversation.screen
    screen.subtitles = argument == "on" if argument else not screen.subtitles
    screen.info(tr("일본어 자막: ", "Japanese subtitles: ") + ("on" if screen.subtitles else "off"))


async def _mute(conversation: Conversation, _argument: str) -> None:
    session = conversation.session
    speaks = not session.config.speak
    session.config = session.config.model_copy(update={"speak": speaks})
    if not speaks:
        await session.stop()
    conversation.screen.info(tr("목소리를 켰습니다.", "voice on") if speaks else tr("목소리를 껐습니다.", "voice off"))


async def _replay(conversation: Conversation, _argument: str) -> None:
    if not await conversation.session.replay():
        raise refuse("다시 들려줄 소리가 없습니다.", "there is no sound to play again")


async def _device(conversation: Conversation, argument: str) -> None:
    session = conversation.session
    found = await asyncio.to_thread(list_output_devices)
    if not argument:
        now = session.engines.sink.name if session.engines.sink is not None else tr("소리 없음", "no sound")
        lines = [f"{'*' if device.is_default else ' '} {device.number:>3} {device.name} ({device.sink})" for device in found]
        lines.append(tr(f"  지금: {now}", f"  now: {now}"))
        conversation.screen.info("\n".join(lines))
        return
    rate_hz = _need_voice(conversation).sample_rate
    chosen = next((device for device in found if argument in (str(device.number), device.name)), None)
    kind = chosen.sink if chosen is not None else argument if argument in _KINDS else None
    if kind is None:
        raise refuse(f"그런 장치가 없습니다: {argument} (/장치 로 목록)", f"no such device: {argument} (/device lists them)")
    device = str(chosen.number) if chosen is not None else ""
    sink, note = await asyncio.to_thread(open_sink, kind, rate_hz, max_buffered_s=session.config.max_buffered_s, device=device)
    await session.use_sink(sink)
    conversation.screen.info(note or tr(f"소리: {sink.name}", f"sound: {sink.name}"))


_KINDS = ("auto", "sounddevice", "miniaudio", "ffplay", "wav", "null")
