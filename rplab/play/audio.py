"""Where sound goes: one small protocol, and the sinks that need no device.

`open_sink("auto")` tries sounddevice, miniaudio and ffplay (rplab.play.devices) and ends at WAV files, which always work;
it says in one line what it chose and why not the others. Missing libraries and missing sound cards are ordinary here.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rplab.errors import AudioError, LabError
from rplab.l10n import tr
from rplab.tts.engine import Samples
from rplab.tts.wav import write_wav

logger = logging.getLogger(__name__)


class AudioSink(Protocol):
    """Plays mono samples in order. `write` may wait; everything else returns at once, except `drain` and `close`."""

    @property
    def name(self) -> str:
        """Kind and device, for people."""
        ...

    @property
    def sample_rate(self) -> int:
        """Frames per second (Hz)."""
        ...

    @property
    def latency_s(self) -> float:
        """Seconds from `write` into an empty sink until the sound leaves it."""
        ...

    @property
    def played_frames(self) -> int:
        """Frames played since the sink was opened."""
        ...

    @property
    def underruns(self) -> int:
        """How often the sink ran empty in the middle of speech."""
        ...

    def write(self, samples: Samples) -> bool:
        """Play samples after what is already there; waits while the buffer is full. False: dropped by `clear`.

        Raises:
            AudioError: The device is gone.
        """
        ...

    def finish(self) -> None:
        """Say that a turn's speech is complete."""
        ...

    def clear(self) -> None:
        """Stop at once and drop what waits."""
        ...

    def drain(self, timeout_s: float) -> bool:
        """Wait until all was played; False when that took longer."""
        ...

    def close(self) -> None:
        """Give the device back. Calling it twice is fine."""
        ...


class NullSink:
    """Takes everything, plays nothing, needs no time."""

    latency_s = 0.0
    underruns = 0

    def __init__(self, rate_hz: int) -> None:
        """Start at frame 0."""
        self.sample_rate = rate_hz
        self.name = "null"
        self.played_frames = 0

    def write(self, samples: Samples) -> bool:
        """Count the frames."""
        self.played_frames += len(samples)
        return True

    def finish(self) -> None:
        """Nothing waits."""

    def clear(self) -> None:
        """Nothing waits."""

    def drain(self, timeout_s: float) -> bool:  # noqa: ARG002 - the protocol's parameter
        """Nothing waits."""
        return True

    def close(self) -> None:
        """Nothing to give back."""


class WavSink(NullSink):
    """Writes one WAV file a turn, when the turn's speech is complete."""

    def __init__(self, rate_hz: int, next_path: Callable[[], Path], *, name: str = "wav") -> None:
        """Start without a file.

        Args:
            rate_hz: Frames per second.
            next_path: Gives the file of the turn that is complete.
            name: For people.
        """
        super().__init__(rate_hz)
        self.name = name
        self.last_path: Path | None = None
        self._next_path = next_path
        self._parts: list[Samples] = []

    def write(self, samples: Samples) -> bool:
        """Keep the samples for the file."""
        self._parts.append(samples)
        return super().write(samples)

    def finish(self) -> None:
        """Write the file; without speech there is none. Raises StorageError when the disk refuses."""
        parts, self._parts = self._parts, []
        if parts:
            path = self._next_path()
            write_wav(path, parts, self.sample_rate)
            self.last_path = path

    def clear(self) -> None:
        """Drop what the turn has so far."""
        self._parts = []

    def close(self) -> None:
        """Write what is left."""
        self.finish()


def numbered_paths(folder: Path) -> Callable[[], Path]:
    """Return a function that gives `turn-001.wav`, `turn-002.wav`, ... in `folder`, never an existing file."""
    number = 0

    def next_path() -> Path:
        nonlocal number
        number += 1
        while (folder / f"turn-{number:03d}.wav").exists():
            number += 1
        return folder / f"turn-{number:03d}.wav"

    return next_path


_DEVICES = {"sounddevice": "SounddeviceSink", "miniaudio": "MiniaudioSink", "ffplay": "FfplaySink"}


def open_sink(kind: str, rate_hz: int, *, max_buffered_s: float = 12.0, out: Path = Path("out"), device: str = "") -> tuple[AudioSink, str]:
    """Open a sink and say in one line what it is.

    Args:
        kind: auto, sounddevice, miniaudio, ffplay, wav or null.
        rate_hz: Frames per second of the voice.
        max_buffered_s: Most sound that waits to be played, seconds.
        out: Folder of WAV files.
        device: Part of the device's name, or its number in `list_output_devices`; empty is the system's default.

    Raises:
        AudioError: A device was asked for by name and does not work here.
    """
    if kind == "null":
        return NullSink(rate_hz), tr("소리를 내지 않습니다.", "Sound is discarded.")
    reasons: list[str] = []
    for name in _DEVICES if kind == "auto" else (kind,):
        if name == "wav":
            break
        try:
            sink = _open_device(name, rate_hz, max_buffered_s, device)
        except AudioError as error:
            if kind != "auto":
                raise
            reasons.append(f"{name}: {error}")
            continue
        return sink, tr(f"소리 출력: {sink.name}", f"Sound goes to {sink.name}.")
    for reason in reasons:
        logger.info("no sound through %s", reason)
    why = tr("소리 장치가 없어 ", "No sound device, so ") if reasons else ""
    return WavSink(rate_hz, numbered_paths(out), name=f"wav ({out})"), why + tr(
        f"음성을 {out}/turn-NNN.wav 파일로 저장합니다.", f"speech is saved as {out}/turn-NNN.wav."
    )


@dataclass(frozen=True)
class OutputDevice:
    """A place where sound can go."""

    number: int
    """For `--device`."""
    sink: str
    """Which kind of sink finds it: sounddevice or miniaudio."""
    name: str
    is_default: bool = False


def list_output_devices() -> list[OutputDevice]:
    """Return the output devices of this machine; empty where neither library finds one."""
    module: Any = importlib.import_module("rplab.play.devices")
    found: list[OutputDevice] = []
    for kind, finder in (("sounddevice", module.find_sounddevice_outputs), ("miniaudio", module.find_miniaudio_outputs)):
        try:
            with _quiet_libraries():
                names: list[tuple[str, bool]] = finder()
        except Exception as error:  # noqa: BLE001 - a library that is missing or broken has no devices
            logger.info("no devices through %s: %s", kind, error)
            continue
        found += [OutputDevice(len(found) + place, kind, name, is_default) for place, (name, is_default) in enumerate(names)]
    return found


def _pick_device(kind: str, device: str) -> str:
    """Return the name of the device that the player means.

    Raises:
        AudioError: There is none; names those that are there.
    """
    devices = [found for found in list_output_devices() if found.sink == kind]
    wanted = device.strip().casefold()
    for found in devices:
        if wanted == str(found.number) or wanted == found.name.casefold():
            return found.name
    for found in devices:
        if wanted in found.name.casefold():
            return found.name
    names = ", ".join(f"{found.number} {found.name}" for found in devices) or "none"
    raise AudioError(f"no output device {device!r} for {kind}. Use one of: {names}")


def _open_device(name: str, rate_hz: int, max_buffered_s: float, device: str = "") -> AudioSink:
    try:
        factory = getattr(importlib.import_module("rplab.play.devices"), _DEVICES[name])
        options = {"device": _pick_device(name, device)} if device and name != "ffplay" else {}
        with _quiet_libraries():
            sink: AudioSink = factory(rate_hz, max_buffered_s, **options)
    except LabError:
        raise
    except Exception as error:
        raise AudioError(f"{name} does not work here ({error}). Use --sink auto or --sink wav") from error
    return sink


@contextlib.contextmanager
def _quiet_libraries() -> Generator[None]:
    """Send file descriptor 2 to nowhere for a moment: ALSA prints twenty lines for every device that is not there."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
