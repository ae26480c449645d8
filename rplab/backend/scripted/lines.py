"""Narration and speech of one turn, in both languages."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from rplab.backend.scripted.forms_ko import Level
from rplab.backend.scripted.grammar import Scene
from rplab.backend.scripted.lexicon import Words
from rplab.backend.scripted.moods import Mood

MAX_SPEECH = 48
MAX_NARRATION = 44
"""Longest line in characters; a longer draw is drawn again."""
MAX_PLAYER_SPEECH = 54
_TRIES = 16
_ANSWERS = ("응", "네,", "아니", "글쎄", "여기서")
"""A line that starts so is not begun with a name."""
_FORMAL_SHARE = 0.15
"""Share of polite lines in the 합니다 level; the others are 해요."""


@dataclass(frozen=True)
class Reply:
    """A turn: narration may be empty."""

    narration: Words | None
    speech: Words

    @property
    def text(self) -> str:
        """The turn as it stands in a dialogue."""
        quoted = f'"{self.speech.ko}"'
        return quoted if self.narration is None else f"{self.narration.ko}\n{quoted}"


def choose_level(scene: Scene, polite: bool) -> Level:
    """Draw the speech level of one line."""
    if not polite:
        return "c"
    return "h" if scene.chance(_FORMAL_SHARE) else "p"


def join(first: Words, second: Words) -> Words:
    """Put two sentences one after the other."""
    return Words(f"{first.ko} {second.ko}", first.ja + second.ja)


def bigrams(text: str) -> frozenset[str]:
    """Return the pairs of characters of a line, its spaces left out."""
    packed = text.replace(" ", "")
    return frozenset(packed[i : i + 2] for i in range(len(packed) - 1))


def too_close(line: str, recent: Sequence[frozenset[str]]) -> bool:
    """Tell whether a line repeats one of the recent lines."""
    own = bigrams(line)
    return any(len(own & other) > 0.6 * min(len(own), len(other)) for other in recent if other)


@dataclass(frozen=True)
class Plan:
    """What a spoken line is put together from: one sentence of each group of banks."""

    core: tuple[Sequence[str], ...]
    """The point; always said."""
    lead: str = ""
    """Bank of a sentence before it; left out where the line would get too long."""
    tail: str = ""
    """Bank of a sentence after it; likewise."""
    most: int = MAX_SPEECH
    """Longest line in characters."""


def speak(scene: Scene, plan: Plan, recent: Sequence[frozenset[str]] = ()) -> Words:
    """Say a line; draw again while it repeats a recent line or is too long, at last without what stands around the point."""
    line, too_long = Words("", ""), 0
    for _ in range(_TRIES):
        bare = too_long >= _TRIES // 2
        banks: list[Sequence[str]] = [] if bare or not plan.lead else [(plan.lead,)]
        banks += plan.core[:1] if bare else plan.core
        banks += [] if bare or not plan.tail else [(plan.tail,)]
        line = functools.reduce(join, (scene.say(*bank) for bank in banks))
        if len(line.ko) > plan.most:
            too_long += 1
        elif not too_close(line.ko, recent):
            break
    return line


def call(scene: Scene, line: Words) -> Words:
    """Put the other's name in front."""
    if line.ko.startswith(_ANSWERS):
        return line
    you = scene.names["you"]
    return Words(f"{you.ko}, {line.ko}", f"{you.ja}、{line.ja}")


def narrate(scene: Scene, mood: Mood) -> Words:
    """Describe what the speaker does, in plain third person."""
    shown = "calm" if mood == "guarded" else mood
    sets = scene.lexicon.sets
    level, scene.level = scene.level, "c"
    scene.inner = {"face": scene.choose(sets[f"face_{shown}"]), "move": scene.choose(sets[f"move_{shown}"])}
    draw = scene.rng.random()
    line = Words("", "")
    for _ in range(_TRIES):
        if draw < 0.45 or scene.topic is None:
            line = scene.say(f"narration/{shown}")
        elif draw < 0.8:
            line = scene.say("narration/topic")
        else:
            line = scene.say("narration/place")
        if len(line.ko) <= MAX_NARRATION:
            break
    scene.level = level
    return line
