"""How many frames each token of a clip lasts, found before any network is trained.

A network that searches its alignment while it learns what the alignment is about needs thousands of steps before the text
tells it anything. One Gaussian for each half of each phone, fitted and aligned in turn from an even start (Viterbi training,
Rabiner 1989), finds the same in seconds. Blanks belong to the phone before them: a phone and its blank are its two halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rplab.tts.cepstra import cepstra
from rplab.tts.model.alignment import find_path

_ITERATIONS = 12
_BATCH = 32
_VARIANCE_FLOOR = 0.05
"""Share of a feature's variance over the whole corpus below which no state's variance falls."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class AlignmentReport:
    """How well the states fit in the end."""

    durations: list[list[int]]
    """Frames of each token (blanks included), for each clip; they add up to its frames."""
    log_likelihood: list[float]
    """Mean over all frames after each iteration; it rises."""


def spectral_features(log_mel: NDArray[np.floating]) -> FloatArray:
    """Return features (frames, 28) of log mel bands (bands, frames): 13 cepstra, the level, and how fast each changes."""
    still = np.concatenate([cepstra(log_mel), log_mel.mean(axis=0, keepdims=True).T], axis=1)
    return np.concatenate([still, np.gradient(still, axis=0)], axis=1).astype(np.float32)


def token_states(phones: Sequence[int]) -> NDArray[np.int64]:
    """Return the state of each token of blank-interspersed symbol ids: first half of a phone, or the half after it."""
    ids = np.asarray(phones, dtype=np.int64)
    owner = np.concatenate([ids[1:2], np.repeat(ids[1::2], 2)])
    half = np.arange(len(ids)) % 2 == 0
    half[0] = False  # the blank at the start belongs to the first phone's first half
    return owner * 2 + half


def align_corpus(
    features: Sequence[FloatArray], phones: Sequence[Sequence[int]], *, after_iteration: Callable[[int], None] = lambda _done: None
) -> AlignmentReport:
    """Align every clip with its tokens.

    Args:
        features: (frames, F) of each clip, at least as many frames as tokens.
        phones: Symbol ids of each clip, blanks included.
        after_iteration: Told how many iterations are done, of 12.

    Returns:
        Durations and how the likelihood rose; equal input gives equal output.
    """
    states = [token_states(row) for row in phones]
    paths = [_even(len(rows), len(row)) for rows, row in zip(features, states, strict=True)]
    everything = np.concatenate(list(features))
    floor = everything.var(axis=0) * _VARIANCE_FLOOR
    order = sorted(range(len(features)), key=lambda index: (len(features[index]), index))
    history: list[float] = []
    for iteration in range(_ITERATIONS):
        mean, variance = _fit([row[path] for row, path in zip(states, paths, strict=True)], everything, floor)
        total = 0.0
        for start in range(0, len(order), _BATCH):
            total += _align_batch(order[start : start + _BATCH], features, states, paths, mean, variance)
        history.append(total / len(everything))
        after_iteration(iteration + 1)
    durations = [np.bincount(path, minlength=len(row)).tolist() for path, row in zip(paths, states, strict=True)]
    return AlignmentReport(durations, history)


def _even(frames: int, tokens: int) -> NDArray[np.int64]:
    """Return the token of each frame when all tokens last equally long."""
    return np.arange(frames, dtype=np.int64) * tokens // frames


def _fit(states: Sequence[NDArray[np.int64]], everything: FloatArray, floor: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance (states, F) of the frames of each state; a state without frames gets those of the corpus."""
    labels = np.concatenate(list(states))
    order = np.argsort(labels, kind="stable")
    found, first = np.unique(labels[order], return_index=True)
    count = int(labels.max()) + 1
    mean = np.tile(everything.mean(axis=0), (count, 1))
    variance = np.tile(everything.var(axis=0), (count, 1))
    for state, rows in zip(found, np.split(order, first[1:]), strict=True):
        mean[state], variance[state] = everything[rows].mean(axis=0), np.maximum(everything[rows].var(axis=0), floor)
    return mean, variance


def _align_batch(
    chosen: Sequence[int],
    features: Sequence[FloatArray],
    states: Sequence[NDArray[np.int64]],
    paths: list[NDArray[np.int64]],
    mean: FloatArray,
    variance: FloatArray,
) -> float:
    """Replace the paths of some clips by the best ones; return the sum of their log-likelihoods."""
    frames, tokens = (np.array([len(rows[index]) for index in chosen]) for rows in (features, states))
    scores = np.full((len(chosen), int(frames.max()), int(tokens.max())), -1e9, dtype=np.float32)
    for row, index in enumerate(chosen):
        m, v = mean[states[index]], variance[states[index]]
        x = features[index]
        distance = (x * x) @ (1 / v).T - 2 * x @ (m / v).T + (m * m / v).sum(axis=1)
        scores[row, : len(x), : len(m)] = -0.5 * (distance + np.log(2 * np.pi * v).sum(axis=1))
    path = find_path(scores, frames, tokens)
    for row, index in enumerate(chosen):
        paths[index] = path[row, : frames[row], : tokens[row]].argmax(axis=1)
    return float((scores * path).sum(dtype=np.float64))
