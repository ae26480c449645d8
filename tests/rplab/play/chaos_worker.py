# ruff: noqa: ARG002 - the voice has the signature of the protocol
"""A voice worker for tests: the real server around a voice that, for one sentence, does what the environment says.

CHAOS_FAULT names the fault; it happens in the third piece of a text, as long as the file CHAOS_FUSE exists (it is removed
by the fault, so that the replacement works), or always when CHAOS_FUSE is not set. CHAOS_FAULT_FILE names a file that holds
the fault instead, for a worker that lives through several.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from rplab.tts import worker

RATE = 8000
PIECES = 6


def sound(text):
    """Return what the voice says for a text, in pieces."""
    return [np.sin(np.arange(800, dtype=np.float32) * (0.01 + 0.001 * (len(text) + n))) * np.float32(0.3) for n in range(PIECES)]


class Voice:
    name, sample_rate, styles = "chaos/test", RATE, ("happy", "sad")

    def stream(self, text, *, speed=1.0, pitch=0.0, style=""):
        for number, piece in enumerate(sound(text)):
            if number == 2 and text != worker._WARM_PHRASE and fail() == "nan":
                yield np.full(4, np.nan, dtype=np.float32)
            if "遅" in text:
                time.sleep(0.1)
            yield piece

    def close(self):
        pass


def fail():
    """Do what was asked for; return the name of a fault that is the voice's own to make."""
    fuse = os.environ.get("CHAOS_FUSE")
    if fuse:
        try:
            Path(fuse).unlink()
        except FileNotFoundError:
            return ""
    written = os.environ.get("CHAOS_FAULT_FILE")
    fault = Path(written).read_text() if written else os.environ.get("CHAOS_FAULT", "")
    frames = int(sys.argv[sys.argv.index("--out") + 1])
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "stall":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "hang":
        time.sleep(3600)
    elif fault == "garbage":
        os.write(frames, b"Traceback (most recent call last):\n" * 3)
    elif fault == "oversized":
        os.write(frames, b"RPV1" + b"\xff" * 8)
    elif fault == "stdout":
        print('{"type": "done"}\n' * 50_000, flush=True)
        print("RPV1" * 100_000, file=sys.stderr, flush=True)
    elif fault == "raise":
        raise ValueError("a bug in the voice")
    elif fault == "exit":
        print("the disk of the model is gone", file=sys.stderr, flush=True)
        os._exit(3)
    return fault


def open_fake(configs):
    if os.environ.get("CHAOS_FAULT") == "start":
        os._exit(4)
    if os.environ.get("CHAOS_FAULT") == "proto":
        worker.PROTOCOL = 99
    return {name: Voice() for name in configs}


if __name__ == "__main__":
    worker.open_voices = open_fake
    sys.exit(worker.main())
