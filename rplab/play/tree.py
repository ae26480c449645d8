"""The turns of a conversation as a tree: nothing that was said is ever lost.

A node is one exchange: what the player wrote and the reply to it. Children of one node are other ways in which the
conversation went on from there: replies drawn again (swipes) share the player's words, edited messages do not. The head
says where the conversation stands. Pure data; saving is `rplab.play.archive`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

ROOT = 0
"""Id of the beginning, which is no exchange."""

Origin: TypeAlias = Literal["drawn", "written"]


@dataclass(frozen=True)
class Node:
    """One exchange."""

    id: int
    """1, 2, 3 in the order in which they came to be; never used again."""
    parent: int
    user: str
    reply: str
    """As it was shown, without tags and labels."""
    complete: bool = True
    """False: the reply broke off or was interrupted."""
    heard: str | None = None
    """What of an interrupted reply was heard, as the model sees it; None: all of it."""
    origin: Origin = "drawn"
    """`written`: the player edited the reply by hand."""
    at: str = ""
    """When, ISO 8601 in UTC."""
    lines: Sequence[Mapping[str, Any]] = ()
    """Spoken sentences: ko, ja, style, audio_s, heard (0..1)."""
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notices: Sequence[str] = ()

    @property
    def told(self) -> str:
        """The reply as the model may see it again."""
        return self.reply if self.heard is None else self.heard


class Tree:
    """All exchanges of a conversation and the place where it stands."""

    def __init__(self, nodes: Sequence[Node] = (), head: int = ROOT, names: Mapping[str, int] | None = None) -> None:
        """Take over what was saved; a head or name that points nowhere is put right."""
        self._nodes: dict[int, Node] = {}
        self._children: dict[int, list[int]] = {ROOT: []}
        for node in sorted(nodes, key=lambda node: node.id):
            self._insert(node)
        self.head = head if head == ROOT or head in self._nodes else max(self._nodes, default=ROOT)
        self.names: dict[str, int] = {name: node for name, node in (names or {}).items() if node == ROOT or node in self._nodes}
        """Places that the player gave a name."""

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: int) -> bool:
        return node == ROOT or node in self._nodes

    def __getitem__(self, node: int) -> Node:
        return self._nodes[node]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def add(self, node: Node) -> None:
        """Add a node below its parent and stand there."""
        self._insert(node)
        self.head = node.id

    def replace(self, node: Node) -> None:
        """Put a node in the place of the one with its id."""
        self._nodes[node.id] = node

    def next_id(self) -> int:
        """Return the id of the next exchange."""
        return max(self._nodes, default=ROOT) + 1

    def path(self, node: int | None = None) -> list[Node]:
        """Return the exchanges from the beginning to `node` (to the head when None)."""
        found: list[Node] = []
        here = self.head if node is None else node
        while here != ROOT:
            found.append(self._nodes[here])
            here = self._nodes[here].parent
        return found[::-1]

    def parent(self, node: int) -> int:
        """Return the node before; the beginning is its own."""
        return ROOT if node == ROOT else self._nodes[node].parent

    def children(self, node: int) -> list[int]:
        """Return how it went on from a node, oldest first."""
        return list(self._children.get(node, ()))

    def swipes(self, node: int) -> list[int]:
        """Return the replies to the same words at the same place, `node` among them, oldest first."""
        words = self._nodes[node].user
        return [other for other in self._children[self._nodes[node].parent] if self._nodes[other].user == words]

    def tip(self, node: int) -> int:
        """Return the end of the branch on which a node lies, following the latest child."""
        while self._children.get(node):
            node = max(self._children[node])
        return node

    def tips(self) -> list[int]:
        """Return the ends of all branches, oldest first."""
        return [node for node in self._nodes if not self._children.get(node)]

    def _insert(self, node: Node) -> None:
        parent = node.parent if node.parent == ROOT or node.parent in self._nodes else max(self._nodes, default=ROOT)
        self._nodes[node.id] = node if parent == node.parent else replace(node, parent=parent)
        self._children.setdefault(parent, []).append(node.id)
        self._children.setdefault(node.id, [])
