"""The conversation as the session knows it: a tree of turns, what is remembered of it, and the prompt made from both.

Every change is in memory first and then on disk, so a disk that refuses costs the saving and not the conversation.
Memory events and summaries carry the turn after which they came to be: going back to a turn, or on in another branch,
brings back what was known there.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rplab.character import LoreEntry
from rplab.jsonl import dumps
from rplab.play.archive import Archive, Statement
from rplab.play.chronicle import TurnOutcome
from rplab.play.history import Exchange, Messages
from rplab.play.lore import LoreHit
from rplab.play.memory import Memory, MemoryEvent
from rplab.play.prompt import Prompter, World
from rplab.play.tree import ROOT, Node, Origin, Tree

_TURN = "INSERT OR REPLACE INTO turn VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


class Timeline:
    """A conversation that can be gone on with, gone back in, and saved. Used from one event loop."""

    def __init__(self, world: World, archive: Archive | None = None) -> None:
        """Start a conversation, or take up the one that the archive holds.

        Args:
            world: Card, names and budgets from which prompts are made.
            archive: Where it is saved; None keeps it in memory only.
        """
        self.archive = archive
        self.tree = Tree()
        self.memory = Memory(world.config.min_score)
        self.summaries: dict[int, str] = {}
        """By turn: what stands for everything up to it, itself included."""
        self.own_lore: tuple[LoreEntry, ...] = ()
        """Lore that was added in this conversation."""
        if archive is not None:
            self._load(archive)
        self._card_lore = world.lore
        self.prompter = Prompter(replace(world, lore=(*world.lore, *self.own_lore)), self)

    # -- what the session asks

    @property
    def exchanges(self) -> list[Exchange]:
        """What was said, from the beginning to the head, as the model may see it."""
        return [Exchange(node.user, node.told) for node in self.tree.path()]

    @property
    def head(self) -> int | None:
        """Id of the last exchange; None at the beginning."""
        return self.tree.head or None

    @property
    def attempt(self) -> int:
        """Number of replies that were drawn at this place before."""
        return len(self.tree.children(self.tree.head))

    def compose(self, user: str, count: Callable[[Messages], int], room: int) -> Messages | None:
        """Return the prompt for a message; None when not even system text and message fit. See `rplab.play.prompt`."""
        return self.prompter.compose(user, count, room)

    def commit(self, user: str, reply: str, *, complete: bool) -> int:
        """Add an exchange after the head and stand there; returns its id.

        Raises:
            StorageError: It could not be saved; it is kept in memory and saved later.
        """
        return self._add(user, reply, complete=complete, origin="drawn").id

    def finish(self, node: int, outcome: TurnOutcome) -> None:
        """Keep what became of a turn's speech. Raises StorageError as `commit`."""
        lines = [dict(vars(line)) for line in outcome.lines]
        done = replace(
            self.tree[node], heard=outcome.heard_text, lines=lines, metrics=dict(outcome.metrics), notices=tuple(outcome.notices)
        )
        self.tree.replace(done)
        values = (node, dumps(lines), dumps(done.metrics), dumps(list(done.notices)))
        self._save(_turn_row(done), ("INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?)", values))

    def goto(self, node: int | None) -> None:
        """Stand after another exchange; None is the beginning. Raises StorageError as `commit`."""
        if (node or ROOT) not in self.tree:
            raise KeyError(node)
        self.tree.head = node or ROOT
        self._save(self._head_row())

    def parent(self, node: int) -> int | None:
        """Return the exchange before; None at the beginning."""
        return self.tree.parent(node) or None

    def user_text(self, node: int) -> str:
        """Return what the player wrote."""
        return self.tree[node].user

    def close(self) -> None:
        """Let the file go."""
        if self.archive is not None:
            self.archive.close()

    # -- what commands and the time after a turn add

    def write_reply(self, text: str) -> Node:
        """Put the player's own words in the character's mouth: a sibling of the last reply, which stays."""
        last = self.tree[self.tree.head]
        self.tree.head = last.parent
        return self._add(last.user, text, complete=True, origin="written")

    def name_place(self, name: str) -> None:
        """Give the head a name. Raises StorageError as `commit`."""
        self.tree.names[name] = self.tree.head
        self._save(("INSERT OR REPLACE INTO place VALUES (?, ?)", (name, self.tree.head)))

    def remember(self, events: Sequence[MemoryEvent]) -> None:
        """Keep what was learnt (or forgotten) after the turns that the events name. Raises StorageError as `commit`."""
        rows: list[Statement] = []
        for event in events:
            number = self.memory.add(event)
            rows.append(("INSERT INTO memory VALUES (?, ?, ?)", (number, event.turn, dumps(event.as_json()))))
        if rows:
            self._save(*rows)

    def summarise(self, turn: int, text: str) -> None:
        """Keep a summary of everything up to a turn. Raises StorageError as `commit`."""
        self.summaries[turn] = text
        self._save(("INSERT OR REPLACE INTO summary VALUES (?, ?)", (turn, text)))

    def describe(self, **values: str) -> None:
        """Keep facts about the session itself (character, created). Raises StorageError as `commit`."""
        self._save(*((_META, (key, value)) for key, value in values.items()))

    def set_lore(self, entries: Sequence[LoreEntry]) -> None:
        """Replace the lore that belongs to this conversation. Raises StorageError as `commit`."""
        self.own_lore = tuple(entries)
        self.prompter.world = replace(self.prompter.world, lore=(*self._card_lore, *self.own_lore))
        self.describe(lore=dumps([entry.model_dump(mode="json") for entry in entries]))

    def lore_hits(self) -> list[LoreHit]:
        """Return the lorebook entries that what was said last brings up."""
        return self.prompter.lore_hits("")

    def _add(self, user: str, reply: str, *, complete: bool, origin: Origin) -> Node:
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        node = Node(self.tree.next_id(), self.tree.head, user, reply, complete=complete, origin=origin, at=at)
        self.tree.add(node)
        self._save(_turn_row(node), self._head_row())
        return node

    def _head_row(self) -> Statement:
        return _META, ("head", str(self.tree.head))

    def _save(self, *statements: Statement) -> None:
        if self.archive is not None:
            self.archive.write(*statements)

    def _load(self, archive: Archive) -> None:
        outcomes = {row[0]: row[1:] for row in archive.rows("outcome")}
        nodes: list[Node] = []
        for number, parent, user, reply, complete, heard, origin, at in archive.rows("turn"):
            lines, metrics, notices = (_json(text) for text in outcomes.get(number, ("[]", "{}", "[]")))
            node = Node(number, parent, user, reply, bool(complete), heard, origin, at, lines or [], metrics or {}, notices or [])
            nodes.append(node)
        meta = dict(archive.rows("meta"))
        head = str(meta.get("head", ""))
        self.tree = Tree(nodes, int(head) if head.isdecimal() else -1, dict(archive.rows("place")))
        self.own_lore = tuple(LoreEntry.model_validate(row) for row in _json(str(meta.get("lore", "[]"))) or [])
        for number, turn, event in archive.rows("memory"):
            if isinstance(row := _json(event), dict) and turn in self.tree:
                self.memory.load(number, MemoryEvent.from_json(turn, row))
        self.summaries = {turn: text for turn, text in archive.rows("summary") if turn in self.tree}


def _turn_row(node: Node) -> Statement:
    return _TURN, (node.id, node.parent, node.user, node.reply, int(node.complete), node.heard, node.origin, node.at)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
