"""What a line that somebody typed does: a message to the character, or a command that starts with `/`.

Shared by the terminal and the line mode; both only read lines and show what comes back.

To add a command: write a method, list it in `_COMMANDS` with its names and a line of help.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from rplab.l10n import tr
from rplab.play.events import SessionEvent
from rplab.play.metrics import percentile
from rplab.play.session import PlaySession
from rplab.play.turn import Turn


class Screen(Protocol):
    """Where a conversation is shown."""

    subtitles: bool
    """Whether the Japanese is shown."""

    def show(self, event: SessionEvent) -> None:
        """Show an event of the session at once."""
        ...

    def end_text(self) -> None:
        """The reply's text is complete."""
        ...

    def end_turn(self) -> None:
        """Nothing more comes from this turn."""
        ...

    def info(self, text: str) -> None:
        """Show a message of the program."""
        ...


class Conversation:
    """A session behind a screen."""

    def __init__(self, session: PlaySession, screen: Screen) -> None:
        """Join the two."""
        self.session = session
        self.screen = screen
        self.ended = False

    async def handle(self, line: str) -> None:
        """Do what a line says; returns when its turn was spoken, or was interrupted by another."""
        line = line.strip()
        if not line:
            await self.session.stop()
        elif line.startswith("/"):
            name, _, argument = line.partition(" ")
            command = next((command for names, command, _ in self._commands() if name.lower() in names), None)
            if command is None:
                self.screen.info(tr(f"모르는 명령입니다: {name} (/도움말)", f"no such command: {name} (see /help)"))
            else:
                await command(argument.strip())
        else:
            await self._show_turn(self.session.say(line, self.screen.show))

    def _commands(self) -> list[tuple[tuple[str, ...], Callable[[str], Awaitable[None]], str]]:
        return [
            (("/help", "/도움말"), self._help, tr("이 목록", "this list")),
            (("/regen", "/다시"), self._regenerate, tr("마지막 답변을 다시 받기", "draw the last reply again")),
            (("/undo", "/취소"), self._undo, tr("마지막 주고받음을 지우기", "take the last exchange back")),
            (("/mute", "/음소거"), self._mute, tr("목소리 끄기·켜기", "voice off or on")),
            (("/ja", "/일본어"), self._japanese, tr("일본어 자막: /ja on, /ja off", "Japanese subtitles: /ja on, /ja off")),
            (("/stats", "/통계"), self._stats, tr("응답 시간", "how fast it was")),
            (("/quit", "/exit", "/끝"), self._quit, tr("끝내기 (대화는 저장되어 있습니다)", "leave; the conversation is saved")),
        ]

    async def _show_turn(self, turn: Awaitable[Turn | None]) -> None:
        written = await turn
        self.screen.end_text()
        if written is not None:
            await self.session.finish(written)
        self.screen.end_turn()

    async def _help(self, _argument: str) -> None:
        self.screen.info("\n".join(f"  {' '.join(names):<22} {text}" for names, _, text in self._commands()))

    async def _regenerate(self, _argument: str) -> None:
        if not self.session.exchanges:
            self.screen.info(tr("다시 받을 답변이 없습니다.", "there is no reply to draw again"))
            return
        await self._show_turn(self.session.regenerate(self.screen.show))

    async def _undo(self, _argument: str) -> None:
        exchange = await self.session.undo()
        if exchange is None:
            self.screen.info(tr("지울 대화가 없습니다.", "there is nothing to take back"))
        else:
            self.screen.info(tr(f"지웠습니다: {exchange.user}", f"taken back: {exchange.user}"))

    async def _mute(self, _argument: str) -> None:
        speaks = not self.session.config.speak
        self.session.config = self.session.config.model_copy(update={"speak": speaks})
        if not speaks:
            await self.session.stop()
        self.screen.info(tr("목소리를 켰습니다.", "voice on") if speaks else tr("목소리를 껐습니다.", "voice off"))

    async def _japanese(self, argument: str) -> None:
        if argument not in ("on", "off", ""):
            self.screen.info(tr("/ja on 또는 /ja off", "/ja on or /ja off"))
            return
        self.screen.subtitles = argument == "on" if argument else not self.screen.subtitles
        self.screen.info(tr("일본어 자막: ", "Japanese subtitles: ") + ("on" if self.screen.subtitles else "off"))

    async def _stats(self, _argument: str) -> None:
        self.screen.info(describe_stats(self.session))

    async def _quit(self, _argument: str) -> None:
        self.ended = True
        await self.session.stop()


def describe_stats(session: PlaySession) -> str:
    """Return the last turn's numbers and the median and 95th percentile of all turns."""
    turns = list(session.metrics)
    if not turns:
        return tr("아직 통계가 없습니다.", "no turns yet")
    rows = [
        (tr("첫 글자", "first text"), "s", [turn.ttft_s for turn in turns]),
        (tr("따옴표", "first quote"), "s", [turn.ttfq_s for turn in turns]),
        (tr("따옴표→소리", "quote to sound"), "s", [turn.q2a_s for turn in turns]),
        (tr("첫 소리", "first sound"), "s", [turn.ttfa_s for turn in turns]),
        (tr("속도", "speed"), "tok/s", [turn.pieces_per_s for turn in turns]),
    ]
    lines = [f"  {tr('항목', 'what'):<16} {tr('최근', 'last'):>8} {'p50':>8} {'p95':>8}"]
    for name, unit, values in rows:
        known = [value for value in values if value is not None]
        cells = (values[-1], percentile(known, 0.5), percentile(known, 0.95))
        lines.append(f"  {name:<16} " + " ".join(f"{value:>8.2f}" if value is not None else f"{'-':>8}" for value in cells) + f" {unit}")
    gaps, underruns = sum(turn.gaps for turn in turns), sum(turn.underruns for turn in turns)
    lines.append(tr(f"  끊김 {gaps}회, 언더런 {underruns}회", f"  {gaps} gaps, {underruns} underruns"))
    return "\n".join(lines)
