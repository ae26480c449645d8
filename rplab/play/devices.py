"""Sinks that make sound: sounddevice (PortAudio), miniaudio, and one ffplay process fed on its standard input.

Opening one raises whatever its library raises; `rplab.play.audio.open_sink` turns that into "not here". The library is
imported when the sink is opened, since PortAudio is missing on many servers.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

from rplab.errors import AudioError
from rplab.play.ring import PcmRing
from rplab.tts.engine import Samples
from rplab.tts.wav import to_pcm16


class RingSink:
    """What the callback-driven sinks share: everything but opening and closing the device."""

    name = "device"
    latency_s = 0.0

    def __init__(self, rate_hz: int, max_buffered_s: float) -> None:
        self.sample_rate = rate_hz
        self._ring = PcmRing(rate_hz, max_buffered_s)

    @property
    def played_frames(self) -> int:
        """Frames played since the sink was opened."""
        return self._ring.played_frames

    @property
    def underruns(self) -> int:
        """How often the callback ran empty in the middle of speech."""
        return self._ring.underruns

    @property
    def buffered_s(self) -> float:
        """Sound that waits to be played, seconds; for the status bar."""
        return self._ring.buffered_frames / self.sample_rate

    def write(self, samples: Samples) -> bool:
        """See `AudioSink.write`."""
        return self._ring.write(samples)

    def finish(self) -> None:
        """See `AudioSink.finish`."""
        self._ring.finish()

    def clear(self) -> None:
        """See `AudioSink.clear`."""
        self._ring.clear()

    def drain(self, timeout_s: float) -> bool:
        """See `AudioSink.drain`."""
        drained = self._ring.drain(timeout_s)
        if drained:
            time.sleep(self.latency_s)  # the last block is still in the device
        return drained


class SounddeviceSink(RingSink):
    """An output through PortAudio; the system's default when none is named."""

    def __init__(self, rate_hz: int, max_buffered_s: float, *, device: str = "") -> None:
        """Open and start the stream, so that the first sentence finds it warm."""
        super().__init__(rate_hz, max_buffered_s)
        sounddevice: Any = importlib.import_module("sounddevice")
        self._stream = sounddevice.OutputStream(
            samplerate=rate_hz, channels=1, dtype="float32", latency="low", device=device or None, callback=self._callback
        )
        self._stream.start()
        self.latency_s = float(self._stream.latency)
        about: Any = sounddevice.query_devices(self._stream.device)
        self.name = f"sounddevice ({about['name']})"

    def write(self, samples: Samples) -> bool:
        """See `AudioSink.write`; a stream that stopped means that the device was taken away."""
        if not self._stream.active:
            raise AudioError("the sound device is gone. Plug it in again, or restart with --sink wav")
        return super().write(samples)

    def close(self) -> None:
        """Stop the stream."""
        self._ring.close()
        self._stream.close()

    def _callback(self, out: Any, frames: int, _time: object, _status: object) -> None:
        out[:, 0] = self._ring.read(frames)


class MiniaudioSink(RingSink):
    """The system's default output through miniaudio, which brings its own backends."""

    latency_s = 0.03

    def __init__(self, rate_hz: int, max_buffered_s: float, *, device: str = "", backends: Sequence[Any] = ()) -> None:
        """Open and start the device.

        Args:
            rate_hz: Frames per second.
            max_buffered_s: Most sound that waits, seconds.
            device: Name of the device; the system's default when empty.
            backends: miniaudio backends to try; its own order when empty. Only tests name the silent NULL backend.
        """
        super().__init__(rate_hz, max_buffered_s)
        miniaudio: Any = importlib.import_module("miniaudio")
        chosen = next((entry["id"] for entry in miniaudio.Devices().get_playbacks() if entry["name"] == device), None) if device else None
        self._device = miniaudio.PlaybackDevice(
            device_id=chosen,
            output_format=miniaudio.SampleFormat.SIGNED16,
            nchannels=1,
            sample_rate=rate_hz,
            buffersize_msec=30,
            backends=list(backends) or None,
            app_name="rplab",
        )
        if self._device.backend == "Null" and not backends:
            self._device.close()
            raise AudioError("miniaudio finds no sound device")
        self.name = f"miniaudio ({self._device.backend})"
        frames = self._frames()
        next(frames)
        self._device.start(frames)

    def close(self) -> None:
        """Stop the device."""
        self._ring.close()
        self._device.close()

    def _frames(self) -> Generator[bytes, int, None]:
        wanted = yield b""
        while True:
            wanted = yield to_pcm16(self._ring.read(wanted))


def find_sounddevice_outputs() -> list[tuple[str, bool]]:
    """Return the names of PortAudio's outputs and whether each is the default."""
    sounddevice: Any = importlib.import_module("sounddevice")
    default = sounddevice.default.device[1]
    return [(str(entry["name"]), entry["index"] == default) for entry in sounddevice.query_devices() if entry["max_output_channels"] > 0]


def find_miniaudio_outputs() -> list[tuple[str, bool]]:
    """Return the names of miniaudio's outputs; it does not say which is the default."""
    miniaudio: Any = importlib.import_module("miniaudio")
    return [(str(entry["name"]), False) for entry in miniaudio.Devices().get_playbacks()]


class FfplaySink:
    """One ffplay process that reads PCM from a pipe. It tells no clock: what was played is reckoned from wall time."""

    latency_s = 0.15
    underruns = 0

    def __init__(self, rate_hz: int, max_buffered_s: float) -> None:
        """Look for ffplay; the process starts with the first sound.

        Raises:
            AudioError: There is no ffplay.
        """
        program = shutil.which("ffplay")
        if program is None:
            raise AudioError("ffplay is not installed")
        self.name = "ffplay"
        self.sample_rate = rate_hz
        self._command = [
            program, "-nodisp", "-loglevel", "quiet", "-probesize", "32", "-analyzeduration", "0",
            "-f", "s16le", "-sample_rate", str(rate_hz), "-i", "pipe:0",
        ]  # fmt: skip
        self._max_buffered_s = max_buffered_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._epoch = 0
        self._written = 0
        self._ends_at = 0.0

    @property
    def played_frames(self) -> int:
        """Frames that must have left by now."""
        waiting = max(0.0, self._ends_at - time.monotonic())
        return max(0, self._written - round(waiting * self.sample_rate))

    def write(self, samples: Samples) -> bool:
        """See `AudioSink.write`."""
        epoch = self._epoch
        while self._ends_at - time.monotonic() > self._max_buffered_s:
            time.sleep(0.02)
            if epoch != self._epoch:
                return False
        pipe = self._start()
        try:
            pipe.write(to_pcm16(samples))
            pipe.flush()
        except OSError as error:
            if epoch != self._epoch:
                return False
            self._kill()
            raise AudioError(f"ffplay ended ({error}). Check that it can play here, or restart with --sink wav") from error
        self._written += len(samples)
        self._ends_at = max(self._ends_at, time.monotonic() + self.latency_s) + len(samples) / self.sample_rate
        return True

    def finish(self) -> None:
        """Nothing to do: the pipe stays open for the next turn."""

    def clear(self) -> None:
        """Kill the process, the only way to stop it at once; the next sound starts another."""
        self._written = self.played_frames
        self._epoch += 1
        self._ends_at = 0.0
        self._kill()

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything must have been played."""
        waiting = self._ends_at - time.monotonic()
        time.sleep(max(0.0, min(waiting, timeout_s)))
        return waiting <= timeout_s

    def close(self) -> None:
        """End the process."""
        self._epoch += 1
        self._kill()

    def _start(self) -> Any:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
                )
            return self._process.stdin

    def _kill(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            try:
                process.stdin.close()
            except OSError:
                return  # what the pipe still held is meant to be lost
