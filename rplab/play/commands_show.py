"""Commands that only tell or write something: numbers, export, help, the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len

from rplab.l10n import tr
from rplab.play.command import Command, refuse
from rplab.play.export import EXPORTS, export
from rplab.play.metrics import percentile

if TYPE_CHECKING:
    from rplab.play.conversation import Conversation
    from rplab.play.session import PlaySession


def commands() -> list[Command]:
    """Return the table."""
    return [
        Command(
            ("/export", "/내보내기"),
            tr("wav|srt|jsonl [파일]", "wav|srt|jsonl [FILE]"),
            tr("대화를 파일로 쓰기", "write the conversation to a file"),
            _export,
            EXPORTS,
        ),
        Command(("/stats", "/통계"), "", tr("응답 시간", "how fast it was"), _stats),
        Command(("/help", "/도움말"), tr("[명령]", "[COMMAND]"), tr("이 목록", "this list"), _help),
        Command(("/quit", "/exit", "/끝"), "", tr("끝내기 (대화는 저장되어 있습니다)", "leave; the conversation is saved"), _quit),
    ]


async def _export(conversation: Conversation, argument: str) -> None:
    kind, _, name = argument.partition(" ")
    if kind not in EXPORTS:
        raise refuse("/내보내기 wav|srt|jsonl [파일]", "/export wav|srt|jsonl [FILE]")
    await conversation.session.stop()
    archive = conversation.timeline.archive
    default = Path("out") / f"{archive.path.stem if archive is not None else 'conversation'}.{kind}"
    path = Path(name.strip()).expanduser() if name.strip() else default
    written = await export(kind, path, conversation.session, conversation.timeline)
    conversation.screen.info(tr(f"썼습니다: {', '.join(map(str, written))}", f"written: {', '.join(map(str, written))}"))


async def _stats(conversation: Conversation, _argument: str) -> None:
    conversation.screen.info(describe_stats(conversation.session))


async def _help(conversation: Conversation, argument: str) -> None:
    wanted = argument if argument.startswith("/") or not argument else f"/{argument}"
    chosen = [command for command in conversation.commands if not wanted or wanted in command.names]
    if not chosen:
        raise refuse(f"모르는 명령입니다: {argument}", f"no such command: {argument}")
    heads = [f"{' '.join(command.names)} {command.usage}".rstrip() for command in chosen]
    width = min(30, max(map(cell_len, heads)))
    lines = [f"  {head}{' ' * (width - cell_len(head))}  {command.explanation}" for head, command in zip(heads, chosen, strict=True)]
    if not argument:
        lines.append(
            tr(
                "  말하는 동안 글자를 치거나 Enter·Esc를 누르면 멈춥니다. Ctrl-C 두 번이면 끝납니다.",
                "  typing, Enter or Esc interrupts the speech; Ctrl-C twice leaves",
            )
        )
    conversation.screen.info("\n".join(lines))


async def _quit(conversation: Conversation, _argument: str) -> None:
    conversation.ended = True
    await conversation.session.stop()


def describe_stats(session: PlaySession) -> str:
    """Return the last turn's numbers and the median and 95th percentile of all turns."""
    turns = list(session.metrics)
    if not turns:
        return tr("아직 통계가 없습니다.", "no turns yet")
    rows: list[tuple[str, str, list[float | None]]] = [
        (tr("첫 글자", "first text"), "s", [turn.ttft_s for turn in turns]),
        (tr("따옴표", "first quote"), "s", [turn.ttfq_s for turn in turns]),
        (tr("따옴표→소리", "quote to sound"), "s", [turn.q2a_s for turn in turns]),
        (tr("첫 소리", "first sound"), "s", [turn.ttfa_s for turn in turns]),
        (tr("속도", "speed"), "tok/s", [turn.pieces_per_s for turn in turns]),
        (tr("새로 읽은 글", "prompt read"), "tok", [_float(turn.prefill_new) for turn in turns]),
        (tr("다시 쓴 글", "prompt reused"), "tok", [_float(turn.prefill_cached) for turn in turns]),
        (tr("들은 비율", "heard"), "", [turn.heard_ratio for turn in turns]),
        (tr("멈추기까지", "to silence"), "s", [turn.cancel_s for turn in turns]),
    ]
    lines = [_pad(f"  {tr('항목', 'what')}", 18) + f"{tr('최근', 'last'):>8} {'p50':>8} {'p95':>8}"]
    for name, unit, values in rows:
        known = [value for value in values if value is not None]
        cells = (values[-1], percentile(known, 0.5), percentile(known, 0.95))
        shown = " ".join(f"{value:>8.2f}" if value is not None else f"{'-':>8}" for value in cells)
        lines.append(f"{_pad(f'  {name}', 18)}{shown} {unit}".rstrip())
    gaps, underruns = sum(turn.gaps for turn in turns), sum(turn.underruns for turn in turns)
    restarts = sum(turn.worker_restarts for turn in turns)
    lines.append(
        tr(
            f"  끊김 {gaps}회, 언더런 {underruns}회, 음성 프로세스 재시작 {restarts}회",
            f"  {gaps} gaps, {underruns} underruns, {restarts} voice restarts",
        )
    )
    return "\n".join(lines)


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


def _pad(text: str, cells: int) -> str:
    """Fill up to a width in terminal cells: a Hangul syllable takes two."""
    return text + " " * max(0, cells - cell_len(text))
