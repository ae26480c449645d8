"""Commands about who is there and what they know: card, lorebook, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from rplab.character import LoreEntry
from rplab.l10n import tr
from rplab.play.command import Command, number_in, one_line, refuse
from rplab.play.memory import Candidate, EventKind, MemoryEvent, Slot, best_first
from rplab.play.tree import ROOT

if TYPE_CHECKING:
    from rplab.play.conversation import Conversation


def commands() -> list[Command]:
    """Return the table."""
    return [
        Command(
            ("/card", "/카드"),
            tr("[이름|파일]", "[NAME|FILE]"),
            tr("캐릭터 보기, 또는 다른 캐릭터와 새 대화", "show the character, or start anew with another"),
            _card,
        ),
        Command(
            ("/lore", "/배경"),
            tr("[add 낱말,낱말 = 내용 | drop n]", "[add KEY,KEY = TEXT | drop N]"),
            tr("세계 설정 보기, 더하기, 빼기", "show, add or drop lore"),
            _lore,
            ("add", "drop"),
        ),
        Command(
            ("/mem", "/기억"),
            tr("[add 무엇 = 내용 | pin n | unpin n | forget n | find 글]", "[add KEY = TEXT | pin N | unpin N | forget N | find TEXT]"),
            tr("기억 보기, 고정, 잊기, 찾기", "show, pin, forget or search memories"),
            _memory,
            ("add", "pin", "unpin", "forget", "find"),
        ),
    ]


async def _card(conversation: Conversation, argument: str) -> None:
    if argument:
        if conversation.host is None:
            raise refuse("여기서는 카드를 바꿀 수 없습니다.", "the card cannot be changed here")
        opened = conversation.host.open(None, argument)
        await conversation.session.stop()
        conversation.timeline.close()
        conversation.adopt(opened)
        conversation.screen.info(tr(f"{opened.card.name}와(과) 새 대화를 시작합니다.", f"a new conversation with {opened.card.name}"))
        if opened.scene.greeting:
            conversation.screen.info(opened.scene.greeting)
        return
    card = conversation.card
    rows = [
        (tr("이름", "name"), f"{card.name} ({card.name_ja}), {card.age}, {card.gender}"),
        (tr("역할", "role"), card.role),
        (tr("성격", "traits"), ", ".join(card.traits)),
        (tr("말투", "register"), f"{card.register_.value} · {card.speech_habits}"),
        (tr("세계", "world"), card.world),
        (tr("상황", "situation"), card.situation),
        (tr("상대", "player"), f"{card.player.name} ({card.player.name_ja}), {card.player.age} · {card.relationship}"),
    ]
    conversation.screen.info("\n".join(f"  {name}: {value}" for name, value in rows))


async def _lore(conversation: Conversation, argument: str) -> None:
    timeline = conversation.timeline
    action, _, rest = argument.partition(" ")
    if action == "add":
        keys, equals, content = rest.partition("=")
        if not equals:
            raise refuse("/배경 add 낱말,낱말 = 내용", "/lore add KEY,KEY = TEXT")
        try:
            entry = LoreEntry(keys=tuple(key for key in map(str.strip, keys.split(",")) if key), content=content)
        except ValidationError as error:
            raise refuse(f"쓸 수 없습니다: {error.errors()[0]['msg']}", f"cannot be used: {error.errors()[0]['msg']}") from None
        timeline.set_lore((*timeline.own_lore, entry))
    elif action == "drop":
        number = number_in(rest.strip(), tr("설정", "lore")) - 1
        first = len(conversation.card.lore)
        if not first <= number < first + len(timeline.own_lore):
            raise refuse("이 대화에서 더한 설정만 뺄 수 있습니다.", "only lore that was added in this conversation can be dropped")
        timeline.set_lore(tuple(entry for index, entry in enumerate(timeline.own_lore, first) if index != number))
    elif argument:
        raise refuse("/배경, /배경 add 낱말 = 내용, /배경 drop n", "/lore, /lore add KEY = TEXT, /lore drop N")
    active = {id(hit.entry) for hit in timeline.lore_hits()}
    entries = timeline.prompter.world.lore
    lines = [_describe_lore(number, entry, id(entry) in active) for number, entry in enumerate(entries, 1)]
    conversation.screen.info("\n".join(lines) or tr("세계 설정이 없습니다.", "there is no lore"))


def _describe_lore(number: int, entry: LoreEntry, is_active: bool) -> str:
    keys = tr("언제나", "always") if entry.constant else ", ".join(entry.keys)
    also = f" + {', '.join(entry.secondary_keys)}" if entry.secondary_keys else ""
    return f"{'*' if is_active else ' '} {number:>3} [{keys}{also}] {one_line(entry.content, 60)}"


async def _memory(conversation: Conversation, argument: str) -> None:
    action, _, rest = argument.partition(" ")
    rest = rest.strip()
    if action == "find":
        found = conversation.timeline.prompter.find_slots(rest)
        conversation.screen.info("\n".join(map(_describe_slot, found)) or tr("찾은 기억이 없습니다.", "nothing was found"))
        return
    if action == "add":
        _add_memory(conversation, rest)
    elif action in ("pin", "unpin", "forget"):
        _change_memory(conversation, action, rest)
    elif argument:
        raise refuse("/기억, /기억 pin n, /기억 forget n, /기억 find 글", "/mem, /mem pin N, /mem forget N, /mem find TEXT")
    lines = [_describe_slot(slot) for slot in best_first(conversation.timeline.prompter.slots())]
    if conversation.remembering.num_dropped:
        dropped = conversation.remembering.num_dropped
        lines.append(tr(f"  (쓸 수 없어 버린 후보 {dropped}개)", f"  ({dropped} candidates could not be used)"))
    conversation.screen.info("\n".join(lines) or tr("아직 기억이 없습니다.", "nothing is remembered yet"))


def _add_memory(conversation: Conversation, text: str) -> None:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals and value):
        raise refuse("/기억 add 무엇 = 내용", "/mem add KEY = TEXT")
    player = conversation.card.player.name
    candidate = Candidate("fact", player, key[:120], value[:400], 1.0, 1.0, 0.5, text)
    turn = conversation.timeline.head or ROOT
    conversation.timeline.remember([MemoryEvent(turn, "candidate", candidate), MemoryEvent(turn, "pin", slot=(player, key[:120]))])


def _change_memory(conversation: Conversation, action: str, argument: str) -> None:
    number = number_in(argument, tr("기억", "memory"))
    slot = next((slot for slot in conversation.timeline.prompter.slots() if slot.id == number), None)
    if slot is None:
        raise refuse(f"{number}번 기억이 없습니다. /기억 으로 목록을 보세요.", f"there is no memory {number}; /mem lists them")
    kinds: dict[str, EventKind] = {"pin": "pin", "unpin": "unpin", "forget": "forget"}
    place = (slot.candidate.subject, slot.candidate.key)
    conversation.timeline.remember([MemoryEvent(conversation.timeline.head or ROOT, kinds[action], slot=place)])


def _describe_slot(slot: Slot) -> str:
    notes = [tr(f"앞서: {', '.join(slot.before)}", f"before: {', '.join(slot.before)}")] if slot.before else []
    notes += [tr(f"불확실: {slot.doubted}", f"doubtful: {slot.doubted}")] if slot.doubted else []
    extra = f"  ({'; '.join(notes)})" if notes else ""
    return f"{'*' if slot.pinned else ' '} {slot.id:>3} [{slot.candidate.type} {slot.score:.2f}] {slot.text}{extra}"
