"""The backend itself: slots in, text out, a pure function of the request."""

from __future__ import annotations

import asyncio
import json

from rplab.backend.base import ChatRequest, ChatResult, ScenarioSlots, SignalSlots, SingleTurnSlots, TurnSlots, Usage
from rplab.backend.scripted.faults import Faults, spoil
from rplab.backend.scripted.scenario import fill_scenario
from rplab.backend.scripted.signals import fill_signals
from rplab.backend.scripted.singleturn import fill_singleturn
from rplab.backend.scripted.turn import fill_turn
from rplab.errors import BackendError

VERSION = 2
"""Raise it when equal requests get other replies: it is in the backend's name, and so in journals and lineage."""


class ScriptedBackend:
    """Fills the slots of a request from the seeded grammar. No model, no network, no state."""

    def __init__(self, faults: Faults | None = None, latency_ms: float = 0.0) -> None:
        """Bind the faults (none by default) and the time that each answer takes."""
        self._faults = faults or Faults()
        self._latency_s = latency_ms / 1000

    @property
    def name(self) -> str:
        """Backend and grammar version."""
        return f"scripted/{VERSION}"

    async def complete(self, request: ChatRequest) -> ChatResult:
        """Answer one request.

        Raises:
            BackendError: The request carries no slots; a grammar cannot answer free messages.
        """
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        return self.answer(request)

    def answer(self, request: ChatRequest) -> ChatResult:
        """Answer at once: the same request gives the same result, whatever came before it."""
        text, japanese = _fill(request)
        fault = self._faults.draw(request.seed)
        if fault == "error":
            return ChatResult(request.key, "", "error", self.name, error="scripted fault: the server failed")
        if fault:
            text = spoil(fault, text, request.seed)
        prompt = sum(len(message["content"]) for message in request.messages)
        return ChatResult(
            key=request.key,
            text=text,
            finish_reason="length" if fault == "truncated" else "stop",
            model=self.name,
            usage=Usage(prompt_tokens=prompt, completion_tokens=len(text)),
            japanese=japanese,
        )

    async def aclose(self) -> None:
        """Nothing to free."""


def _fill(request: ChatRequest) -> tuple[str, str | None]:
    """Return (text, Japanese of the spoken line or None)."""
    match request.slots:
        case SingleTurnSlots() as slots:
            row = fill_singleturn(slots, request.seed)
            return json.dumps(row, ensure_ascii=False), row["scene"]["dialogue"]["jp"]
        case ScenarioSlots() as slots:
            return json.dumps(fill_scenario(slots, request.seed), ensure_ascii=False), None
        case TurnSlots() as slots:
            reply = fill_turn(slots, request.seed)
            return reply.text, reply.speech.ja
        case SignalSlots() as slots:
            return json.dumps(fill_signals(slots, request.seed)), None
        case None:
            raise BackendError(
                "the scripted backend answers requests that carry slots, and this one has only messages. "
                "Use another backend (backend.kind) for free chat"
            )
