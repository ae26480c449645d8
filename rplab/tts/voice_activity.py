"""Where somebody speaks in a long recording, and cuts at the pauses.

Voice activity comes from silero-vad (MIT) when the package `silero_vad` or `faster_whisper`, which both ship its ONNX
graph, is installed, or from a graph that is given; else from our own energy measure, which does well on quiet recordings
and takes music or noise for speech. `Detector.name` says which it was. No torch: only the graph is used, not the packages.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rplab.errors import ModelError
from rplab.tts.engine import Samples
from rplab.tts.resample import resample
from rplab.tts.session import Graph

ENERGY = "energy"
_HZ = 16_000
_WINDOW = 512
"""Samples that silero-vad judges at a time: 32 ms."""
_CONTEXT = 64
"""Samples before the window that it sees, too."""
_START = 0.5
_STOP = 0.35
"""Speech starts at one probability and ends below the other, so that it does not flicker."""
PAUSE_S = 0.7
"""A pause of this length ends a segment."""
MARGIN_S = 0.2
"""Kept before and after the speech."""
SHORTEST_S = 2.0
"""A shorter segment joins its neighbour across a pause of up to `_BRIDGE_S`."""
LONGEST_S = 12.0
"""A longer one is cut where it is least speech."""
_BRIDGE_S = 1.5
_LEAST_SPEECH_S = 0.1
_BLOCK_S = 10
_FLOOR_DB = -70.0
_LEAST_RANGE_DB = 10.0
_PACKAGED = (
    ("silero_vad", ("data/silero_vad.onnx",)),
    ("faster_whisper", ("assets/silero_vad_v6.onnx", "assets/silero_vad.onnx", "assets/silero_vad_v5.onnx")),
)


@dataclass(frozen=True)
class Detector:
    """A measure of voice activity."""

    name: str
    """`energy`, or where the silero-vad graph came from."""
    activity: Callable[[Samples], NDArray[np.float32]]
    """Mono samples at 16 kHz -> one value within 0..1 for each 512 of them; 0.5 and above is speech."""


def open_detector(graph: str | None = None) -> Detector:
    """Return the best detector that is there.

    Args:
        graph: A silero-vad `.onnx`; None looks into the installed packages and falls back to energy.

    Raises:
        ModelError: The graph is missing, broken, or no silero-vad.
    """
    if graph is not None:
        return _open_silero(Path(graph).expanduser(), "silero-vad (given)")
    for package, names in _PACKAGED:
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            for path in (Path(folder) / name for name in names):
                if path.is_file():
                    return _open_silero(path, f"silero-vad ({package})")
    return Detector(ENERGY, energy_activity)


def _open_silero(path: Path, name: str) -> Detector:
    graph = Graph(path, threads=1)
    if graph.input_names >= {"input", "h", "c"}:
        judge = _whole_judge(graph)
    elif {"input", "state"} <= graph.input_names <= {"input", "state", "sr"}:
        judge = _stepwise_judge(graph)
    else:
        wants = ", ".join(sorted(graph.input_names))
        raise ModelError(
            f"{path}: not a silero-vad graph of version 5 or 6, it wants the inputs {wants}. Use the one of the package silero-vad"
        )

    def activity(samples: Samples) -> NDArray[np.float32]:
        count = -(-len(samples) // _WINDOW)
        padded = np.zeros(_CONTEXT + count * _WINDOW, dtype=np.float32)
        padded[_CONTEXT : _CONTEXT + len(samples)] = samples
        windows = (
            np.lib.stride_tricks.sliding_window_view(padded, _CONTEXT + _WINDOW)[::_WINDOW] if count else np.zeros((0, 576), np.float32)
        )
        return judge(windows)

    return Detector(name, activity)


def _whole_judge(graph: Graph) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Run a graph that takes all windows at once."""

    def judge(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        if not len(windows):
            return np.zeros(0, dtype=np.float32)
        state = np.zeros((1, 1, 128), dtype=np.float32)
        return graph.run({"input": windows, "h": state, "c": state})[0].reshape(-1)

    return judge


def _stepwise_judge(graph: Graph) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Run a graph that takes one window and its state."""

    def judge(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        state = np.zeros((2, 1, 128), dtype=np.float32)
        values = np.zeros(len(windows), dtype=np.float32)
        for index, window in enumerate(windows):
            output, state = graph.run({"input": window[None], "state": state, "sr": _HZ})
            values[index] = output.reshape(-1)[0]
        return values

    return judge


def energy_activity(samples: Samples) -> NDArray[np.float32]:
    """Return how far the level of each 32 ms lies between background and speech of the recording, 0..1.

    Background is the 10th percentile of the levels and speech the 95th; a third of the way up counts as speech (0.5). A
    recording of one level throughout is all speech when it is louder than -70 dBFS: there is no pause to cut at.
    """
    count = -(-len(samples) // _WINDOW)
    if not count:
        return np.zeros(0, dtype=np.float32)
    padded = np.zeros(count * _WINDOW)
    padded[: len(samples)] = samples
    power = np.square(padded).reshape(count, _WINDOW).mean(axis=1)
    level = np.maximum(10.0 * np.log10(power + 1e-12), _FLOOR_DB)
    background, speech = np.percentile(level, 10), np.percentile(level, 95)
    if speech - background < _LEAST_RANGE_DB:
        return np.where(level > _FLOOR_DB, 1.0, 0.0).astype(np.float32)
    return np.clip(1.5 * (level - background) / (speech - background), 0.0, 1.0).astype(np.float32)


def find_segments(
    samples: Samples, rate_hz: int, detector: Detector, *, longest_s: float = LONGEST_S, shortest_s: float = SHORTEST_S
) -> list[tuple[int, int]]:
    """Return (start, end) in samples of the pieces with speech, in order and without overlap.

    Args:
        samples: Mono.
        rate_hz: Frames per second.
        detector: Measures voice activity.
        longest_s: No piece is longer.
        shortest_s: Shorter pieces join a neighbour that is near; lonely ones stay short.
    """
    activity = detector.activity(_at_16_khz(samples, rate_hz))
    frame_s = _WINDOW / _HZ
    spans = _join_short(
        _speech_spans(activity, frame_s), round(longest_s / frame_s), round(shortest_s / frame_s), round(_BRIDGE_S / frame_s)
    )
    margin = round(MARGIN_S / frame_s)
    limit = int(longest_s / frame_s)
    pieces = [piece for first, last in _widen(spans, margin, len(activity)) for piece in _cut_long(activity, first, last, limit)]
    return [(round(a * frame_s * rate_hz), min(len(samples), round(b * frame_s * rate_hz))) for a, b in pieces]


def _at_16_khz(samples: Samples, rate_hz: int) -> Samples:
    """Resample in blocks of 10 s, so that an hour takes no more memory than its samples; the seams do not matter here."""
    if rate_hz == _HZ:
        return samples
    block = _BLOCK_S * rate_hz
    parts = [resample(samples[start : start + block], _HZ / rate_hz) for start in range(0, len(samples), block)]
    return np.concatenate(parts) if parts else samples


def _speech_spans(activity: NDArray[np.float32], frame_s: float) -> list[tuple[int, int]]:
    """Return frames (first, end) of speech between pauses of at least `PAUSE_S`; a click is no speech."""
    spans: list[tuple[int, int]] = []
    start, quiet_from, pause = -1, -1, max(1, round(PAUSE_S / frame_s))
    for frame, value in enumerate(itertools.chain(activity.tolist(), [0.0] * pause)):
        if start < 0:
            start, quiet_from = (frame, -1) if value >= _START else (-1, -1)
        elif value >= _STOP:
            quiet_from = -1
        else:
            quiet_from = frame if quiet_from < 0 else quiet_from
            if frame - quiet_from + 1 >= pause:
                spans.append((start, quiet_from))
                start = -1
    return [(first, end) for first, end in spans if (end - first) * frame_s >= _LEAST_SPEECH_S]


def _join_short(spans: list[tuple[int, int]], longest: int, shortest: int, bridge: int) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, end in spans:
        if joined:
            before, before_end = joined[-1]
            is_short = before_end - before < shortest or end - first < shortest
            if is_short and first - before_end <= bridge and end - before <= longest:
                joined[-1] = (before, end)
                continue
        joined.append((first, end))
    return joined


def _widen(spans: list[tuple[int, int]], margin: int, count: int) -> list[tuple[int, int]]:
    """Add the margin on both sides, at most up to the middle of the pause between two spans."""
    bounds = [0, *((a[1] + b[0]) // 2 for a, b in itertools.pairwise(spans)), count]
    return [(max(bounds[i], first - margin), min(bounds[i + 1], end + margin)) for i, (first, end) in enumerate(spans)]


def _cut_long(activity: NDArray[np.float32], first: int, end: int, limit: int) -> list[tuple[int, int]]:
    """Halve a span until no part is longer than `limit`, each time in the stillest place of its middle half."""
    if end - first <= limit:
        return [(first, end)]
    quarter = max(1, (end - first) // 4)
    smooth = np.convolve(activity[first:end], [0.25, 0.5, 0.25], mode="same")[quarter : end - first - quarter]
    to_middle = np.abs(np.linspace(-1.0, 1.0, len(smooth)))  # decides between equals
    middle = first + quarter + int((smooth + 1e-3 * to_middle).argmin())
    return [*_cut_long(activity, first, middle, limit), *_cut_long(activity, middle, end, limit)]
