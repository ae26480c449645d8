"""Commands that move in the story: draw again, edit, go back, branch, save, load. Nothing that was said is lost."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rplab.l10n import tr
from rplab.play.command import Command, describe_place, one_line, refuse
from rplab.play.sessions import list_sessions, session_path
from rplab.play.tree import ROOT, Node

if TYPE_CHECKING:
    from rplab.play.conversation import Conversation

_REPLY_WORDS = ("reply", "답변", "대답")
_START_WORDS = ("start", "처음", "0")
_LISTED = 20


def commands() -> list[Command]:
    """Return the table."""
    return [
        Command(("/regen", "/다시"), "", tr("마지막 답변을 다시 받기", "draw the last reply again"), _regenerate),
        Command(
            ("/swipe", "/넘기기"), "[n|prev]", tr("같은 말에 대한 다른 답변으로 넘기기", "turn to another reply to the same words"), _swipe
        ),
        Command(
            ("/edit", "/수정"),
            tr("글 | 답변 글", "TEXT | reply TEXT"),
            tr("내 마지막 말을 고쳐 다시 받기, 또는 답변을 직접 고치기", "rewrite your last message, or the reply itself"),
            _edit,
            _REPLY_WORDS,
        ),
        Command(("/undo", "/취소"), "", tr("마지막 주고받음 앞으로 돌아가기", "go back before the last exchange"), _undo),
        Command(
            ("/branch", "/가지"),
            tr("[이름]", "[NAME]"),
            tr("갈라진 이야기 목록, 또는 여기에 이름 붙이기", "list the branches, or name this place"),
            _branch,
        ),
        Command(
            ("/goto", "/이동"),
            tr("번호|이름|처음", "N|NAME|start"),
            tr("다른 곳으로 가서 이어 가기", "go on from another place"),
            _goto,
            ("start",),
        ),
        Command(
            ("/save", "/저장"),
            tr("[이름]", "[NAME]"),
            tr("저장 위치, 또는 이 대화를 다른 이름으로 복사", "where it is saved, or a copy under a name"),
            _save,
        ),
        Command(
            ("/load", "/불러오기"),
            tr("[이름]", "[NAME]"),
            tr("저장된 대화 목록, 또는 열기", "list the saved conversations, or open one"),
            _load,
        ),
    ]


async def _regenerate(conversation: Conversation, _argument: str) -> None:
    if conversation.timeline.head is None:
        raise refuse("다시 받을 답변이 없습니다.", "there is no reply to draw again")
    await conversation.show_turn(conversation.session.regenerate(conversation.screen.show))
    _tell_swipes(conversation)


async def _swipe(conversation: Conversation, argument: str) -> None:
    timeline = conversation.timeline
    if timeline.head is None:
        raise refuse("넘길 답변이 없습니다.", "there is no reply to turn over")
    swipes = timeline.tree.swipes(timeline.head)
    if len(swipes) == 1:
        raise refuse("답변이 하나뿐입니다. /다시 로 하나 더 받으세요.", "there is only one reply; draw another with /regen")
    here = swipes.index(timeline.head)
    if argument in ("", "next", "다음", "+"):
        wanted = (here + 1) % len(swipes)
    elif argument in ("prev", "이전", "-"):
        wanted = (here - 1) % len(swipes)
    elif argument.isdecimal() and 1 <= int(argument) <= len(swipes):
        wanted = int(argument) - 1
    else:
        raise refuse(f"1부터 {len(swipes)}까지의 번호가 필요합니다.", f"a number from 1 to {len(swipes)} is needed")
    await _go(conversation, swipes[wanted])
    _tell_swipes(conversation)


async def _edit(conversation: Conversation, argument: str) -> None:
    timeline = conversation.timeline
    if timeline.head is None:
        raise refuse("고칠 말이 없습니다.", "there is nothing to edit")
    if not argument:
        raise refuse(
            f"새 글을 함께 쓰세요: /수정 …   (지금: {timeline.user_text(timeline.head)})",
            f"write the text behind it: /edit ...   (now: {timeline.user_text(timeline.head)})",
        )
    word, _, rest = argument.partition(" ")
    await conversation.session.stop()
    if word in _REPLY_WORDS and rest.strip():
        node = timeline.write_reply(rest.strip().replace("\\n", "\n"))
        conversation.screen.info(describe_place([node], ""))
        return
    old = timeline.head
    timeline.goto(timeline.parent(old))
    await conversation.say(argument)
    if timeline.head == timeline.parent(old):  # nothing came of it: stay where the story was
        timeline.goto(old)


async def _undo(conversation: Conversation, _argument: str) -> None:
    exchange = await conversation.session.undo()
    if exchange is None:
        raise refuse("되돌릴 대화가 없습니다.", "there is nothing to take back")
    conversation.screen.info(tr(f"되돌렸습니다: {exchange.user}", f"taken back: {exchange.user}"))


async def _branch(conversation: Conversation, argument: str) -> None:
    timeline = conversation.timeline
    if argument:
        if argument.isdecimal() or argument in _START_WORDS or len(argument) > 40:
            raise refuse("이름은 숫자가 아닌 40자 이하여야 합니다.", "a name has at most 40 characters and is no number")
        timeline.name_place(argument)
        conversation.screen.info(tr(f"여기를 '{argument}'(으)로 기억합니다.", f"this place is called '{argument}' now"))
        return
    tree = timeline.tree
    if not len(tree):
        raise refuse("아직 갈래가 없습니다.", "there are no branches yet")
    on_path = {node.id for node in tree.path()}
    lines = [_describe_tip(conversation, tree[tip], tip in on_path) for tip in tree.tips()[-_LISTED:]]
    lines += [f"  {name} → [{node}]" for name, node in tree.names.items()]
    conversation.screen.info("\n".join(lines))


def _describe_tip(conversation: Conversation, node: Node, is_here: bool) -> str:
    length = len(conversation.timeline.tree.path(node.id))
    turns = tr(f"{length}턴", f"{length} turns")
    return f"{'*' if is_here else ' '} [{node.id}] {turns} · {one_line(node.user, 24)} → {one_line(node.reply, 36)}"


async def _goto(conversation: Conversation, argument: str) -> None:
    tree = conversation.timeline.tree
    if argument in _START_WORDS:
        node = ROOT
    elif argument in tree.names:
        node = tree.names[argument]
    elif argument.isdecimal() and int(argument) in tree:
        node = int(argument)
    else:
        raise refuse(
            f"그런 곳이 없습니다: {argument or '(없음)'}. /가지 에서 번호를 볼 수 있습니다.",
            f"no such place: {argument or 'nothing given'}; /branch lists the numbers",
        )
    await _go(conversation, node)


async def _go(conversation: Conversation, node: int) -> None:
    await conversation.session.stop()
    conversation.timeline.goto(node or None)
    conversation.screen.info(describe_place(conversation.timeline.tree.path(), conversation.session.scene.greeting))


def _tell_swipes(conversation: Conversation) -> None:
    timeline = conversation.timeline
    if timeline.head is not None and len(swipes := timeline.tree.swipes(timeline.head)) > 1:
        conversation.screen.info(
            tr(f"답변 {swipes.index(timeline.head) + 1}/{len(swipes)}", f"reply {swipes.index(timeline.head) + 1}/{len(swipes)}")
        )


async def _save(conversation: Conversation, argument: str) -> None:
    archive = conversation.timeline.archive
    if archive is None or conversation.host is None:
        raise refuse("이 대화는 저장하지 않고 있습니다 (--session 이름).", "this conversation is not saved (start with --session NAME)")
    if not argument:
        archive.write()
        if archive.num_pending:
            raise refuse(f"아직 저장하지 못했습니다: {archive.path}", f"not saved yet: {archive.path}")
        conversation.screen.info(tr(f"저장되어 있습니다: {archive.path}", f"saved in {archive.path}"))
        return
    path = session_path(conversation.host.sessions, argument)
    if path.exists():
        raise refuse(f"'{argument}' 대화가 이미 있습니다. 다른 이름을 쓰세요.", f"session '{argument}' exists; use another name")
    await asyncio.to_thread(archive.copy_to, path, argument)
    conversation.screen.info(tr(f"복사했습니다: {path}", f"copied to {path}"))


async def _load(conversation: Conversation, argument: str) -> None:
    host = conversation.host
    if host is None:
        raise refuse("여기서는 다른 대화를 열 수 없습니다.", "no other conversation can be opened here")
    if not argument:
        conversation.screen.info(describe_sessions(host.sessions))
        return
    path = session_path(host.sessions, argument)
    if not path.exists() and not path.with_suffix(".jsonl").exists():
        raise refuse(f"'{argument}' 대화가 없습니다. /불러오기 로 목록을 보세요.", f"there is no session '{argument}'; /load lists them")
    current = conversation.timeline.archive
    if current is not None and current.path == path:
        raise refuse("지금 열려 있는 대화입니다.", "that conversation is the one that is open")
    opened = host.open(argument, None)
    await conversation.session.stop()
    conversation.timeline.close()
    conversation.adopt(opened)
    count = len(opened.timeline.tree.path())
    conversation.screen.info(tr(f"'{argument}' 대화를 이어 갑니다 ({count}턴).", f"going on with '{argument}' after {count} turns"))
    conversation.screen.info(describe_place(opened.timeline.tree.path(), opened.scene.greeting))


def describe_sessions(folder: Path) -> str:
    """Return the list of saved conversations, for people."""
    lines: list[str] = []
    for entry in list_sessions(folder)[:_LISTED]:
        when = f"{datetime.datetime.fromtimestamp(entry.changed):%Y-%m-%d %H:%M}"
        if entry.problem:
            lines.append(f"  {entry.session_id:<28} {when}  {tr('읽을 수 없음', 'cannot be read')}: {entry.problem}")
            continue
        turns = tr(f"{entry.num_turns}턴", f"{entry.num_turns} turns")
        lines.append(f"  {entry.session_id:<28} {when}  {turns:>9}  {entry.character}  {one_line(entry.last, 32)}")
    return "\n".join(lines) or tr("저장된 대화가 없습니다.", "there are no saved conversations")
