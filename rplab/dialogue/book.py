"""The scenario book: the eight-section text that a dialogue's system message holds, rendered from typed fields.

Kept short on purpose (about 700 characters): a tiny model is trained on it, and it stands before every dialogue.
"""

from __future__ import annotations

from rplab.character import Card, Person, Register
from rplab.dialogue.draft import Draft
from rplab.dialogue.pack import Pack
from rplab.dialogue.prompts import Word, fill


def render_book(
    draft: Draft,
    *,
    protagonist: Person,
    player: Person,
    register: Register,
    genre: str,
    era: str,
    relation: str,
    gate: bool,
    gate_condition: str,
    pack: Pack,
) -> str:
    """Return the book: a title and sections 0-7.

    Args:
        draft: Free text.
        protagonist: Who the model plays.
        player: Who the user is.
        register: Speech level of the protagonist.
        genre: A genre of the pack.
        era: An era of the pack.
        relation: Relation label at the start.
        gate: Whether the genre's staged scene may happen.
        gate_condition: Relation label from which on it may begin.
        pack: Gives the scene's name and the rules of section 6.
    """
    hero, guest = Word(protagonist.name), Word(player.name)
    scene = pack.genres[genre].scene
    permission = f"{scene.name} 가능: {gate_condition}부터" if gate else f"{scene.name} 불가: {scene.decline}"
    rules = "\n".join(fill(line, protagonist=hero, player=guest) for line in pack.prompts.policy)
    return (
        f"「{hero}」 {draft.title}\n"
        f"0. 방향\n장르: {genre}, 시대: {era}\n{_stop(draft.driver)}\n"
        f"1. 역할\n당신은 {hero:이다/다}. {guest:은/는} 플레이어이다.\n"
        f"2. 세계\n{_stop(draft.world)} {_stop(draft.constraint)}\n"
        f"장소: {draft.place}\n사건: {draft.ongoing_event}. 할 일: {draft.pending_task}\n"
        f"3. 주인공\n이름: {hero} ({protagonist.age}세, {protagonist.gender})\n역할: {draft.protagonist_role}\n"
        f"성격: {', '.join(draft.traits)}\n결핍: {draft.lack}. 애착: {draft.attachment_reason}\n"
        f"4. 플레이어\n이름: {guest} ({player.age}세, {player.gender})\n영향: {draft.player_influence}\n"
        f"5. 관계\n{', '.join(pack.relations)}\n상승: {draft.rise_condition}\n하락: {draft.fall_condition}\n"
        f"성장: {draft.growth_factor}\n결말: {' / '.join(draft.endings)}\n{permission}\n"
        f"6. 발화\n말투: {register.value}, {draft.speech_habit}\n어두워질 때: {draft.dark_signal}\n{rules}\n"
        f"7. 최근 상호작용\n플레이어의 가장 최근 턴: {draft.last_player_turn}\n"
        f"주인공의 가장 최근 턴: {draft.last_protagonist_turn}\n관계 상태: {relation}"
    )


def _stop(sentence: str) -> str:
    """Return a phrase that ends like a sentence."""
    return sentence if sentence[-1] in ".!?…" else f"{sentence}."


def card_draft(card: Card, driver: str) -> Draft:
    """Return the draft that a card amounts to; what a card does not say is left general.

    Args:
        card: The character.
        driver: What moves the story.
    """
    polite = card.register_ is Register.POLITE
    hero, guest = Word(card.name), Word(card.player.name)
    return Draft(
        title=card.role,
        driver=driver,
        world=card.world,
        constraint="서두르지 않고 서로의 사정을 존중해야 한다",
        place=card.world,
        ongoing_event=card.situation,
        pending_task="하던 일을 함께 마친다",
        protagonist_role=card.role,
        traits=card.traits[:3],
        lack=card.lack,
        attachment_reason=card.relationship,
        player_influence="말 한마디가 마음을 움직인다",
        rise_condition="약속을 지키고 솔직하게 말한다",
        fall_condition="말없이 떠나거나 거짓말을 한다",
        growth_factor="속마음을 말로 꺼내는 용기",
        endings=("함께 남는다", "서로를 응원하며 헤어진다"),
        speech_habit=card.speech_habits,
        dark_signal="말수가 줄고 눈을 피한다",
        last_player_turn=f'{guest:은/는} 곁으로 다가온다. "잠깐 이야기할까?"',
        last_protagonist_turn=f'{hero:은/는} 고개를 끄덕인다. "{"네, 좋아요." if polite else "응, 좋아."}"',
    )


def card_book(card: Card, pack: Pack, *, genre: str | None = None, relation: str = "친밀", era: str = "현대") -> str:
    """Return the book that a card describes by itself, for play.

    Args:
        card: The character.
        pack: A pack; its first genre is used when `genre` is None.
        genre: A genre of the pack.
        relation: Relation label at the start.
        era: An era of the pack.
    """
    chosen = genre or next(iter(pack.genres))
    return render_book(
        card_draft(card, pack.genres[chosen].driver),
        protagonist=card,
        player=card.player,
        register=card.register_,
        genre=chosen,
        era=era,
        relation=relation,
        gate=False,
        gate_condition="친밀",
        pack=pack,
    )
