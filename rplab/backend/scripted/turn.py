"""One turn of a dialogue: reacts to the last turn, moves the story, does not repeat itself."""

from __future__ import annotations

import random
from dataclasses import dataclass

from rplab.backend.base import TurnSlots
from rplab.backend.scripted.grammar import Scene
from rplab.backend.scripted.lexicon import Noun
from rplab.backend.scripted.lines import MAX_PLAYER_SPEECH, Plan, Reply, bigrams, call, choose_level, narrate, speak
from rplab.backend.scripted.moods import (
    HERE,
    PLACES,
    PLEASANT,
    STAGE_CATEGORIES,
    Mood,
    agree,
    choose_act,
    choose_mood,
    choose_polarity,
    draw_topic,
    find_act,
    find_action,
    find_place,
    find_topics,
    mood_of_act,
    spoken,
    tail_of,
)
from rplab.backend.scripted.singleturn import address, hear, person
from rplab.character import Register

SCENE_KINDS = {"연애물": "confession", "육성물": "drill", "성장물": "drill", "비극": "rescue", "심리 시뮬레이션": "truth"}
_SCENE_MOOD: dict[str, Mood] = {"confession": "shy", "drill": "firm", "rescue": "tense", "truth": "sad"}
_OPENERS: dict[str, tuple[str, ...]] = {
    "EVENT": ("news", "news", "invite", "tell", "notice", "ask", "offer"),
    "CONFLICT": ("doubt", "doubt", "worry", "request", "ask"),
    "RESOLUTION": ("resolve", "resolve", "sorry", "encourage", "offer"),
    "AFTERMATH": ("after", "after", "thanks", "invite", "notice"),
    "IDLE": ("ask", "notice", "tell", "invite", "thanks"),
}
_HOLD_TOPIC_SHARE = 0.6
"""How often the player stays with the topic of the last turn."""


_REACT_SHARE = 0.3
"""How often the player answers before going on."""
_LEAD_SHARE = 0.85
"""How often the player says something before coming to the point."""
_HEAVY = frozenset({"guarded", "cold", "sad", "tense"})


@dataclass(frozen=True)
class _Situation:
    topic: Noun
    act: str
    """What the other side's last turn did; empty at the start."""
    kind: str
    """Kind of staged scene of the genre."""
    recent: tuple[frozenset[str], ...]


def fill_turn(slots: TurnSlots, seed: int) -> Reply:
    """Return the turn; see `TurnSlots`."""
    rng = random.Random(seed)
    polite = slots.register is Register.POLITE
    me, you = (slots.player, slots.protagonist) if slots.speaker == "player" else (slots.protagonist, slots.player)
    now = _read(slots, rng)
    scene = Scene(rng, "c", slots.genre, slots.era, man=me.gender == "남성", topic=now.topic)
    scene.names = {"me": person(me), "you": address(you, polite), "place": find_place(slots.place, rng, slots.era)}
    scene.level = choose_level(scene, polite)
    if scene.names["place"].ko == now.topic.ko:
        scene.names["place"] = HERE
    mood, plan = _player(scene, slots, now) if slots.speaker == "player" else _protagonist(scene, slots, now)
    speech = speak(scene, plan, now.recent)
    if scene.chance(0.12) and you.name not in speech.ko:
        speech = call(scene, speech)
    shows = slots.speaker == "protagonist" or scene.chance(0.7)
    return Reply(narrate(scene, mood) if shows else None, speech)


def _read(slots: TurnSlots, rng: random.Random) -> _Situation:
    last = slots.recent[-1] if slots.recent else ""
    speech = spoken(last) if last else ""
    found = find_topics(speech) or find_topics(last, narration=True)
    if not found:
        found = [noun for turn in reversed(slots.recent[:-1]) for noun in find_topics(spoken(turn))]
    found = [noun for noun in found if noun.category not in PLACES] or found
    topic = found[0] if found else draw_topic(rng, slots.genre, slots.era)
    fitting = STAGE_CATEGORIES.get(_theme(slots), ())
    if fitting and topic.category not in fitting:
        topic = draw_topic(rng, slots.genre, slots.era, categories=fitting)
    act = find_act(speech, topic) if speech else ""
    kind = SCENE_KINDS.get(slots.genre, "confession")
    return _Situation(topic, act, kind, tuple(bigrams(spoken(turn)) for turn in slots.recent))


def _theme(slots: TurnSlots) -> str:
    """Return the kind of staged scene that runs, `crisis`, or "" in an ordinary turn."""
    if slots.action.startswith(("SCENE_", "AFTERMATH_SCENE")):
        return SCENE_KINDS.get(slots.genre, "confession")
    return "crisis" if "CRISIS" in slots.action or slots.state == "CRISIS" else ""


def _player(scene: Scene, slots: TurnSlots, now: _Situation) -> tuple[Mood, Plan]:
    """Choose what the player says: the next step of a staged scene, or something that moves the story."""
    action = slots.action
    if staged := _staged(action, now.kind, "player"):
        return _staged_mood(now.kind, action), _with_lead(scene, ((staged,),), _staged_mood(now.kind, action))
    if "CRISIS" in action or slots.state == "CRISIS":
        bank = "crisis/after" if action.startswith("AFTERMATH") else "crisis/player"
        return "calm", _with_lead(scene, ((bank,),), "tense")
    core: list[tuple[str, ...]] = []
    if now.act and scene.chance(_REACT_SHARE):  # what follows decides whether the answer agrees
        core.append(scene.banks("re", now.act, "neg" if action == "CONFLICT" else "pos"))
    elif not now.act or not scene.chance(_HOLD_TOPIC_SHARE):
        used = frozenset(noun.ko for turn in slots.recent for noun in find_topics(turn))
        scene.topic = draw_topic(scene.rng, slots.genre, slots.era, without=used)
    assert scene.topic is not None
    opener = choose_act(scene.rng, _OPENERS.get(action, _OPENERS["EVENT"]), scene.topic)
    core.append(scene.banks("open", opener))
    mood = mood_of_act(opener, scene.topic, choose_mood(scene.rng, slots.genre, slots.relation, slots.intent, action))
    return mood, _with_lead(scene, tuple(core), mood) if len(core) == 1 else Plan(tuple(core), most=MAX_PLAYER_SPEECH)


def _with_lead(scene: Scene, core: tuple[tuple[str, ...], ...], mood: Mood) -> Plan:
    lead = f"lead/{'heavy' if mood in _HEAVY else 'light'}" if scene.chance(_LEAD_SHARE) else ""
    return Plan(core, lead=lead, most=MAX_PLAYER_SPEECH)


def _protagonist(scene: Scene, slots: TurnSlots, now: _Situation) -> tuple[Mood, Plan]:
    """Choose how the protagonist answers: the point, and a second sentence of the mood."""
    action = slots.action
    mood = choose_mood(scene.rng, slots.genre, slots.relation, slots.intent, action)
    if slots.avoid:
        scene.topic = draw_topic(scene.rng, slots.genre, slots.era, without=frozenset({now.topic.ko}), categories=PLEASANT)
        return "calm", Plan((("avoid",), ("avoid/turn",)))
    if staged := _staged(action, now.kind, "protagonist"):
        mood = _staged_mood(now.kind, action)
        return mood, Plan(((staged,),), tail=f"tail/{mood}")
    if action.startswith("CRISIS"):
        return "tense", Plan((("crisis/protagonist",),), tail="tail/tense")
    if action.startswith("AFTERMATH_CRISIS"):
        return "sad", Plan((("crisis/after",),), tail="tail/calm")
    polarity = choose_polarity(scene.rng, slots.relation, slots.intent)
    if not now.act:
        return mood, Plan((scene.banks("re", "hello", polarity),), tail=f"tail/{tail_of(mood, polarity, now.topic)}")
    mood = agree(mood, polarity, now.topic)
    scene.action = find_action(spoken(slots.recent[-1]), now.topic)
    heard = hear(now.act, spoken(slots.recent[-1]), now.topic)
    return mood, Plan((scene.banks("re", heard, polarity),), tail=f"tail/{tail_of(mood, polarity, now.topic)}")


def _staged_mood(kind: str, action: str) -> Mood:
    return "warm" if action.startswith("AFTERMATH") else _SCENE_MOOD[kind]


def _staged(action: str, kind: str, speaker: str) -> str:
    """Return the bank of a staged scene's step, or "" outside of one."""
    if action.startswith("SCENE_"):
        return f"scene/{kind}/{action[-1]}/{speaker}"
    return "scene/after" if action.startswith("AFTERMATH_SCENE") else ""
