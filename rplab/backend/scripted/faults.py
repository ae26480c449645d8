"""Faults that tests switch on: what a real model or server does on a bad day."""

from __future__ import annotations

from dataclasses import dataclass

from rplab.seeding import derive

_HAN = "漢字夢愛心風"
"""Characters that slip into Korean text of models trained on several scripts."""


@dataclass(frozen=True)
class Faults:
    """Chance (0..1) of each fault for one request; all off by default."""

    p_error: float = 0.0
    p_empty: float = 0.0
    p_truncated: float = 0.0
    p_broken_json: float = 0.0
    p_wrong_format: float = 0.0
    p_script_leak: float = 0.0

    def draw(self, seed: int) -> str:
        """Return the name of the fault that strikes the request with this seed, or ""."""
        rng = derive(seed, "fault")
        for name, share in self.__dict__.items():
            if rng.random() < share:
                return name.removeprefix("p_")
        return ""


def spoil(fault: str, text: str, seed: int) -> str:
    """Return the text as the fault leaves it."""
    rng = derive(seed, "spoil")
    if fault == "empty":
        return ""
    if fault == "truncated":
        return text[: max(1, int(len(text) * (0.3 + 0.5 * rng.random())))]
    if fault == "broken_json":
        return text.rstrip("}") + "," if text.startswith("{") else text
    if fault == "wrong_format":
        return text.replace("\\n", " ").replace("\n", " ").replace('"', "")
    if fault == "script_leak":
        spots = [i for i, char in enumerate(text) if "가" <= char <= "힣"]
        at = spots[int(rng.random() * len(spots))] if spots else 0
        return text[:at] + _HAN[int(rng.random() * len(_HAN))] + text[at + 1 :]
    return text
