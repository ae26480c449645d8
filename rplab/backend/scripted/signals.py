"""Signals of the last exchange: near the given ones, moved the way the story moves."""

from __future__ import annotations

import random

from rplab.backend.base import SignalSlots

HIGHEST = {"mental_instability": 3, "intimacy": 3, "threat": 2, "pressure": 3, "probe": 3, "resolve": 1, "event": 3}
_STRAINED = frozenset({"mental_instability", "threat", "pressure"})
_GENRE_UP = {
    "비극": ("mental_instability", "event"),
    "심리 시뮬레이션": ("mental_instability", "probe"),
    "육성물": ("resolve", "pressure"),
    "성장물": ("resolve", "pressure"),
    "연애물": ("probe", "event"),
}
_ACTION_UP = {"EVENT": "event", "CONFLICT": "pressure", "RESOLUTION": "resolve", "CRISIS": "mental_instability"}


def fill_signals(slots: SignalSlots, seed: int) -> dict[str, int]:
    """Return every signal within its range and at most 1 from its last value."""
    rng = random.Random(seed)
    names = list(slots.signals) or list(HIGHEST)
    return {name: _move(rng, name, slots) for name in names if name in HIGHEST}


def _move(rng: random.Random, name: str, slots: SignalSlots) -> int:
    up, down = 0.25, 0.2
    if name == "intimacy":
        up, down = (0.6, 0.1) if slots.intent == "rise" else (0.1, 0.6)
    elif name in _STRAINED:
        up, down = (0.15, 0.35) if slots.intent == "rise" else (0.45, 0.1)
    if name in _GENRE_UP.get(slots.genre, ()):
        up += 0.2
    if _ACTION_UP.get(slots.action.removeprefix("AFTERMATH_").split("_")[0]) == name:
        up += 0.2
    draw = rng.random()
    step = 1 if draw < up else -1 if draw > 1 - down else 0
    return max(0, min(HIGHEST[name], slots.signals.get(name, 0) + step))
