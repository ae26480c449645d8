"""Is what we play what is heard? Every device sink into a PulseAudio null sink, its monitor recorded and looked at.

    python benchmarks/play_audio.py [--sink sounddevice miniaudio ffplay] [--json]        needs: apt install pulseaudio pulseaudio-utils
                                                                                          libasound2-plugins libportaudio2 ffmpeg

A PulseAudio server of its own (no sound card, no session) is started; `parec` records its monitor. Played in two ways:

* tones: five tones of 0.4 s, 0.25 s apart, written as fast as the sink takes them. Onset of the first (from `write` to the
  sample in the recording), the distances between onsets, holes inside of tones.
* a turn: the real session with the embedded voice says three sentences; pauses between them and holes, and that `clear` in
  the middle of a tone is silent within 60 ms.

The recorder's clock starts with its first byte; onset is given against a marker that another client (paplay) plays.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RATE = 48_000
TONE_S, PAUSE_S, TONES = 0.4, 0.25, 5
BLOCK_S = 0.005


class Recorder:
    """Keeps what the null sink plays, with the time at which each piece came."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.pieces: list[tuple[float, np.ndarray[Any, Any]]] = []
        self._process = subprocess.Popen(
            ["parec", "-d", "ci.monitor", "--format=s16le", f"--rate={RATE}", "--channels=1", "--latency-msec=5", "--raw"],
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self.pieces and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self.pieces:
            raise SystemExit("parec records nothing")

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 1 << 16):
            self.pieces.append((time.monotonic(), np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2").astype(np.float32) / 32768))

    def stop(self) -> tuple[np.ndarray[Any, Any], float]:
        """Return the sound and the moment of its first sample, reckoned from the pieces that came earliest."""
        time.sleep(0.3)
        self._process.terminate()
        self._process.wait()
        self._thread.join(2)
        sound = np.concatenate([piece for _, piece in self.pieces])
        end, starts = 0, []
        for moment, piece in self.pieces:
            end += len(piece)
            starts.append(moment - end / RATE)
        return sound, min(starts)


@contextlib.contextmanager
def pulse() -> Iterator[dict[str, str]]:
    """Run a PulseAudio server with a null sink; yields the environment that leads to it."""
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/native"
        configuration = Path(folder) / "alsa.conf"
        configuration.write_text("</usr/share/alsa/alsa.conf>\npcm.!default { type pulse }\nctl.!default { type pulse }\n")
        environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": folder,
            "HOME": folder,
            "PULSE_SERVER": f"unix:{socket}",
            "ALSA_CONFIG_PATH": str(configuration),
            "SDL_AUDIODRIVER": "pulseaudio",
        }
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--log-target=stderr", "--log-level=error"]
        modules = [f"module-native-protocol-unix socket={socket} auth-anonymous=1", f"module-null-sink sink_name=ci rate={RATE} channels=1"]
        server = subprocess.Popen(
            [*command, *(part for module in modules for part in ("-L", module))], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 15
            while subprocess.run(["pactl", "info"], env=environment, capture_output=True, check=False).returncode:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise SystemExit("pulseaudio does not start")
                time.sleep(0.1)
            yield environment
        finally:
            server.terminate()
            server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sink", nargs="+", default=["sounddevice", "miniaudio", "ffplay"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--play", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        return play(arguments.play)
    results: dict[str, Any] = {}
    with pulse() as environment:
        for name in arguments.sink:
            results[name] = measure(name, environment)
    print(json.dumps(results, indent=None if arguments.json else 1, ensure_ascii=False))
    return int(any("error" in result for result in results.values()))


def measure(name: str, environment: dict[str, str]) -> dict[str, Any]:
    """Let a child process play through one sink and look at what was heard."""
    recorder = Recorder(environment)
    child = subprocess.run(
        [sys.executable, __file__, "--play", name], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    sound, began = recorder.stop()
    if child.returncode:
        return {"error": child.stderr.strip().splitlines()[-1:]}
    log = json.loads(child.stdout.splitlines()[-1])
    tones = runs(section(sound, began, log["tones"]))
    turn = runs(section(sound, began, log["turn"]), hole_s=0.12)
    cut = section(sound, began, [log["cleared"] - 0.3, log["cleared"] + 1.0])
    loud = np.flatnonzero(np.abs(cut) > 0.01)
    onset = log["tones"][0] + tones[0][0] - log["written"] if tones else None
    return {
        "sink": log["name"],
        "onset_s": None if onset is None else round(onset, 3),
        "says_latency_s": round(log["latency_s"], 3),
        "tones": len(tones),
        "tone_lengths_s": [round(end - start, 3) for start, end in tones],
        "between_onsets_s": [round(late[0] - early[0], 3) for early, late in itertools.pairwise(tones)],
        "expected_between_s": TONE_S + PAUSE_S,
        "turn_sounds_s": [round(end - start, 2) for start, end in turn],
        "turn_pauses_s": [round(late[0] - early[1], 3) for early, late in itertools.pairwise(turn)],
        "silent_after_clear_s": round(loud[-1] / RATE - 0.3, 3) if len(loud) else 0.0,
        "underruns": log["underruns"],
        "turn_gaps": log["metrics"]["gaps"],
        "turn_ttfa_s": log["metrics"]["ttfa_s"],
        "turn_first_sound_heard_s": round(turn[0][0], 3) if turn else None,
    }


def section(sound: np.ndarray[Any, Any], began: float, span: list[float]) -> np.ndarray[Any, Any]:
    """Return what was heard between two moments."""
    return sound[max(0, round((span[0] - began) * RATE)) : round((span[1] - began) * RATE)]


def runs(sound: np.ndarray[Any, Any], *, hole_s: float = 0.012) -> list[tuple[float, float]]:
    """Return (start, end) in seconds of what sounds; silences up to `hole_s` belong to it."""
    size = round(BLOCK_S * RATE)
    blocks = np.abs(sound[: len(sound) // size * size].reshape(-1, size)).max(axis=1) > 0.01
    found: list[tuple[float, float]] = []
    for index in np.flatnonzero(blocks):
        start, end = index * BLOCK_S, (index + 1) * BLOCK_S
        if found and start - found[-1][1] <= hole_s:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def play(name: str) -> int:
    """Play through a sink: tones, a turn, and a tone that is cut off. Runs in a process of its own."""
    import asyncio

    from rplab.play.audio import open_sink
    from rplab.play.config import PlayConfig
    from rplab.play.engines import Engines, PromptUsage
    from rplab.play.prompt import World
    from rplab.play.session import PlaySession, Scene
    from rplab.play.timeline import Timeline
    from rplab.play.voice_process import VoiceProcess
    from rplab.tts.config import VoiceConfig

    class Writer:
        context_tokens, usage = 8192, PromptUsage(0, 0)

        def count(self, messages: Any) -> int:
            return len(messages)

        def prefill(self, messages: Any, *, cancelled: Any) -> None:
            del messages, cancelled

        def stream(self, messages: Any, sampling: Any, *, seed: int, cancelled: Any) -> Iterator[str]:
            del messages, sampling, seed, cancelled
            yield from '사야는 웃었다.\n"おかえり。雨が降っていたから、心配したよ。こっちに座って。"'

    class Same:
        def translate(self, texts: list[str]) -> list[str]:
            return texts

    voice = VoiceProcess({"": VoiceConfig()})
    sink, _ = open_sink(name, RATE)
    time.sleep(0.5)
    clock = np.arange(round(TONE_S * RATE)) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * clock)).astype(np.float32)
    log: dict[str, Any] = {"name": sink.name, "latency_s": sink.latency_s}
    started = time.monotonic()
    log["written"] = started
    for number in range(TONES):
        sink.write(tone)
        if number + 1 < TONES:
            sink.write(np.zeros(round(PAUSE_S * RATE), dtype=np.float32))
    sink.finish()
    sink.drain(20.0)
    time.sleep(0.5)
    log["tones"] = [started, time.monotonic()]

    async def say() -> dict[str, Any]:
        timeline = Timeline(World(system="", character="사야", player="카즈키"))
        session = PlaySession(Scene("", ("사야",), ("카즈키",)), Engines(Writer(), Same(), voice, sink), PlayConfig(), timeline)
        turn = await session.say("안녕", lambda _event: None)
        await session.finish(turn)
        return turn.metrics.as_json()

    started = time.monotonic()
    log["metrics"] = asyncio.run(say())
    time.sleep(0.5)
    log["turn"] = [started, time.monotonic() - 0.1]
    for _ in range(10):
        sink.write(tone)
    time.sleep(1.5)
    log["cleared"] = time.monotonic()
    sink.clear()
    time.sleep(1.2)
    log["underruns"] = sink.underruns
    sink.close()
    voice.close()
    print(json.dumps(log))
    return 0


if __name__ == "__main__":
    sys.exit(main())
