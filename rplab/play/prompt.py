"""Make the prompt of a turn within its budget, so that as much of it as possible was read before.

    system text + summary | greeting | exchanges ... | memory + lore + the new message

The order is by how seldom a part changes: a model that keeps its key/value cache reads only what comes after the first
difference. So the window of exchanges loses its oldest third at once instead of one exchange a turn, the summary changes
only when the window does, and what was found for this one message stands in the message itself, at the very end.

The system text and the new message are never cut. When room is short, other parts give way in this order: the found
memories and lore, older exchanges, the summary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rplab.character import LoreEntry
from rplab.play.history import Messages
from rplab.play.lore import LoreHit, find_lore, fit_lore
from rplab.play.memory import Slot
from rplab.play.memory_config import MemoryConfig
from rplab.play.recall import Recall, Vector
from rplab.play.tree import Node

if TYPE_CHECKING:
    from rplab.play.timeline import Timeline

Count = Callable[[Messages], int]
_SLOT_BASE = 1_000_000_000
"""Turns and memories share one index; memories are numbered from here on."""
_MIN_TURN_FIT = 0.35
"""How well a turn from before the window must fit to be told again (0..1)."""
_MIN_SLOT_FIT = 0.05
_MIN_FRESH_FIT = 0.3
"""How well a memory must fit the new message to be told although the conversation did not bring it up."""
_MAX_FRESH_SLOTS = 3
_SLOT_SCORE_SHARE = 0.35
"""Of a memory's own score in its rank; the rest is how well it fits (the predecessor's weights)."""


@dataclass(frozen=True)
class World:
    """What prompts are made from beside the conversation."""

    system: str
    character: str
    player: str
    greeting: str = ""
    lore: tuple[LoreEntry, ...] = ()
    config: MemoryConfig = field(default_factory=MemoryConfig)
    max_turns: int = 8
    """Most exchanges that the model sees again."""


@dataclass(frozen=True)
class Gap:
    """Exchanges that left the window and are in no summary yet."""

    until: int
    """The last of them."""
    summary: str
    """What stands for everything before them; may be empty."""
    nodes: tuple[Node, ...]


class Prompter:
    """Makes prompts for one conversation."""

    def __init__(self, world: World, timeline: Timeline) -> None:
        """Read from `timeline`, never write to it."""
        self.world = world
        self.query_vector: Vector | None = None
        """Embedding of the message that is being answered, where there is an endpoint for it."""
        self.recall = Recall()
        self._timeline = timeline
        self._costs: dict[tuple[int, str], int] = {}
        self._text_costs: dict[str, int] = {}
        self._last: tuple[Count, int] | None = None

    def compose(self, user: str, count: Count, room: int) -> Messages | None:
        """Return the messages of a prompt of at most `room` tokens; None when system text and message do not fit.

        Args:
            user: What the player wrote.
            count: Gives the tokens of messages.
            room: Most tokens of the prompt.
        """
        self._last = (count, room)
        path = self._timeline.tree.path()
        start = self._window_start(path, count, room)
        summary = self._summary(path, start)
        for tail in (self._tail(user, path, start, count, room), ""):
            messages = self._messages(summary, path[start:], greet=start == 0, user=f"{tail}{user}")
            if count(messages) <= room:
                return messages
        while start < len(path):
            start += max(1, (len(path) - start) // 3)
            messages = self._messages(summary, path[start:], greet=False, user=user)
            if count(messages) <= room:
                return messages
        bare = self._messages("", [], greet=False, user=user)
        return bare if count(bare) <= room else None

    def find_gap(self) -> Gap | None:
        """Return what the next prompt will neither show nor summarise; None when there is nothing."""
        config = self.world.config
        if self._last is None or not config.enabled or not config.summary_tokens:
            return None
        path = self._timeline.tree.path()
        start = self._window_start(path, *self._last)
        covered = self._covered(path, start)
        if covered >= start:
            return None
        return Gap(path[start - 1].id, self._summary(path, start), tuple(path[covered:start]))

    def cost(self, text: str) -> int:
        """Return the tokens of a text, as the model that was asked last counts them."""
        if self._last is None:
            return len(text)
        if text not in self._text_costs:
            count = self._last[0]
            self._text_costs[text] = max(0, count([{"role": "user", "content": text}]) - count([{"role": "user", "content": ""}]))
        return self._text_costs[text]

    def lore_hits(self, user: str) -> list[LoreHit]:
        """Return the lorebook entries that the latest messages and `user` bring up, the most important first."""
        said = [self.world.greeting]
        for node in self._timeline.tree.path():
            said += [node.user, node.told]
        return find_lore(self.world.lore, [*said, *([user] if user else [])], depth=self.world.config.lore_depth)

    def find_slots(self, query: str, shown: Collection[int] = ()) -> list[Slot]:
        """Return the memories of this branch that fit a text best, pinned ones first, at most `max_slots` of them.

        Args:
            query: What was said.
            shown: Exchanges that the model sees anyway: what was learnt in them is left out, unless it is pinned.
        """
        slots = {slot.id + _SLOT_BASE: slot for slot in self.slots() if slot.pinned or slot.turn not in shown}
        for number, slot in slots.items():
            self.recall.put(number, f"{slot.candidate.key}: {slot.candidate.value}")
        fits = self.recall.search(query, slots.keys(), self.query_vector)
        ranks = {
            number: _SLOT_SCORE_SHARE * slot.score + (1 - _SLOT_SCORE_SHARE) * fits.get(number, 0.0)
            for number, slot in slots.items()
            if slot.pinned or fits.get(number, 0.0) >= _MIN_SLOT_FIT or slot.candidate.type in _ALWAYS
        }
        ordered = sorted(ranks, key=lambda number: (not slots[number].pinned, -ranks[number], -number))
        return [slots[number] for number in ordered[: self.world.config.max_slots]]

    def slots(self) -> list[Slot]:
        """Return everything remembered on this branch."""
        return self._timeline.memory.slots(node.id for node in self._timeline.tree.path())

    # -- parts

    def _messages(self, summary: str, shown: Sequence[Node], *, greet: bool, user: str) -> Messages:
        system = f"{self.world.system}\n\n[지금까지의 이야기]\n{summary}".strip() if summary else self.world.system
        messages: Messages = [{"role": "system", "content": system}] if system else []
        if greet and self.world.greeting:
            messages.append({"role": "assistant", "content": self.world.greeting})
        for node in shown:
            messages += [{"role": "user", "content": node.user}, {"role": "assistant", "content": node.told}]
        return [*messages, {"role": "user", "content": user}]

    def _window_start(self, path: Sequence[Node], count: Count, room: int) -> int:
        """Return the index of the first exchange that is shown: a pure function of the path, so that it moves in blocks."""
        fixed = self._cost_of(ROOT_COST, self.world.system, count)
        spare = max(0, room - fixed)
        config = self.world.config
        kept_free = sum(self._share(tokens, spare) for tokens in (config.memory_tokens, config.lore_tokens, config.summary_tokens))
        costs = [self._cost_of(node.id, f"{node.user}\n{node.told}", count) for node in path]
        if costs:
            costs[0] += self._cost_of(GREETING_COST, self.world.greeting, count)
        return window_start(costs, spare - kept_free - spare // 8, self.world.max_turns)

    def _cost_of(self, number: int, text: str, count: Count) -> int:
        if (number, text) not in self._costs:
            self._costs[number, text] = count([{"role": "user", "content": text}])
        return self._costs[number, text]

    @staticmethod
    def _share(tokens: int, spare: int) -> int:
        """A part never takes more than a sixth of a small context."""
        return min(tokens, spare // 6)

    def _covered(self, path: Sequence[Node], start: int) -> int:
        """Return how many exchanges the latest usable summary stands for."""
        summaries = self._timeline.summaries
        return next((index + 1 for index in range(start - 1, -1, -1) if path[index].id in summaries), 0)

    def _summary(self, path: Sequence[Node], start: int) -> str:
        if not self.world.config.enabled or not self.world.config.summary_tokens:
            return ""
        covered = self._covered(path, start)
        return self._timeline.summaries[path[covered - 1].id] if covered else ""

    def _tail(self, user: str, path: Sequence[Node], start: int, count: Count, room: int) -> str:
        """Return what stands before the new message; empty when nothing was found.

        First what the conversation so far brings up: it is known before the player types, so it is read ahead. Then what
        only the new message brings up, which is little.
        """
        spare = max(0, room - self._cost_of(ROOT_COST, self.world.system, count))
        config = self.world.config
        memory_room, lore_room = self._share(config.memory_tokens, spare), self._share(config.lore_tokens, spare)
        known: list[str] = []
        if config.enabled:
            said = "\n".join(text for node in path[-1:] for text in (node.user, node.told))
            shown = frozenset(node.id for node in path[start:])
            known = self._fit([f"- {slot.text}" for slot in self.find_slots(said, shown)], memory_room * 3 // 4)
            memory_room -= sum(map(self.cost, known))
        lore = [hit.entry.content for hit in fit_lore(self.lore_hits(""), self.cost, lore_room)]
        lore_room -= sum(map(self.cost, lore))
        parts = [
            title + "\n" + "\n".join(lines) for title, lines in (("[기억]", known), ("[배경]", [f"- {text}" for text in lore])) if lines
        ]
        tail = "\n".join([*parts, "(참고만 하고, 지금 대화와 다르면 지금 대화를 따른다.)", "", ""]) if parts else ""
        fresh = self._brought_up(user, path, start, known, memory_room) if user and config.enabled else []
        more = [hit for hit in self.lore_hits(user) if hit.entry.content not in lore] if user else []
        fresh += [f"- {hit.entry.content}" for hit in fit_lore(more, self.cost, lore_room)]
        return tail + ("\n".join(["[떠오른 것]", *fresh, "", ""]) if fresh else "")

    def _brought_up(self, user: str, path: Sequence[Node], start: int, known: Sequence[str], budget: int) -> list[str]:
        """Return memories and older exchanges that the new message brings up, unless what is shown anyway fits it as well."""
        for node in path:
            self.recall.put(node.id, f"{node.user}\n{node.told}")
        shown = frozenset(node.id for node in path[start:])
        in_view = max(self.recall.search(user, shown, self.query_vector).values(), default=0.0)
        found = self.find_slots(user, shown)
        fits = self.recall.search(user, [slot.id + _SLOT_BASE for slot in found], self.query_vector)
        wanted = [slot for slot in found if fits.get(slot.id + _SLOT_BASE, 0.0) > max(_MIN_FRESH_FIT, in_view)]
        lines = [f"- {slot.text}" for slot in wanted[:_MAX_FRESH_SLOTS]]
        fits = self.recall.search(user, [node.id for node in path[:start]], self.query_vector)
        best = [number for number, fit in fits.items() if fit > max(_MIN_TURN_FIT, in_view)][: self.world.config.max_recalled_turns]
        lines += [f"- 예전에: {self._recalled(node)}" for node in path[:start] if node.id in best]
        return self._fit([line for line in lines if line not in known], budget)

    def _fit(self, lines: Sequence[str], budget: int) -> list[str]:
        kept: list[str] = []
        for line in lines:
            if (tokens := self.cost(line)) <= budget:
                kept.append(line)
                budget -= tokens
        return kept

    def _recalled(self, node: Node) -> str:
        return f"{self.world.player} “{_short(node.user)}” → {self.world.character} “{_short(node.told)}”"


ROOT_COST, GREETING_COST = -1, -2
_ALWAYS = frozenset({"boundary", "promise", "relationship"})
"""Types that may be told whatever the message is about."""


def window_start(costs: Sequence[int], room: int, max_turns: int) -> int:
    """Return the index of the first exchange that is kept.

    The window grows until it is full and then loses its oldest third at once: one that slides by one exchange would change
    the beginning of every prompt, and nothing that the model has read could be used again.

    Args:
        costs: Tokens of each exchange, oldest first.
        room: Most tokens of the window.
        max_turns: Most exchanges in it.

    Example:
        >>> [window_start([10] * turns, 1000, 6) for turns in (5, 6, 7, 8, 9)]
        [0, 0, 3, 3, 3]
    """
    start = used = 0
    for end, cost in enumerate(costs, 1):
        used += cost
        if used <= room and end - start <= max_turns:
            continue
        turns_goal = max_turns - max_turns // 3 if end - start > max_turns else max_turns
        tokens_goal = room - room // 3 if used > room else room
        while start < end and (used > tokens_goal or end - start > turns_goal):
            used -= costs[start]
            start += 1
    return start


def _short(text: str, limit: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
