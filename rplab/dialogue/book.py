"""The scenario book: the eight-section text that a dialogue's system message holds, rendered from typed fields.

Kept short on purpose (about 700 characters in v7): a tiny model is trained on it, and it stands before every dialogue.
Which free-text fields a pack leaves out of the text is its `book_omits`; the typed scenario always holds them all.
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
    rules = [fill(line, protagonist=hero, player=guest) for line in pack.prompts.policy]
    omitted = pack.book_omits
    sections: list[list[str]] = [
        ["방향", f"장르: {genre}, 시대: {era}", _stop(draft.driver)],
        ["역할", f"당신은 {hero:이다/다}. {guest:은/는} 플레이어이다."],
        [
            "세계",
            _join(_stop(draft.world), "" if "constraint" in omitted else _stop(draft.constraint)),
            f"장소: {draft.place}",
            f"사건: {draft.ongoing_event}",
            f"할 일: {draft.pending_task}",
        ],
        [
            "주인공",
            f"이름: {hero} ({protagonist.age}세, {protagonist.gender})",
            f"역할: {draft.protagonist_role}",
            f"성격: {', '.join(draft.traits)}",
            f"결핍: {draft.lack}",
            "" if "attachment_reason" in omitted else f"애착: {draft.attachment_reason}",
        ],
        [
            "플레이어",
            f"이름: {guest} ({player.age}세, {player.gender})",
            "" if "player_influence" in omitted else f"영향: {draft.player_influence}",
        ],
        [
            "관계",
            ", ".join(pack.relations),
            f"상승: {draft.rise_condition}",
            f"하락: {draft.fall_condition}",
            "" if "growth_factor" in omitted else f"성장: {draft.growth_factor}",
            "" if "endings" in omitted else f"결말: {' / '.join(draft.endings)}",
            permission,
        ],
        ["발화", f"말투: {register.value}, {draft.speech_habit}", f"어두워질 때: {draft.dark_signal}", *rules],
        [
            "최근 상호작용",
            f"플레이어의 가장 최근 턴: {draft.last_player_turn}",
            f"주인공의 가장 최근 턴: {draft.last_protagonist_turn}",
            f"관계 상태: {relation}",
        ],
    ]
    numbered = [f"{number}. {section[0]}\n" + "\n".join(line for line in section[1:] if line) for number, section in enumerate(sections)]
    return f"「{hero}」 {draft.title}\n" + "\n".join(numbered)


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


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
