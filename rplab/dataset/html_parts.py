"""Building blocks of the HTML report: every text is escaped here, every width is a number."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

Number = int | float


def escape(text: Any) -> str:
    """Return text safe inside HTML."""
    return html.escape(str(text))


def number(value: Number) -> str:
    """Return a number for reading: 12,345 or 0.87."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def share(part: Number, whole: Number) -> str:
    """Return a percentage; a dash when there is nothing to divide by."""
    return f"{part / whole:.1%}" if whole else "–"


def tile(value: str, label: str, kind: str = "") -> str:
    """Return one big number."""
    return f'<div class="tile {kind}"><b>{escape(value)}</b><span class="soft">{escape(label)}</span></div>'


def box(title: str, body: str, *, wide: bool = False) -> str:
    """Return a titled box."""
    return f'<div class="box{" wide" if wide else ""}"><h3>{escape(title)}</h3>{body}</div>'


def bars(
    counts: Mapping[str, int] | Sequence[tuple[str, int]], total: int = 0, kinds: Mapping[str, str] | None = None, limit: int = 16
) -> str:
    """Return horizontal bars with number and share.

    Args:
        counts: Name -> number, in the order to show.
        total: What shares are of; 0: the sum.
        kinds: Name -> `bad`, `good` or `c`.
        limit: Most bars; the rest is summed up in words.
    """
    items = list(counts.items()) if isinstance(counts, Mapping) else list(counts)
    total = total or sum(value for _, value in items)
    top = max((value for _, value in items), default=0) or 1
    shown = [_bar(name, value, value / top, share(value, total), (kinds or {}).get(name, "")) for name, value in items[:limit]]
    rest = items[limit:]
    more = f'<p class="soft">and {len(rest)} more, {sum(value for _, value in rest):,} together</p>' if rest else ""
    return "".join(shown) + more


def _bar(name: str, value: int, length: float, part: str, kind: str) -> str:
    drawn = f'<span><i style="width:{100 * length:.1f}%"></i></span>'
    return f'<div class="bar {kind}"><span>{escape(name)}</span>{drawn}<em>{value:,} · {part}</em></div>'


def funnel(total: int, steps: Sequence[tuple[str, int]], limit: int = 18) -> str:
    """Return a funnel: what was there, and after each step what was left and what went (in red).

    Args:
        total: Items at the start.
        steps: (name, items lost), in the order to show.
        limit: Most steps; the rest is one step.
    """
    if len(steps) > limit:
        rest = steps[limit - 1 :]
        steps = [*steps[: limit - 1], (f"{len(rest)} other reasons", sum(lost for _, lost in rest))]
    left = total
    rows = [_funnel_row("everything", left, 0, total)]
    for name, lost in steps:
        left -= lost
        rows.append(_funnel_row(name, left, lost, total))
    return "".join(rows)


def _funnel_row(name: str, left: int, lost: int, total: int) -> str:
    went = f'<u style="width:{max(100 * lost / total, 0.6):.2f}%"></u>' if lost else ""
    told = f"−{lost:,} · {share(left, total)}" if lost else f"{left:,}"
    drawn = f'<span class="step"><i style="width:{100 * left / total:.2f}%"></i>{went}</span>'
    return f'<div class="bar funnel"><span>{escape(name)}</span>{drawn}<em>{told}</em></div>'


def columns(counts: Mapping[str, int], unit: str) -> str:
    """Return a histogram of upright columns; names of the first and last bin stand below."""
    if not counts:
        return '<p class="soft">nothing to show</p>'
    top = max(counts.values()) or 1
    names = list(counts)
    cells = "".join(
        f'<div style="height:{100 * value / top:.1f}%" title="{escape(name)} {escape(unit)}: {value:,}"></div>'
        for name, value in counts.items()
    )
    axis = f'<div class="axis"><span>{escape(names[0])}</span><span>{escape(unit)}</span><span>{escape(names[-1])}</span></div>'
    return f'<div class="cols">{cells}</div>{axis}'


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; numbers stand right."""
    numeric = [all(isinstance(row[at], int | float) for row in rows) and bool(rows) for at in range(len(head))]
    top = "".join(f"<th{_right(right)}>{escape(name)}</th>" for name, right in zip(head, numeric, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{_right(right)}>{_cell(cell)}</td>" for cell, right in zip(row, numeric, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _right(right: bool) -> str:
    return ' class="n"' if right else ""


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else escape(value)


def heat(cells: Mapping[str, Mapping[str, int]]) -> str:
    """Return a table of how often each row led to each column; darker = larger share of the row."""
    names = sorted({*cells, *(name for row in cells.values() for name in row)})
    top = "<th></th>" + "".join(f'<th class="n">{escape(name)}</th>' for name in names)
    body = ""
    for name in names:
        own = cells.get(name, {})
        whole = sum(own.values())
        body += f"<tr><th>{escape(name)}</th>" + "".join(_heat_cell(own.get(other, 0), whole) for other in names) + "</tr>"
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _heat_cell(value: int, whole: int) -> str:
    part = value / whole if whole else 0.0
    text = f"{value:,}" if value else "·"
    return f'<td class="heat" style="background:rgba(59,111,212,{0.7 * part:.2f})" title="{part:.1%} of the row">{text}</td>'


def conversation(turns: Sequence[Mapping[str, str]], system_chars: int = 220) -> str:
    """Return a conversation as bubbles; long system texts are shortened."""
    parts: list[str] = []
    for turn in turns:
        text = turn["content"]
        if turn["role"] == "system" and len(text) > system_chars:
            text = f"{text[:system_chars]}… ({len(text):,} characters)"
        parts.append(f'<div class="say {escape(turn["role"])}">{escape(text)}</div>')
    return "".join(parts)
