"""A judge's answer: strict JSON. What does not fit to the letter is no verdict and is asked for again.

The quotation is what keeps a judge honest: it must really stand in the reply that it blames.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rplab.annotate.rubric import MAX_SEVERITY, Rubric
from rplab.text.repetition import fold

_FENCE = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)
_KEYS = {"type", "turn", "severity", "quote", "why"}
_MAX_FLAWS = 60


@dataclass(frozen=True)
class Flaw:
    """One flaw that the judge found."""

    type: str
    turn: int
    """1-based number of the reply."""
    severity: int
    quote: str
    why: str


@dataclass(frozen=True)
class Verdict:
    """What the judge said about a conversation, and what follows from it."""

    flaws: tuple[Flaw, ...]
    score: float
    reason: str
    """Why the conversation is left out, or an empty string."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"score": self.score, "reason": self.reason, "flaws": [asdict(flaw) for flaw in self.flaws]}


class NotAVerdict(ValueError):  # noqa: N818 - a remark for the next attempt
    """The text is what the judge is told when it is asked again; `code` is the reason for the counts."""

    def __init__(self, code: str, explanation: str) -> None:
        """Keep both."""
        super().__init__(explanation)
        self.code = code


def schema_of(rubric: Rubric) -> dict[str, Any]:
    """Return the JSON schema of an answer, for backends that can hold a model to it."""
    flaw = {
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": [kind.id for kind in rubric.flaws]},
            "turn": {"type": "integer"},
            "severity": {"type": "integer", "enum": list(range(1, MAX_SEVERITY + 1))},
            "quote": {"type": "string"},
            "why": {"type": "string"},
        },
        "required": ["type", "turn", "severity", "quote", "why"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"flaws": {"type": "array", "items": flaw}},
        "required": ["flaws"],
        "additionalProperties": False,
    }


def read_verdict(text: str, replies: Sequence[str], rubric: Rubric, min_score: float) -> Verdict:
    """Read a judge's answer.

    Args:
        text: The answer.
        replies: The character's replies, in order.
        rubric: What was asked.
        min_score: Score below which the conversation is left out.

    Raises:
        NotAVerdict: It does not follow the schema, or quotes what nobody said.
    """
    match = _FENCE.fullmatch(text)
    try:
        value: Any = json.loads(match[1] if match else text)
    except (ValueError, RecursionError):
        raise NotAVerdict("no_json", "JSON 객체 하나만 쓴다. 앞뒤에 다른 글을 붙이지 않는다") from None
    if not isinstance(value, dict) or set(value) != {"flaws"} or not isinstance(value["flaws"], list):
        raise NotAVerdict("wrong_shape", '{"flaws": [...]} 모양의 객체 하나만 쓴다')
    if len(value["flaws"]) > _MAX_FLAWS:
        raise NotAVerdict("too_many_flaws", f"결함은 {_MAX_FLAWS}개를 넘지 않는다")
    flaws = tuple(dict.fromkeys(_flaw(item, replies, rubric) for item in value["flaws"]))
    counted = [flaw.severity for flaw in flaws if _policy(flaw, rubric) != "accept"]
    score = rubric.score(counted, len(replies))
    grave = next((flaw for flaw in flaws if _policy(flaw, rubric) == "drop" and flaw.severity >= rubric.drop_from), None)
    reason = f"judge_{grave.type}" if grave else "judge_score" if score < min_score else ""
    return Verdict(flaws, round(score, 2), reason)


def _policy(flaw: Flaw, rubric: Rubric) -> str:
    kind = rubric.kind(flaw.type)
    return kind.policy if kind else "accept"


def _flaw(item: Any, replies: Sequence[str], rubric: Rubric) -> Flaw:
    if not isinstance(item, dict) or {str(key) for key in item} != _KEYS:
        raise NotAVerdict("wrong_shape", f"결함마다 {', '.join(sorted(_KEYS))}만 적는다")
    if not isinstance(item["type"], str) or rubric.kind(item["type"]) is None:
        raise NotAVerdict("unknown_flaw", "type은 주어진 종류 이름 가운데 하나여야 한다")
    if type(item["severity"]) is not int or not 1 <= item["severity"] <= MAX_SEVERITY:
        raise NotAVerdict("severity_out_of_range", f"severity는 1부터 {MAX_SEVERITY}까지의 정수여야 한다")
    if type(item["turn"]) is not int or not 1 <= item["turn"] <= len(replies):
        raise NotAVerdict("turn_out_of_range", f"turn은 1부터 {len(replies)}까지의 캐릭터 응답 번호여야 한다")
    if not isinstance(item["quote"], str) or not isinstance(item["why"], str):
        raise NotAVerdict("wrong_shape", "quote와 why는 글이어야 한다")
    quoted = fold(item["quote"])
    if not quoted or quoted not in fold(replies[item["turn"] - 1]):
        raise NotAVerdict("quote_not_in_reply", "quote는 그 번호의 응답에 있는 구절을 그대로 옮긴 것이어야 한다")
    return Flaw(item["type"], item["turn"], item["severity"], item["quote"].strip(), item["why"].strip())
