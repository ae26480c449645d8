"""Write a conversation to files: everything as JSON lines, what was spoken as WAV, its words as subtitles.

WAV and SRT share one time line: sentences in order, pauses between them. The sound is made anew from the saved Japanese
with the style it was spoken in, so every turn is whole, also one that was interrupted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rplab.errors import LabError
from rplab.jsonl import dumps, storage_error
from rplab.play.command import refuse
from rplab.play.session import PlaySession
from rplab.play.timeline import Timeline
from rplab.play.tree import Node
from rplab.tts.engine import Samples, VoiceEngine
from rplab.tts.signal import silence
from rplab.tts.wav import write_wav

EXPORTS = ("wav", "srt", "jsonl")
_SENTENCE_PAUSE_S, _TURN_PAUSE_S = 0.35, 0.9
_READING_CHARS_PER_S = 7.0
"""Length of a subtitle whose sound is not known (Japanese, spoken)."""


@dataclass(frozen=True)
class Cue:
    """A sentence on the time line, seconds."""

    starts_s: float
    ends_s: float
    ko: str
    ja: str


async def export(kind: str, path: Path, session: PlaySession, timeline: Timeline) -> list[Path]:
    """Write the branch that leads to the head (jsonl: the whole tree); returns the files.

    Args:
        kind: wav (with an srt beside it), srt or jsonl.
        path: The file; its folder is made.
        session: Its voice speaks.
        timeline: What was said.

    Raises:
        ConfigError: There is nothing to write, or no voice for it.
        StorageError: The disk refuses.
    """
    if kind == "jsonl":
        rows = describe_tree(timeline)
        if len(rows) == 1:
            raise refuse("아직 쓸 대화가 없습니다.", "there is nothing to write yet")
        return [_write(path, "".join(dumps(row) + "\n" for row in rows))]
    path_nodes = timeline.tree.path()
    if not any(node.lines for node in path_nodes):
        raise refuse("번역된 대사가 아직 없습니다.", "there is no translated speech yet")
    if kind == "srt":
        return [_write(path, render_srt(place_cues(path_nodes)))]
    voice = session.engines.voice
    if voice is None:
        raise refuse("목소리 없이 시작해서 소리를 만들 수 없습니다.", "this session has no voice to make the sound with")
    settings = session.config.voice
    samples, cues = await asyncio.to_thread(speak_again, path_nodes, voice, settings.speed, settings.pitch)
    write_wav(path, samples, voice.sample_rate)
    return [path, _write(path.with_suffix(".srt"), render_srt(cues))]


def describe_tree(timeline: Timeline) -> list[dict[str, Any]]:
    """Return the conversation as rows: a header, then every exchange of every branch."""
    on_path = {node.id for node in timeline.tree.path()}
    world = timeline.prompter.world
    header = {
        "type": "session",
        "version": 2,
        "id": timeline.archive.path.stem if timeline.archive is not None else None,
        "character": world.character,
        "player": world.player,
        "greeting": world.greeting,
        "head": timeline.tree.head,
        "places": timeline.tree.names,
        "memory": [
            {"id": slot.id, "turn": slot.turn, "score": round(slot.score, 4), **vars(slot.candidate)} for slot in timeline.prompter.slots()
        ],
    }
    return [header, *({"type": "turn", **vars(node), "on_path": node.id in on_path} for node in timeline.tree)]


def place_cues(nodes: Sequence[Node]) -> list[Cue]:
    """Lay the saved sentences on a time line, by the lengths that were measured when they were spoken."""
    cues: list[Cue] = []
    now = 0.0
    for node in nodes:
        for line in node.lines:
            seconds = float(line.get("audio_s") or 0.0) or max(1.0, len(line["ja"]) / _READING_CHARS_PER_S)
            cues.append(Cue(now, now + seconds, str(line.get("ko", "")), str(line["ja"])))
            now += seconds + _SENTENCE_PAUSE_S
        now += (_TURN_PAUSE_S - _SENTENCE_PAUSE_S) if node.lines else 0.0
    return cues


def speak_again(nodes: Sequence[Node], voice: VoiceEngine, speed: float, pitch: float) -> tuple[Samples, list[Cue]]:
    """Return the sound of all sentences and where each stands in it; one that cannot be spoken any more is a silent cue."""
    parts: list[Samples] = []
    cues: list[Cue] = []
    frames = 0
    for node in nodes:
        for line in node.lines:
            try:
                sound = voice.synthesise(str(line["ja"]), speed=speed, pitch=pitch, style=_style(voice, str(line.get("style") or "")))
            except LabError:
                sound = silence(1.0, voice.sample_rate)
            starts_s = frames / voice.sample_rate
            last = line is node.lines[-1]
            pause = silence(_TURN_PAUSE_S if last else _SENTENCE_PAUSE_S, voice.sample_rate)
            parts += [sound, pause]
            cues.append(Cue(starts_s, starts_s + len(sound) / voice.sample_rate, str(line.get("ko", "")), str(line["ja"])))
            frames += len(sound) + len(pause)
    return np.concatenate(parts) if parts else silence(0.1, voice.sample_rate), cues


def _style(voice: VoiceEngine, style: str) -> str:
    return style if style in voice.styles else ""


def render_srt(cues: Sequence[Cue]) -> str:
    """Return subtitles: Korean above Japanese.

    Example:
        >>> print(render_srt([Cue(0.0, 1.5, "왔구나.", "来たんだね。")]).strip())
        1
        00:00:00,000 --> 00:00:01,500
        왔구나.
        来たんだね。
    """
    blocks = (
        f"{number}\n{_clock(cue.starts_s)} --> {_clock(cue.ends_s)}\n" + "\n".join(text for text in (cue.ko, cue.ja) if text) + "\n"
        for number, cue in enumerate(cues, 1)
    )
    return "\n".join(blocks)


def _clock(seconds: float) -> str:
    total_ms = round(seconds * 1000)
    minutes, ms = divmod(total_ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02},{ms % 1000:03}"


def _write(path: Path, text: str) -> Path:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise storage_error(error, path) from error
    return path
