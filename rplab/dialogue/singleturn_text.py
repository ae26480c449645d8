"""The system text of a single-turn scene: one typed scene in, sections 0-7 out. Training and play share it.

The text is kept short on purpose: a tiny model is trained on it, and every word is repeated in every row.
"""

from __future__ import annotations

from dataclasses import dataclass

from rplab.character import Card, Person, Register
from rplab.dialogue.pack import Pack
from rplab.dialogue.prompts import Word, fill

RELATION_LABELS = "적대, 거리감, 친밀, 사랑"


@dataclass(frozen=True)
class Scene:
    """What a single-turn row is about."""

    protagonist: Person
    player: Person
    register: Register
    """Speech level of the protagonist towards the player."""
    genre: str
    direction: str
    """What kind of story it is, in a sentence."""
    situation: str
    location: str
    personality: str
    relationship: str
    """Who the player is to the protagonist; particles are already fitted."""
    role: str = ""
    """What the protagonist does; empty when the scene does not say."""


def render_system(scene: Scene, policy: tuple[str, ...], relation_line: str) -> str:
    """Return the system text with sections 0-7.

    Args:
        scene: Who, where, what.
        policy: Rules of section 6, with `{protagonist}` and `{player}` places.
        relation_line: What moves the relation, for section 4.
    """
    protagonist, player = Word(scene.protagonist.name), Word(scene.player.name)
    rules = "\n".join(fill(line, protagonist=protagonist, player=player) for line in policy)
    role = f"\n역할: {scene.role}" if scene.role else ""
    return (
        f"「{protagonist}」\n"
        f"0. 방향\n{scene.genre}: {scene.direction}\n"
        f"1. 역할\n당신은 {protagonist:이다/다}. {player:은/는} 플레이어이다.\n"
        f"2. 세계\n{scene.location}\n"
        f"3. 주인공\n이름: {protagonist} ({scene.protagonist.age}세, {scene.protagonist.gender}){role}\n"
        f"말투: {scene.register.value}\n성격: {scene.personality}\n"
        f"4. 플레이어\n이름: {player} ({scene.player.age}세, {scene.player.gender})\n관계: {scene.relationship}\n{relation_line}.\n"
        f"5. 관계\n{RELATION_LABELS}\n"
        f"6. 발화\n{rules}\n"
        f"7. 최근 상호작용\n{scene.situation}"
    )


def system_text(scene: Scene, pack: Pack) -> str:
    """Return the system text of a scene with the pack's rules."""
    return render_system(scene, pack.prompts.policy, pack.singleturn.relation_line)


def card_scene(card: Card, pack: Pack, genre: str | None = None) -> Scene:
    """Return the scene that a card describes by itself; play starts from it.

    Args:
        card: The character.
        pack: Gives the genre's direction.
        genre: A genre of the pack's single-turn banks; the first one called 연애물, else the first, when None.
    """
    genres = pack.singleturn.genres
    chosen = genre or ("연애물" if "연애물" in genres else next(iter(genres)))
    return Scene(
        protagonist=person_of(card),
        player=card.player,
        register=card.register_,
        genre=chosen,
        direction=genres[chosen].direction,
        situation=card.situation,
        location=card.world,
        personality=", ".join(card.traits),
        relationship=card.relationship,
        role=card.role,
    )


def card_system_text(card: Card, pack: Pack, genre: str | None = None) -> str:
    """Return the single-turn system text of a card."""
    return system_text(card_scene(card, pack, genre), pack)


def person_of(card: Card) -> Person:
    """Return the card's protagonist as a plain person."""
    return Person(name=card.name, name_ja=card.name_ja, age=card.age, gender=card.gender)
