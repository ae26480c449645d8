"""The buffer between the voice and the loudspeaker's callback.

The writer (voice thread) waits while too much is buffered; the reader (audio callback) never waits: when nothing is there it
gets silence, and a stall in the middle of speech is counted once. `clear` takes effect within one callback and wakes a
waiting writer.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from rplab.tts.engine import Samples

FADE_S = 0.005
"""A cut in the middle of a wave clicks; so short a fade does not."""


class PcmRing:
    """Samples in order, with a played-frames clock."""

    def __init__(self, rate_hz: int, max_buffered_s: float) -> None:
        """Start empty.

        Args:
            rate_hz: Frames per second.
            max_buffered_s: Most sound that waits, seconds.
        """
        self._parts: deque[Samples] = deque()
        self._capacity = round(max_buffered_s * rate_hz)
        self._fade_frames = round(FADE_S * rate_hz)
        self._changed = threading.Condition()
        self._buffered = 0
        self._epoch = 0
        self._is_closed = False
        self._mid_speech = False
        self._stalled = False
        self.played_frames = 0
        self.underruns = 0

    @property
    def buffered_frames(self) -> int:
        """Frames that wait to be played."""
        return self._buffered

    def write(self, samples: Samples) -> bool:
        """Append samples; wait while the buffer is full. Returns False when `clear` or `close` dropped them."""
        with self._changed:
            epoch = self._epoch
            while self._buffered >= self._capacity and epoch == self._epoch and not self._is_closed:
                self._changed.wait()
            if epoch != self._epoch or self._is_closed:
                return False
            if len(samples):
                self._parts.append(samples)
                self._buffered += len(samples)
                self._mid_speech = True
            return True

    def finish(self) -> None:
        """Say that speech is complete: running empty from here on is no underrun."""
        with self._changed:
            self._mid_speech = False
            self._changed.notify_all()

    def clear(self) -> None:
        """Drop what waits except a short fade, and let waiting writers go."""
        with self._changed:
            self._epoch += 1
            tail = np.concatenate(list(self._parts)) if self._parts else np.zeros(0, dtype=np.float32)
            tail = tail[: self._fade_frames].copy()
            tail *= np.linspace(1.0, 0.0, len(tail), dtype=np.float32)
            self._parts.clear()
            if len(tail):
                self._parts.append(tail)
            self._buffered = len(tail)
            self._mid_speech = False
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def read(self, frames: int) -> Samples:
        """Return exactly `frames` samples, silence where there are none. Never waits for a writer."""
        out = np.zeros(frames, dtype=np.float32)
        filled = 0
        with self._changed:
            while filled < frames and self._parts:
                part = self._parts[0]
                count = min(frames - filled, len(part))
                out[filled : filled + count] = part[:count]
                filled += count
                if count == len(part):
                    self._parts.popleft()
                else:
                    self._parts[0] = part[count:]
            self._buffered -= filled
            self.played_frames += filled
            is_short = filled < frames and self._mid_speech
            if is_short and not self._stalled:
                self.underruns += 1
            self._stalled = is_short
            self._changed.notify_all()
        return out

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything was played; False when that took longer than `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._buffered == 0 or self._is_closed, timeout_s)
