"""One exchange: the player says something, the protagonist reacts to it."""

from __future__ import annotations

import random
from typing import Any

from rplab.backend.base import SingleTurnSlots
from rplab.backend.scripted.grammar import ERAS, Scene
from rplab.backend.scripted.lexicon import Noun, Words, load_lexicon
from rplab.backend.scripted.lines import Plan, Reply, bigrams, call, choose_level, narrate, speak
from rplab.backend.scripted.moods import (
    HERE,
    PERIL,
    PLACES,
    Mood,
    agree,
    choose_act,
    choose_mood,
    choose_polarity,
    draw_topic,
    find_action,
    find_place,
    find_topics,
    mood_of_act,
    tail_of,
)
from rplab.character import Person, Register

_ERA_WORDS = {
    "판타지": ("성", "마법", "왕궁", "기사", "마을의 마", "수련장", "비행선"),
    "공상과학": ("우주", "로봇", "격납고", "관측실"),
    "디지털 세계": ("가상", "데이터", "접속"),
}
_RELATION_WORDS = {
    "사랑": ("연인", "좋아해 온", "사랑"),
    "적대": ("원망", "경쟁자", "원수", "숨겨 온"),
    "거리감": ("처음", "막 친해지", "망설이는", "다툰", "여행길"),
}
_MOOD_WORDS: tuple[tuple[Mood, tuple[str, ...]], ...] = (
    ("shy", ("부끄러", "수줍", "서툴")),
    ("warm", ("다정", "밝고", "장난", "정이 깊", "용서")),
    ("firm", ("엄격", "끈기", "책임감", "계획", "꼼꼼", "지기 싫어")),
    ("tense", ("불안", "겁이", "걱정이 많", "상처를")),
    ("sad", ("슬픔", "후회", "밤이면 운다", "이별")),
    ("calm", ("차분", "담담", "느긋", "말수가 적", "생각이 깊", "조용")),
)
_ACTS: dict[str, tuple[str, ...]] = {
    "연애물": ("invite", "invite", "news", "ask", "tell", "notice", "offer", "confess", "thanks", "request", "worry"),
    "비극": ("tell", "news", "notice", "worry", "request", "sorry", "ask", "doubt", "thanks", "offer", "resolve"),
    "육성물": ("encourage", "encourage", "invite", "request", "ask", "tell", "offer", "notice", "resolve", "doubt"),
    "성장물": ("encourage", "news", "tell", "ask", "invite", "request", "resolve", "worry", "offer", "notice", "thanks"),
    "심리 시뮬레이션": ("ask", "worry", "worry", "tell", "doubt", "request", "notice", "sorry", "offer", "resolve"),
}
_TAIL_SHARE = 0.9
"""How often a second sentence, of the mood only, follows the answer."""
_SAME_SCENE_SHARE = 0.45
"""How often the topic is a word of the situation or the location, when the lexicon knows one."""


def person(value: Person) -> Words:
    """Return a person's name in both languages."""
    return Words(value.name, value.name_ja)


def address(value: Person, polite: bool) -> Words:
    """Return how somebody is called."""
    return Words(f"{value.name} 씨", f"{value.name_ja}さん") if polite else person(value)


def fill_singleturn(slots: SingleTurnSlots, seed: int) -> dict[str, Any]:
    """Return the row `{user, assistant_raw, scene}`; see `SingleTurnSlots`."""
    rng = random.Random(seed)
    background = f"{slots.situation} {slots.location}"
    era = guess_era(background)
    topic = _topic(rng, slots, background, era)
    polite = slots.register is Register.POLITE
    place = find_place(slots.location, rng, era)
    if place.ko == topic.ko:
        place = HERE
    relation = next((name for name, words in _RELATION_WORDS.items() if any(w in slots.relationship for w in words)), "친밀")
    intent = "rise" if rng.random() < 0.72 else "fall"
    act = choose_act(rng, _ACTS.get(slots.genre, _ACTS["연애물"]), topic)

    player = Scene(rng, "p" if polite else "c", slots.genre, era, man=slots.player.gender == "남성", topic=topic)
    player.names = {"me": person(slots.player), "you": address(slots.protagonist, polite), "place": place}
    player.level = choose_level(player, polite)
    said = speak(player, Plan((player.banks("open", act),)))
    if player.chance(0.2):
        said = call(player, said)
    mood = mood_of_act(act, topic, choose_mood(rng, slots.genre, "친밀", "rise", ""))
    action = narrate(player, mood) if slots.user_format == "action_plus_dialogue" else None

    reply = react(slots, rng, act, topic, era=era, relation=relation, intent=intent, place=place, said=said)
    assert reply.narration is not None
    return {
        "user": Reply(action, said).text,
        "assistant_raw": reply.text,
        "scene": {
            "speaker": slots.protagonist.name,
            "narration": {"ko": reply.narration.ko, "jp": reply.narration.ja},
            "dialogue": {"ko": reply.speech.ko, "jp": reply.speech.ja},
        },
    }


def react(
    slots: SingleTurnSlots, rng: random.Random, act: str, topic: Noun, *, era: str, relation: str, intent: str, place: Words, said: Words
) -> Reply:
    """Return the protagonist's answer to `said`."""
    polite = slots.register is Register.POLITE
    scene = Scene(rng, "c", slots.genre, era, man=slots.protagonist.gender == "남성", topic=topic)
    scene.names = {"me": person(slots.protagonist), "you": address(slots.player, polite), "place": place}
    mood: Mood = choose_mood(rng, slots.genre, relation, intent, "")
    natural: Mood | None = next((name for name, words in _MOOD_WORDS if any(word in slots.personality for word in words)), None)
    if natural and relation != "적대" and scene.chance(0.45):
        mood = natural
    polarity = choose_polarity(rng, relation, intent)
    mood = agree(mood, polarity, topic)
    heard = hear(act, said.ko, topic)
    scene.action = find_action(said.ko, topic)
    scene.level = choose_level(scene, polite)
    tail = f"tail/{tail_of(mood, polarity, topic)}" if scene.chance(_TAIL_SHARE) else ""
    speech = speak(scene, Plan((scene.banks("re", heard, polarity),), tail=tail), (bigrams(said.ko),))
    if scene.chance(0.15):
        speech = call(scene, speech)
    return Reply(narrate(scene, mood), speech)


def hear(act: str, said: str, topic: Noun) -> str:
    """Return what the answer answers to: a piece of news is told, a question why is a reproach."""
    if act == "ask" and said.startswith(("왜", "어째서")):
        return "doubt"
    if topic.category in PERIL and act in ("tell", "notice", "news"):
        return "danger"
    if act == "tell" and "혼자" not in said and load_lexicon().categories[topic.category].group == "fun":
        return "news"
    return act


def guess_era(text: str) -> str:
    """Return the era that a place or situation speaks of; 현대 when nothing tells."""
    return next((era for era in ERAS if any(word in text for word in _ERA_WORDS.get(era, ()))), "현대")


def _topic(rng: random.Random, slots: SingleTurnSlots, background: str, era: str) -> Noun:
    found = find_topics(background)
    known = [noun for noun in found if noun.category not in PLACES] or found
    if known and rng.random() < _SAME_SCENE_SHARE:
        return known[int(rng.random() * len(known))]
    return draw_topic(rng, slots.genre, era)
