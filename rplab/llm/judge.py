"""A judge: a model behind an OpenAI-compatible endpoint that says which of two replies is better.

Every pair is asked about twice, with the replies swapped, because judges prefer the first (Zheng et al. 2023, arXiv:2306.05685);
a pair on which the two verdicts disagree is a tie. The judge sees the character's system text, the talk and the two
replies, and no model names. Its numbers stand in the report beside the gates, never among them: an endpoint that is
down, or biased, must not decide what is published. Answers are kept, so that a resumed run asks nothing twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.backend.base import ChatBackend, ChatRequest, Message, Sampling
from rplab.backend.openai import open_openai
from rplab.jsonl import JsonValue, canonical, write_text
from rplab.llm.bootstrap import Interval, mean_interval
from rplab.llm.eval_config import JudgeConfig
from rplab.llm.rows import Messages
from rplab.seeding import derive_seed

logger = logging.getLogger(__name__)

_RUBRIC = """You compare two replies of a Korean role-play character. Judge, in this order of weight:
1. in character: persona, speech level (존댓말 or 반말) and name as the card says; never speaks or acts for the player
2. to the point: answers what the player said last, and goes on with the scene
3. Korean: natural, no foreign script, no repetition
4. form: one line of third-person narration, then one line of speech in double quotes
Longer is not better. Answer with JSON only: {"reason": "<one sentence>", "better": "A" | "B" | "tie"}"""
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "better": {"type": "string", "enum": ["A", "B", "tie"]}},
    "required": ["reason", "better"],
    "additionalProperties": False,
}
_BETTER = re.compile(r'"better"\s*:\s*"(A|B|tie)"')


@dataclass(frozen=True)
class Comparison:
    """Two models compared by a judge."""

    before: str
    after: str
    wins: int
    """Prompts on which both verdicts prefer `after`."""
    losses: int
    ties: int
    """Prompts on which the verdicts disagree or say tie."""
    unread: int
    """Prompts of which at least one verdict could not be had or read; not counted above."""
    first_share: float | None
    """Share of decided verdicts that prefer the reply shown first: 0.5 = no position bias."""
    score: Interval | None
    """Mean of +1 (win), 0 (tie), -1 (loss) with its 95 % interval; None when nothing was judged."""

    def as_json(self) -> dict[str, JsonValue]:
        """Return the numbers."""
        score = None if self.score is None else dict[str, JsonValue](self.score.as_json())
        share = None if self.first_share is None else round(self.first_share, 4)
        counts: dict[str, JsonValue] = {"wins": self.wins, "ties": self.ties, "losses": self.losses, "unread": self.unread}
        return {**counts, "first_share": share, "score": score}


@dataclass(frozen=True)
class Contest:
    """One prompt with the replies of two models."""

    id: str
    messages: Messages
    before: str
    after: str


def compare(config: JudgeConfig, before: str, after: str, contests: Sequence[Contest], kept: Path, *, seed: int) -> Comparison:
    """Let the judge compare two models.

    Args:
        config: Endpoint and limits.
        before: Name of the earlier model.
        after: Name of the later one.
        contests: Prompts with both replies; equal replies are a tie without asking.
        kept: File with answers of an interrupted run; written as answers come.
        seed: Root of the requests' seeds and of the interval.

    Raises:
        BackendError: The endpoint cannot be used at all (wrong key, no such model, server gone).
    """
    answers: dict[str, str] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    asked = [contest for contest in contests[: config.num_prompts] if contest.before.strip() != contest.after.strip()]
    requests = [_request(config, before, after, contest, swapped, seed) for contest in asked for swapped in (False, True)]
    missing = [request for request in requests if request.key not in answers]
    if missing:
        answers |= asyncio.run(_ask(config, missing))
        write_text(kept, json.dumps(answers, ensure_ascii=False, sort_keys=True))
    verdicts = [read_verdict(answers.get(request.key, "")) for request in requests]
    pairs = list(zip(verdicts[::2], verdicts[1::2], strict=True))
    return summarise(before, after, pairs, same=len(contests[: config.num_prompts]) - len(asked), seed=seed)


async def _ask(config: JudgeConfig, requests: Sequence[ChatRequest]) -> dict[str, str]:
    """Ask everything at once; the backend bounds what is open. What could not be answered is an empty text."""
    backend: ChatBackend = open_openai(config.backend)
    try:
        results = await asyncio.gather(*(backend.complete(request) for request in requests))
    finally:
        await backend.aclose()
    if failed := [result for result in results if result.finish_reason == "error"]:
        logger.warning("judge: %d of %d verdicts could not be had (%s)", len(failed), len(results), failed[0].error)
    return {result.key: result.text for result in results if result.finish_reason != "error"}


def _request(config: JudgeConfig, before: str, after: str, contest: Contest, swapped: bool, seed: int) -> ChatRequest:
    first, second = (contest.after, contest.before) if swapped else (contest.before, contest.after)
    talk = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in contest.messages)
    question = f"{talk}\n\n=== reply A ===\n{first}\n\n=== reply B ===\n{second}"
    messages: tuple[Message, ...] = ({"role": "system", "content": _RUBRIC}, {"role": "user", "content": question})
    key = canonical({"judge": config.backend.model, "pair": [before, after], "id": contest.id, "swapped": swapped, "question": question})
    return ChatRequest(
        key=key,
        messages=messages,
        seed=derive_seed(seed, "judge", contest.id, swapped),
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=config.max_tokens),
        schema=_SCHEMA,
    )


def read_verdict(text: str) -> str | None:
    """Return `A`, `B` or `tie`; None when the answer says none of them."""
    found = _BETTER.findall(text)
    return found[-1] if found else None


def summarise(before: str, after: str, pairs: Sequence[tuple[str | None, str | None]], *, same: int, seed: int) -> Comparison:
    """Count verdicts.

    Args:
        before: Shown as A in the first order.
        after: Shown as B in the first order, as A in the second.
        pairs: Verdicts in both orders, one pair a prompt.
        same: Prompts whose replies were equal: ties.
        seed: Decides the resampling of the interval.
    """
    points: list[float] = [0.0] * same
    unread = 0
    for straight, swapped in pairs:
        if straight is None or swapped is None:
            unread += 1
        elif (straight, swapped) == ("B", "A"):
            points.append(1.0)
        else:
            points.append(-1.0 if (straight, swapped) == ("A", "B") else 0.0)
    decided = [verdict for pair in pairs for verdict in pair if verdict in {"A", "B"}]
    return Comparison(
        before,
        after,
        wins=points.count(1.0),
        losses=points.count(-1.0),
        ties=points.count(0.0),
        unread=unread,
        first_share=decided.count("A") / len(decided) if decided else None,
        score=mean_interval(points, seed=seed) if points else None,
    )


def render_comparisons(comparisons: Mapping[str, Comparison], model: str) -> list[str]:
    """Return the judge's part of the report, one Markdown line each."""
    lines = ["", f"Judge ({model}), both orders, disagreement is a tie:", ""]
    for result in comparisons.values():
        score = (
            "nothing judged" if result.score is None else f"{result.score.mean:+.2f} [{result.score.low:+.2f}, {result.score.high:+.2f}]"
        )
        bias = "" if result.first_share is None else f", prefers the first shown in {result.first_share:.0%}"
        unread = f", {result.unread} unread" if result.unread else ""
        counts = f"{result.wins} better, {result.ties} tie, {result.losses} worse"
        lines.append(f"- {result.before} → {result.after}: {score}; {counts}{unread}{bias}")
    return lines
