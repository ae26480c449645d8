"""What is remembered about the two people: scored candidates, folded into slots along one branch of the conversation.

Nothing is overwritten. A candidate, a pin or a forgetting is an event that carries the turn after which it happened; the
slots of a branch are what the events of its own turns add up to. So a branch knows what was said on it and no more, and a
contradiction keeps what was believed before.

Types and weights are the predecessor's (spec/predecessor-models.md 3.4); what is new is that a doubtful contradiction does
not replace a sure memory, and that liking and disliking one thing is a contradiction whatever the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from rplab.play.tree import ROOT

TYPE_WEIGHTS: dict[str, float] = {
    "promise": 1.0,
    "boundary": 0.95,
    "fact": 0.85,
    "relationship": 0.80,
    "plan": 0.75,
    "preference": 0.65,
    "emotion": 0.55,
}
OTHER_WEIGHT = 0.5
EventKind: TypeAlias = Literal["candidate", "pin", "unpin", "forget", "read"]
"""`read`: the turn was looked at; nothing else says so when nothing was found."""

_MAX_SUBJECT, _MAX_KEY, _MAX_VALUE, _MAX_EVIDENCE = 24, 120, 400, 1200
_DOUBT = 0.25
"""A contradiction that is so much less certain than the memory does not replace it."""
_LIKES = re.compile(r"좋아|사랑|즐|마음에 들|최애|favou?rite|like|love", re.IGNORECASE)
_DISLIKES = re.compile(r"싫|안 ?좋아|좋아하지|못 ?(?:먹|견디)|질색|혐오|미워|dislike|hate", re.IGNORECASE)
_POLARITY = re.compile(
    r"[가-힣]*(?:좋아|싫어|싫|사랑|즐기|질색|혐오|미워)[가-힣]*|(?:안|못|가장|제일|정말|아주)(?=\s|$)|하지 ?않[가-힣]*", re.IGNORECASE
)


@dataclass(frozen=True)
class Candidate:
    """Something that may be worth remembering. Scores lie in 0..1."""

    type: str
    subject: str
    """Who it is about."""
    key: str
    """What it is about: equal keys of one subject replace each other."""
    value: str
    confidence: float = 0.8
    future_impact: float = 0.5
    emotion_intensity: float = 0.3
    evidence: str = ""
    """The words it was found in."""


def make_candidate(row: Mapping[str, Any]) -> Candidate | None:
    """Return a candidate from a JSON object, cut and clamped; None when it is incomplete.

    Example:
        >>> make_candidate({"type": "fact", "subject": "카즈키", "key": "직업", "value": "목수", "confidence": 7}).confidence
        1.0
    """
    texts = {name: " ".join(str(row.get(name) or "").split()) for name in ("type", "subject", "key", "value")}
    if not all(texts.values()):
        return None
    scores = {name: _clamp(row.get(name), default) for name, default in _SCORES.items()}
    return Candidate(
        type=texts["type"].lower()[:40],
        subject=texts["subject"][:_MAX_SUBJECT],
        key=texts["key"][:_MAX_KEY],
        value=texts["value"][:_MAX_VALUE],
        evidence=str(row.get("evidence") or "")[:_MAX_EVIDENCE],
        **scores,
    )


_SCORES = {"confidence": 0.8, "future_impact": 0.5, "emotion_intensity": 0.3}


def _clamp(value: Any, default: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return min(1.0, max(0.0, number)) if number == number else default


def score(candidate: Candidate, *, earlier: int, novelty: float) -> float:
    """Return how much a candidate is worth remembering, 0..1.

    Args:
        candidate: What was found.
        earlier: Candidates with the same key before it.
        novelty: 1 new, 0 the value is known, 0.4 the value changed.
    """
    return (
        0.30 * TYPE_WEIGHTS.get(candidate.type, OTHER_WEIGHT)
        + 0.20 * candidate.confidence
        + 0.20 * candidate.future_impact
        + 0.15 * candidate.emotion_intensity
        + 0.10 * min(1.0, earlier / 3)
        + 0.05 * novelty
    )


@dataclass(frozen=True)
class MemoryEvent:
    """Something happened to the memory after a turn."""

    turn: int
    kind: EventKind
    candidate: Candidate | None = None
    slot: tuple[str, str] = ("", "")
    """Subject and key that a pin or a forgetting means."""

    def as_json(self) -> dict[str, Any]:
        """Return what is saved."""
        return {"kind": self.kind, "slot": list(self.slot), **({"candidate": vars(self.candidate)} if self.candidate else {})}

    @classmethod
    def from_json(cls, turn: int, row: Mapping[str, Any]) -> MemoryEvent:
        """Read what was saved."""
        found = row.get("candidate")
        subject, key = row.get("slot") or ("", "")
        return cls(turn, row.get("kind", "candidate"), make_candidate(found) if isinstance(found, dict) else None, (subject, key))


@dataclass(frozen=True)
class Slot:
    """Something remembered."""

    id: int
    """Number of the event that founded it."""
    turn: int
    """Exchange after which its value was learnt."""
    candidate: Candidate
    score: float
    pinned: bool = False
    before: tuple[str, ...] = ()
    """Values that were believed before, oldest first."""
    doubted: str = ""
    """A later value that was too uncertain to replace this one."""

    @property
    def text(self) -> str:
        """One line for a prompt or a list."""
        return f"{self.candidate.subject} · {self.candidate.key}: {self.candidate.value}"


class Memory:
    """All events of a session, whatever their branch."""

    def __init__(self, min_score: float) -> None:
        """Start empty; candidates from `min_score` on become slots."""
        self._events: dict[int, MemoryEvent] = {}
        self._min_score = min_score

    def add(self, event: MemoryEvent) -> int:
        """Take an event and return its number."""
        number = max(self._events, default=0) + 1
        self._events[number] = event
        return number

    def load(self, number: int, event: MemoryEvent) -> None:
        """Take an event that was saved."""
        if event.kind != "candidate" or event.candidate is not None:
            self._events[number] = event

    def has_turn(self, turn: int) -> bool:
        """Whether a turn was looked at for something to remember."""
        return any(event.turn == turn and event.kind == "read" for event in self._events.values())

    def slots(self, path: Iterable[int]) -> list[Slot]:
        """Return what is remembered after these turns (ids, from the beginning on), oldest slot first."""
        places = {ROOT: -1, **{turn: place for place, turn in enumerate(path)}}
        visible = sorted((places[event.turn], number) for number, event in self._events.items() if event.turn in places)
        fold = _Fold(self._min_score)
        for _, number in visible:
            fold.take(number, self._events[number])
        return sorted(fold.slots.values(), key=lambda slot: slot.id)


class _Fold:
    """Adds events up, in order."""

    def __init__(self, min_score: float) -> None:
        self.slots: dict[tuple[str, str], Slot] = {}
        self._seen: dict[tuple[str, str], list[str]] = {}
        self._min_score = min_score

    def take(self, number: int, event: MemoryEvent) -> None:
        if event.candidate is not None:
            self._learn(number, event.turn, event.candidate)
            return
        place = fold_key(*event.slot)
        slot = self.slots.get(place)
        if slot is None:
            return
        if event.kind == "read":
            return
        if event.kind == "forget":
            del self.slots[place]
            self._seen.pop(place, None)
        else:
            self.slots[place] = replace(slot, pinned=event.kind == "pin")

    def _learn(self, number: int, turn: int, candidate: Candidate) -> None:
        place = fold_key(candidate.subject, candidate.key)
        seen = self._seen.setdefault(place, [])
        value = fold_text(candidate.value)
        novelty = 1.0 if not seen else 0.0 if seen[-1] == value else 0.4
        points = score(candidate, earlier=len(seen), novelty=novelty)
        seen.append(value)
        old = self.slots.get(place)
        if old is not None and fold_text(old.candidate.value) == value:
            self.slots[place] = replace(old, score=max(old.score, points), doubted="")
            return
        if points < self._min_score:
            return
        if old is not None and candidate.confidence + _DOUBT < old.candidate.confidence:
            self.slots[place] = replace(old, doubted=candidate.value)
            return
        opposite = self._find_opposite(candidate)
        rival = old or (self.slots.pop(opposite) if opposite else None)
        before = (*rival.before, rival.candidate.value) if rival else ()
        self.slots[place] = Slot(rival.id if rival else number, turn, candidate, points, bool(rival and rival.pinned), before)

    def _find_opposite(self, candidate: Candidate) -> tuple[str, str] | None:
        """Return the slot that says the contrary of a preference under another key."""
        if candidate.type != "preference" or (liked := _likes(candidate)) is None:
            return None
        topic = _topic(candidate)
        for place, slot in self.slots.items():
            other = slot.candidate
            same = other.type == "preference" and place[0] == fold_text(candidate.subject) and topic and _topic(other) == topic
            if same and _likes(other) is (not liked):
                return place
        return None


def fold_text(text: str) -> str:
    """Return a text as it is compared: without case, spaces, punctuation."""
    return re.sub(r"[\W_]+", "", text.casefold())


def fold_key(subject: str, key: str) -> tuple[str, str]:
    """Return what decides whether two memories are about the same thing."""
    return fold_text(subject), fold_text(key)


def best_first(slots: Sequence[Slot]) -> list[Slot]:
    """Order slots: pinned ones, then by score, then the latest."""
    return sorted(slots, key=lambda slot: (not slot.pinned, -slot.score, -slot.turn))


def _likes(candidate: Candidate) -> bool | None:
    text = f"{candidate.key} {candidate.value}"
    return False if _DISLIKES.search(text) else True if _LIKES.search(text) else None


def _topic(candidate: Candidate) -> str:
    """Return what a preference is about: key and value without the words of liking, and without general words."""
    words = re.findall(r"\w+", _POLARITY.sub(" ", f"{candidate.key} {candidate.value}"))
    return "".join(sorted({fold_text(re.sub(r"(?:은|는|이|가|을|를)$", "", word)) for word in words} - _GENERAL))


_GENERAL = {"음식", "것", "취향", "선호", "기호", "food", "preference", "favorite", "thing", ""}
