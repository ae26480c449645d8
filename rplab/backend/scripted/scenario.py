"""Scenarios: free-text fields around one topic, one place and the two people's latest words."""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Any

import yaml

from rplab.backend.base import ScenarioSlots, TurnSlots
from rplab.backend.scripted.hangul import fit_particle
from rplab.backend.scripted.lexicon import DATA, Noun, Words
from rplab.backend.scripted.moods import HERE, draw_topic, find_place, find_topics
from rplab.backend.scripted.turn import fill_turn

_SLOT = re.compile(r"\{([a-z_]+)(?::([^{}]+))?\}")
_FIELDS = (
    *("title", "world", "constraint", "ongoing_event", "pending_task", "protagonist_role", "lack", "attachment_reason"),
    *("player_influence", "rise_condition", "fall_condition", "growth_factor", "speech_habit", "dark_signal"),
)
_NUM_TRAITS = 3
_SUBJECTS: dict[str, tuple[str, ...]] = {
    "연애물": ("item", "memory", "dream", "secret", "vow", "reading", "plant", "sky"),
    "비극": ("parting", "memory", "vow", "danger", "secret", "item"),
    "육성물": ("skill", "skill", "dream"),
    "성장물": ("dream", "skill", "secret"),
    "심리 시뮬레이션": ("memory", "secret", "feeling", "vow"),
}


@cache
def _drafts() -> dict[str, tuple[str, ...]]:
    data = yaml.safe_load((DATA / "scenario.yaml").read_text(encoding="utf-8"))["drafts"]
    return {name: tuple(line.strip() for line in text.splitlines() if line.strip()) for name, text in data.items()}


def fill_scenario(slots: ScenarioSlots, seed: int) -> dict[str, Any]:
    """Return the free-text fields of a scenario (the fields of `rplab.dialogue.draft.Draft`)."""
    rng = random.Random(seed)
    subjects = _SUBJECTS.get(slots.genre, ())
    known = [noun for noun in find_topics(slots.start_frame) if noun.category in subjects]
    topic = known[0] if known and rng.random() < 0.5 else draw_topic(rng, slots.genre, slots.era, categories=subjects)
    other = draw_topic(rng, slots.genre, slots.era, without=frozenset({topic.ko}), categories=subjects)
    place = find_place(slots.start_frame, rng, slots.era)
    if place is HERE:  # a scenario names its place
        place = find_place("", rng, slots.era)
    draft: dict[str, Any] = {name: _phrase(rng, name, topic, other, place, slots.era) for name in _FIELDS}
    draft["driver"] = _phrase(rng, f"driver/{slots.genre}", topic, other, place, slots.era)
    draft["place"] = _phrase(rng, "place", topic, other, place, slots.era)
    draft["traits"] = rng.sample(_drafts()["trait"], _NUM_TRAITS)
    endings = rng.sample(_drafts()["ending"], 2 + int(rng.random() < 0.5))
    draft["endings"] = [_fill(rng, text, topic, other, place, slots.era) for text in endings]
    player = _turn(slots, rng, "player", topic, place, ())
    draft["last_player_turn"] = player.replace("\n", " ")
    draft["last_protagonist_turn"] = _turn(slots, rng, "protagonist", topic, place, (player,)).replace("\n", " ")
    return draft


def _turn(slots: ScenarioSlots, rng: random.Random, speaker: Any, topic: Noun, place: Words, recent: tuple[str, ...]) -> str:
    turn = TurnSlots(
        speaker=speaker,
        protagonist=slots.protagonist,
        player=slots.player,
        register=slots.register,
        genre=slots.genre,
        era=slots.era,
        place=place.ko,
        relation=slots.relation,
        state="INTERACTION",
        action="EVENT",
        intent="fall" if slots.relation == "적대" else "rise",
        turn=0,
        recent=recent or (f'"{topic.ko}"',),
    )
    return fill_turn(turn, int(rng.random() * 2**53)).text


def _phrase(rng: random.Random, name: str, topic: Noun, other: Noun, place: Words, era: str) -> str:
    lines = _drafts()[name]
    return _fill(rng, lines[int(rng.random() * len(lines))], topic, other, place, era)


def _fill(rng: random.Random, text: str, topic: Noun, other: Noun, place: Words, era: str) -> str:
    values = {"t": (topic if rng.random() < 0.7 else other).ko, "place": place.ko, "era": era}

    def replace(match: re.Match[str]) -> str:
        word = values.get(match[1])
        if word is None:
            bank = _drafts()[match[1]]
            word = bank[int(rng.random() * len(bank))]
        return fit_particle(word, match[2]) if match[2] else word

    return _SLOT.sub(replace, text)
