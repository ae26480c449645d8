"""WAV files: 16-bit mono PCM through the standard library, written atomically."""

from __future__ import annotations

import contextlib
import os
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rplab.errors import DataError
from rplab.jsonl import storage_error
from rplab.tts.engine import Samples


def to_pcm16(samples: Samples) -> bytes:
    """Return samples within -1..1 as little-endian 16-bit PCM; what lies outside is clipped."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes()


def write_wav(path: Path, samples: Samples | Iterable[Samples], rate_hz: int) -> float:
    """Write mono samples to `path` and return their length in seconds. The file is there whole or not at all.

    Args:
        path: Target; missing folders are made.
        samples: One array or several in order.
        rate_hz: Frames per second.

    Raises:
        StorageError: The disk is full or the folder cannot be written; `path` is unchanged then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    frames = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            with wave.open(handle, "wb") as writer:
                writer.setnchannels(1)
                writer.setsampwidth(2)
                writer.setframerate(rate_hz)
                for part in (samples,) if isinstance(samples, np.ndarray) else samples:
                    writer.writeframes(to_pcm16(part))
                    frames += len(part)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise storage_error(error, path) from error
    except BaseException:
        _remove(temporary)
        raise
    return frames / rate_hz


def read_wav(path: Path) -> tuple[Samples, int]:
    """Read a 16-bit PCM file as `(mono samples, frames per second)`; channels are averaged.

    Raises:
        DataError: No such file, not a WAV file, or not 16-bit PCM.
    """
    try:
        with wave.open(str(path), "rb") as reader:
            if reader.getsampwidth() != 2:
                raise DataError(f"{8 * reader.getsampwidth()}-bit audio; 16-bit PCM is needed", file=path)
            channels, rate = reader.getnchannels(), reader.getframerate()
            raw = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2")
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="Check the path") from None
    except (wave.Error, EOFError) as error:
        raise DataError(f"not a PCM WAV file ({error})", file=path) from None
    return (raw.reshape(-1, channels).mean(axis=1) / 32768.0).astype(np.float32), rate


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the folder itself may be no folder
        path.unlink()
