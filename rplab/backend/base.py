"""One protocol for every text model: a request in, a result out.

A request carries chat messages for real models and, beside them, typed `slots` that say what is asked. The embedded
`scripted` backend fills the slots from a seeded grammar; every other backend sends the messages. Code that asks for
text never knows which one answers.

To add a backend: implement `ChatBackend`, add its settings to the `BackendConfig` union in `backend/config.py`, and
let `backend/open.py` build it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict

from rplab.character import Person, Register


class Message(TypedDict):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Sampling:
    """How a reply is drawn."""

    temperature: float = 0.7
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class SingleTurnSlots:
    """A one-exchange scene: answer with the JSON object {user, assistant_raw, scene}."""

    protagonist: Person
    player: Person
    register: Register
    genre: str
    user_format: Literal["dialog_only", "action_plus_dialogue"]
    situation: str
    location: str
    personality: str
    relationship: str


@dataclass(frozen=True)
class ScenarioSlots:
    """A scenario: answer with the JSON object that `rplab.dialogue.scenario.Draft` describes (free-text fields only)."""

    protagonist: Person
    player: Person
    register: Register
    genre: str
    era: str
    relation: str
    """One of 적대, 거리감, 친밀, 사랑."""
    start_frame: str


@dataclass(frozen=True)
class TurnSlots:
    """One turn of a dialogue: answer with one narration line and one quoted line."""

    speaker: Literal["player", "protagonist"]
    protagonist: Person
    player: Person
    register: Register
    """Speech level of the protagonist towards the player."""
    genre: str
    era: str
    place: str
    relation: str
    state: str
    """State of the relation machine, for example BOND."""
    action: str
    """State of the action machine, for example EVENT."""
    intent: Literal["rise", "fall"]
    turn: int
    """0-based index of the exchange."""
    recent: tuple[str, ...] = ()
    """The latest turns, oldest first; the other side's last turn is the last entry."""
    avoid: str = ""
    """A topic that must be turned down politely in this turn, or empty."""


@dataclass(frozen=True)
class SignalSlots:
    """Judge the last exchange: answer with the JSON object of the pack's signals."""

    genre: str
    relation: str
    state: str
    action: str
    intent: Literal["rise", "fall"]
    signals: dict[str, int]
    recent: tuple[str, ...] = ()


Slots = SingleTurnSlots | ScenarioSlots | TurnSlots | SignalSlots


@dataclass(frozen=True)
class ChatRequest:
    """One question to a text model."""

    key: str
    """Stable identity of the request (item id, turn, attempt): journal key and source of the seed."""
    messages: tuple[Message, ...]
    seed: int
    sampling: Sampling = field(default_factory=Sampling)
    schema: dict[str, Any] | None = None
    """JSON schema the answer must follow; None for free text."""
    slots: Slots | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens that a request cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class ChatResult:
    """The answer to one request."""

    key: str
    text: str
    finish_reason: Literal["stop", "length", "content_filter", "error"] = "stop"
    model: str = ""
    usage: Usage = Usage()
    japanese: str | None = None
    """Japanese of the spoken line when the backend made both side by side, else None."""
    error: str = ""
    """Why there is no text, when `finish_reason` is "error"."""


class ChatBackend(Protocol):
    """Answers requests; many may be in flight at once."""

    @property
    def name(self) -> str:
        """Backend and model, for lineage, for example `scripted/1`."""
        ...

    async def complete(self, request: ChatRequest) -> ChatResult:
        """Answer one request.

        Raises:
            BackendError: The backend cannot go on at all (wrong key, server gone); a single bad answer is a result
                with `finish_reason="error"`.
        """
        ...

    async def aclose(self) -> None:
        """Free connections and processes."""
        ...
