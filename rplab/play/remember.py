"""What happens after the sound of a turn is over: finding what to remember, the summary, embeddings, a safe disk.

Runs as `PlaySession.afterwards`: never before or during speech, and cancelled the moment the player types. A turn that
could not be looked at then is looked at after a later one.
"""

from __future__ import annotations

import asyncio
import logging

from rplab.errors import BackendError, LabError
from rplab.play.embeddings import Embedder
from rplab.play.extract import MAX_TOKENS, digest, extraction_prompt, find_by_rules, read_candidates, summary_prompt
from rplab.play.history import Messages
from rplab.play.memory import Candidate, MemoryEvent, best_first
from rplab.play.session import PlaySession
from rplab.play.timeline import Timeline
from rplab.play.tree import Node
from rplab.play.turn import Turn

logger = logging.getLogger(__name__)

_MAX_BACKLOG = 4
"""Turns that are looked at after one turn: those that were interrupted, newest first."""
_MAX_FAILURES = 2
"""Answers without usable JSON after which `auto` stops asking the model."""
_KNOWN = 12


class Remembering:
    """Fills the memory of one conversation."""

    def __init__(self, session: PlaySession, timeline: Timeline, embedder: Embedder | None = None) -> None:
        """Join the two; nothing runs until a turn is over."""
        self.failures = 0
        """Answers of the model in a row that held no usable JSON."""
        self.num_dropped = 0
        """Candidates that were incomplete or of no known type."""
        self._session = session
        self._timeline = timeline
        self._embedder = embedder
        self._world = timeline.prompter.world

    async def __call__(self, turn: Turn) -> None:
        """Look at what was said; errors of the disk are told once by the turn."""
        del turn
        try:
            if self._world.config.enabled:
                await self._remember()
                await self._summarise()
                await self._embed()
        except LabError as error:
            logger.warning("what was learnt is not saved yet: %s", error)
        if self._timeline.archive is not None:
            await asyncio.to_thread(self._timeline.archive.checkpoint)

    @property
    def asks_model(self) -> bool:
        """Whether the model is asked; False: rules."""
        extract = self._world.config.extract
        return extract == "model" or (extract == "auto" and self.failures < _MAX_FAILURES)

    async def _remember(self) -> None:
        path = self._timeline.tree.path()
        fresh = [node for node in path[-_MAX_BACKLOG:] if not self._timeline.memory.has_turn(node.id)]
        for node in reversed(fresh):
            found = await self._find(node)
            events = [MemoryEvent(node.id, "candidate", candidate) for candidate in found]
            self._timeline.remember([*events, MemoryEvent(node.id, "read")])

    async def _find(self, node: Node) -> list[Candidate]:
        """Ask the model for what it can tell; rules are what is left when it cannot."""
        if self.asks_model:
            known = best_first(self._timeline.prompter.slots())[:_KNOWN]
            messages = extraction_prompt(node, player=self._world.player, character=self._world.character, known=known)
            answer = await self._ask(messages, MAX_TOKENS)
            found = read_candidates(answer)
            if found is not None:
                self.failures = 0
                self.num_dropped += found.num_dropped
                return found.candidates
            self.failures += 1
            if not self.asks_model:
                logger.info("the model does not answer with JSON: what to remember is found by rules from here on")
        return find_by_rules(node, player=self._world.player, character=self._world.character)

    async def _summarise(self) -> None:
        gap = self._timeline.prompter.find_gap()
        if gap is None:
            return
        world = self._world
        max_chars = world.config.summary_tokens  # Korean: about a token a character
        text = ""
        if self.asks_model:
            messages = summary_prompt(gap.summary, gap.nodes, player=world.player, character=world.character, max_chars=max_chars)
            text = " ".join((await self._ask(messages, world.config.summary_tokens)).split())[: 2 * max_chars]
        text = text or digest(gap.summary, gap.nodes, player=world.player, character=world.character, max_chars=max_chars)
        self._timeline.summarise(gap.until, text)

    async def _ask(self, messages: Messages, max_new_tokens: int) -> str:
        """Return the answer; empty when the model failed (too long a prompt, an endpoint that is gone)."""
        try:
            return await self._session.ask(messages, max_new_tokens=max_new_tokens)
        except Exception as error:  # noqa: BLE001 - a model may fail in any way; rules are there
            logger.info("the model did not say what to remember: %s", error)
            return ""

    async def _embed(self) -> None:
        """Give an embedding to what has none yet."""
        if self._embedder is None:
            return
        recall = self._timeline.prompter.recall
        missing = recall.without_vector(recall.numbers())
        if not missing:
            return
        try:
            vectors = await asyncio.to_thread(self._embedder.embed, list(missing.values()))
        except BackendError as error:
            logger.info("no embeddings: %s", error)
            return
        for number, vector in zip(missing, vectors, strict=True):
            recall.put_vector(number, vector)
