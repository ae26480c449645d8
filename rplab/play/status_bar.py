"""The status bar: how fast the last turn was, how much sound waits, who speaks, what is being spoken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.play.session import PlaySession

_BAR_CELLS = 6
Pieces = list[tuple[str, str]]


def describe_status(session: PlaySession | None, speaking: str, heard: float) -> Pieces:
    """Return styled pieces, the most important first: a narrow terminal leaves the last ones out.

    Args:
        session: None while the models load.
        speaking: Japanese that is being spoken.
        heard: Share of it that was heard, 0..1.
    """
    if session is None:
        return [("", tr("모델을 불러오는 중…", "loading the models…"))]
    cut = round(heard * len(speaking))
    spoken: Pieces = [("", " · ♪ "), ("class:heard", speaking[:cut]), ("", speaking[cut:])] if speaking else []
    buffer, *engines = _sound(session)
    return [*_numbers(session), buffer, *spoken, *engines]


def _numbers(session: PlaySession) -> Pieces:
    if not session.metrics:
        return [("", tr("준비됨", "ready"))]
    metrics = session.metrics[-1]
    numbers = (
        (tr("첫 글자", "TTFT"), metrics.ttft_s, "s"),
        (tr("첫 소리", "TTFA"), metrics.ttfa_s, "s"),
        ("", metrics.pieces_per_s, "tok/s"),
    )
    texts = [f"{name} {value:.2f}{unit}".strip() for name, value, unit in numbers if value is not None]
    return [("", " · ".join(texts) or "…")]


def _sound(session: PlaySession) -> Pieces:
    sink, voice = session.engines.sink, session.engines.voice
    if sink is None or voice is None:
        return [("", " · " + tr("소리 없음", "no sound"))]
    if not session.config.speak:
        return [("", " · " + tr("음소거", "muted"))]
    waiting_s = float(getattr(sink, "buffered_s", 0.0))
    filled = min(_BAR_CELLS, round(_BAR_CELLS * waiting_s / session.config.max_buffered_s + (0.499 if waiting_s else 0.0)))
    pieces: Pieces = [
        ("", f" · {tr('버퍼', 'buffer')} {'▮' * filled}{'▯' * (_BAR_CELLS - filled)}"),
        ("", f" · {voice.name} → {sink.name}"),
    ]
    restarts = int(getattr(voice, "restarts", 0))
    if restarts:
        pieces.append(("class:warning", tr(f" (음성 재시작 {restarts})", f" (voice restarted {restarts}x)")))
    return pieces
