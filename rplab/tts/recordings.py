"""Reading what a user brings: transcript lists and audio files, with every problem named."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rplab.errors import DataError
from rplab.tts.engine import Samples
from rplab.tts.wav import read_wav

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg"})


@dataclass(frozen=True)
class Transcript:
    """One line of a transcript list; or a recording that no line names (line 0)."""

    line: int
    file: str
    """Relative to the folder of recordings, forward slashes; a sub-folder is a style."""
    speaker: str
    text: str
    """Empty when the recording is in no list."""

    @property
    def style(self) -> str:
        """The sub-folder, empty at the top."""
        return self.file.rsplit("/", 1)[0] if "/" in self.file else ""


def read_transcripts(path: Path) -> list[Transcript]:
    """Read lines `file|speaker|language|text`; blank lines are passed over.

    Raises:
        DataError: No such file, not UTF-8, a line of another form, another language than JP, or a file named twice.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="Write one line per recording: file|speaker|JP|text") from None
    except UnicodeDecodeError:
        raise DataError("not UTF-8", file=path, remedy="Save the list as UTF-8") from None
    rows: list[Transcript] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parse(line, path, number)
        if row.file in seen:
            raise DataError(f"{row.file} is named twice (also in line {seen[row.file]})", file=path, line=number, remedy="Keep one of them")
        seen[row.file] = number
        rows.append(row)
    if not rows:
        raise DataError("no transcripts in it", file=path, remedy="Write one line per recording: file|speaker|JP|text")
    return rows


def _parse(line: str, path: Path, number: int) -> Transcript:
    cells = [cell.strip() for cell in line.split("|", 3)]
    if len(cells) != 4 or not all((cells[0], cells[1], cells[3])):
        raise DataError("a line must be file|speaker|language|text", file=path, line=number, remedy="Example: 001.wav|mei|JP|こんにちは。")
    if cells[2].upper() not in ("JP", "JA"):
        raise DataError(f"language {cells[2]!r}; JP-Extra voices speak Japanese", file=path, line=number, remedy="Write JP")
    name = cells[0].replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(f"{name!r} leads out of the folder", file=path, line=number, remedy="Give paths inside the folder of recordings")
    return Transcript(number, name, cells[1], cells[3])


def read_audio(path: Path) -> tuple[Samples, int]:
    """Return mono samples within -1..1 and their rate; 16-bit WAV always, other formats when miniaudio is installed.

    Raises:
        DataError: No such file, empty, or not readable.
    """
    if not path.is_file():
        raise DataError("no such file", file=path, remedy="Check the transcript list")
    try:
        samples, rate = read_wav(path)
    except DataError:
        samples, rate = _decode(path)
    if not len(samples) or not np.isfinite(samples).all():
        raise DataError("no samples in it", file=path, remedy="Record it again")
    return samples, rate


def _decode(path: Path) -> tuple[Samples, int]:
    try:
        player: Any = importlib.import_module("miniaudio")
    except ImportError:
        raise DataError(
            "not 16-bit WAV, and miniaudio is not installed", file=path, remedy="pip install miniaudio, or convert to WAV"
        ) from None
    try:
        rate = int(player.get_file_info(str(path)).sample_rate)
        decoded = player.decode_file(str(path), output_format=player.SampleFormat.FLOAT32, nchannels=1, sample_rate=rate)
    except (player.DecodeError, player.MiniaudioError, OSError, ValueError) as error:
        raise DataError(f"cannot be decoded ({error})", file=path, remedy="Convert it to 16-bit WAV") from None
    return np.array(decoded.samples, dtype=np.float32), rate
