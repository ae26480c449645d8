"""State machines as drawings: Mermaid text, and SVG that any browser shows without a library.

The SVG is laid out in columns by distance from the first state; moves forward run left to right, moves back below the
boxes. Each arrow carries its rule, numbered in the order in which the rules are tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rplab.dialogue.machine import Machine, State

BOX_WIDTH, BOX_HEIGHT = 168, 46
COLUMN_GAP, ROW_GAP = 190, 64
MARGIN = 40
_HEAD = 34
"""Room for a machine's name."""
_STYLE = (
    "text{font-family:system-ui,sans-serif;fill:#1d2430}.name{font-size:13px;font-weight:600}.hint{font-size:11px;fill:#5b6575}"
    ".rule{font-size:10px;fill:#37507a;paint-order:stroke;stroke:#fff;stroke-width:4px}.title{font-size:15px;font-weight:700}"
    "rect.state{fill:#f4f7fc;stroke:#7d92b5;rx:9}rect.first{fill:#e2edff;stroke:#2f62b5;stroke-width:2}"
    "path.move{fill:none;stroke:#8ba0c2;stroke-width:1.3}"
)


def mermaid(machine: Machine) -> str:
    """Return the machine as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {machine.initial}"]
    for state in machine.states.values():
        lines.append(f"    {state.name}: {state.name}<br/>{hint_of(state)}")
        lines += [f"    {state.name} --> {rule.target}: {index}. {rule.describe()}" for index, rule in enumerate(state.rules, start=1)]
    return "\n".join(lines) + "\n"


def hint_of(state: State) -> str:
    """Return what a state stands for in a word or two: its relation label or its action hint."""
    return str(state.flags.get("relation_status") or state.flags.get("action_hint", ""))


def svg(machines: Sequence[Machine]) -> str:
    """Return machines as one SVG document, one below the other."""
    parts, top, width = list[str](), 0.0, 0.0
    for machine in machines:
        drawing = _Drawing(machine, top)
        parts += drawing.parts()
        top, width = drawing.bottom, max(width, drawing.width)
    marker = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#6f86ad"/></marker></defs>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top:.0f}" width="{width:.0f}" height="{top:.0f}" role="img">'
    return "\n".join([head, f"<style>{_STYLE}</style>", marker, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Place:
    column: int
    row: int
    x: float
    y: float


class _Drawing:
    """One machine below `top`."""

    def __init__(self, machine: Machine, top: float) -> None:
        self._machine = machine
        self._top = top
        self._places = self._lay_out()
        self.width = max(place.x for place in self._places.values()) + BOX_WIDTH + MARGIN
        self._floor = max(place.y for place in self._places.values()) + BOX_HEIGHT
        backward = sum(self._is_backward(state.name, rule.target) for state in machine.states.values() for rule in state.rules)
        self.bottom = self._floor + 30 + 15 * backward + MARGIN

    def _lay_out(self) -> dict[str, _Place]:
        columns = _columns(self._machine)
        return {
            name: _Place(
                at,
                row,
                MARGIN + at * (BOX_WIDTH + COLUMN_GAP),
                self._top + MARGIN + _HEAD + row * (BOX_HEIGHT + ROW_GAP) + (at % 2) * ROW_GAP / 2,
            )
            for at, names in enumerate(columns)
            for row, name in enumerate(names)
        }

    def _is_backward(self, source: str, target: str) -> bool:
        return self._places[target].column <= self._places[source].column

    def parts(self) -> list[str]:
        """Return the elements: arrows first, so that boxes lie above them."""
        title = f'<text class="title" x="{MARGIN}" y="{self._top + MARGIN:.0f}">{escape(self._machine.name)}</text>'
        arrows, lane = list[str](), 0
        for state in self._machine.states.values():
            for index, rule in enumerate(state.rules):
                label = f"{index + 1}. {rule.describe()}"
                if self._is_backward(state.name, rule.target):
                    lane += 1
                    arrows += self._backward(state.name, rule.target, label, lane)
                else:
                    arrows += self._forward(state.name, rule.target, label, index)
        return [title, *arrows, *(self._box(state) for state in self._machine.states.values())]

    def _forward(self, source: str, target: str, label: str, index: int) -> list[str]:
        start, end = self._places[source], self._places[target]
        x, y = start.x + BOX_WIDTH, start.y + BOX_HEIGHT / 2 + (index - 1) * 9
        to_x, to_y = end.x, end.y + BOX_HEIGHT / 2
        path = f"M{x:.0f} {y:.0f} C{x + 70:.0f} {y:.0f} {to_x - 70:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
        share = 0.28 + 0.16 * (index % 3)
        return [_path(path), _label(x + share * (to_x - x), y + share * (to_y - y) - 4, label)]

    def _backward(self, source: str, target: str, label: str, lane: int) -> list[str]:
        start, end = self._places[source], self._places[target]
        x, to_x = start.x + BOX_WIDTH * (0.35 + 0.05 * (lane % 5)), end.x + BOX_WIDTH * (0.55 + 0.05 * (lane % 5))
        depth = self._floor + 14 + 15 * lane
        path = f"M{x:.0f} {start.y + BOX_HEIGHT:.0f} V{depth:.0f} H{to_x:.0f} V{end.y + BOX_HEIGHT:.0f}"
        return [_path(path), _label(min(x, to_x) + 8, depth - 3, f"{source} → {label}")]

    def _box(self, state: State) -> str:
        place = self._places[state.name]
        kind = "state first" if state.name == self._machine.initial else "state"
        middle = place.x + BOX_WIDTH / 2
        return (
            f"<g><title>{escape(state.description)}</title>"
            f'<rect class="{kind}" x="{place.x:.0f}" y="{place.y:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}"/>'
            f'<text class="name" x="{middle:.0f}" y="{place.y + 20:.0f}" text-anchor="middle">{escape(state.name)}</text>'
            f'<text class="hint" x="{middle:.0f}" y="{place.y + 36:.0f}" text-anchor="middle">{escape(hint_of(state))}</text></g>'
        )


def _columns(machine: Machine) -> list[list[str]]:
    """Return the states by distance from the first one; what it does not reach comes last."""
    distance = {machine.initial: 0}
    queue = [machine.initial]
    for name in queue:
        for rule in machine.states[name].rules:
            if rule.target not in distance:
                distance[rule.target] = distance[name] + 1
                queue.append(rule.target)
    last = max(distance.values()) + 1
    columns: list[list[str]] = [[] for _ in range(last + 1)]
    for name in machine.states:
        columns[distance.get(name, last)].append(name)
    return [names for names in columns if names]


def _path(data: str) -> str:
    return f'<path class="move" d="{data}" marker-end="url(#arrow)"/>'


def _label(x: float, y: float, text: str) -> str:
    return f'<text class="rule" x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'
