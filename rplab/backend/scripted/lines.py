"""Narration and speech of one turn, in both languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rplab.backend.scripted.forms_ko import Level
from rplab.backend.scripted.grammar import Scene
from rplab.backend.scripted.lexicon import Words
from rplab.backend.scripted.moods import Mood

MAX_SPEECH = 46
MAX_NARRATION = 44
"""Longest line in characters; a longer draw is drawn again."""
_TRIES = 12
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


def speak(scene: Scene, parts: Sequence[Sequence[str]], recent: Sequence[frozenset[str]] = ()) -> Words:
    """Say one sentence from each group of banks; draw again while it is too long or repeats a recent line."""
    line = Words("", "")
    for attempt in range(_TRIES):
        groups = parts if attempt < _TRIES // 2 else parts[:1]
        line = scene.say(*groups[0])
        for banks in groups[1:]:
            line = join(line, scene.say(*banks))
        if len(line.ko) <= MAX_SPEECH and not too_close(line.ko, recent):
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
