"""Numbers about a set of replies, and the gates on them. Torch-free."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rplab.jsonl import JsonValue
from rplab.llm.bootstrap import Interval, mean_interval, paired_gain
from rplab.llm.eval_config import EvalGates, EvaluateConfig
from rplab.llm.reply import parse_reply
from rplab.llm.rewards import RewardContext, keeps_register, score, starts_with_name, total
from rplab.text.repetition import distinct_n

REPETITIVE_BELOW = 0.7
"""A repetition term under this counts as a looping or padded reply."""


@dataclass(frozen=True)
class Answer:
    """One judged reply."""

    id: str
    text: str
    finished: bool
    num_tokens: int
    context: RewardContext
    reference: str
    scores: Mapping[str, float]
    reward: float


@dataclass(frozen=True)
class ModelMetrics:
    """What was measured on one model."""

    reward: Interval
    terms: Mapping[str, float]
    """Mean of each reward term."""
    rates: Mapping[str, float]
    """format, register, name, leak, repetition, eos: shares of the replies; distinct_1, distinct_2, distinct_replies: diversity."""
    mean_tokens: float
    mean_chars: float
    nll: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """`mean` nats a token over assistant turns, `per_turn` by turn index, `turns`."""

    def as_json(self) -> dict[str, JsonValue]:
        """Return the numbers rounded to 6 digits."""
        return {
            "reward": dict(self.reward.as_json()),
            "terms": _rounded(self.terms),
            "rates": _rounded(self.rates),
            "mean_tokens": round(self.mean_tokens, 3),
            "mean_chars": round(self.mean_chars, 3),
            "nll": dict(self.nll),
        }


def judge(
    row_id: str, text: str, *, finished: bool, num_tokens: int, context: RewardContext, reference: str, config: EvaluateConfig
) -> Answer:
    """Score one reply."""
    scores = score(text, context)
    return Answer(row_id, text, finished, num_tokens, context, reference, scores, total(scores, config.weights))


def measure(answers: Sequence[Answer], config: EvaluateConfig, nll: Mapping[str, JsonValue]) -> ModelMetrics:
    """Summarise the replies of one model; `answers` is not empty."""
    replies = [parse_reply(answer.text) for answer in answers]
    pairs = list(zip(answers, replies, strict=True))
    rates = {
        "format": _share(reply.is_exact for reply in replies),
        "register": _share(keeps_register(r.speech, a.context.register) for a, r in pairs),
        "name": _share(starts_with_name(reply.narration, answer.context.protagonist) for answer, reply in pairs),
        "leak": _share(bool(answer.text.strip()) and answer.scores["role"] < 1.0 for answer in answers),
        "repetition": _share(bool(answer.text.strip()) and answer.scores["repetition"] < REPETITIVE_BELOW for answer in answers),
        "eos": _share(answer.finished for answer in answers),
        "distinct_1": distinct_n((answer.text for answer in answers), 1),
        "distinct_2": distinct_n((answer.text for answer in answers), 2),
        "distinct_replies": len({answer.text for answer in answers}) / len(answers),
    }
    return ModelMetrics(
        reward=mean_interval([answer.reward for answer in answers], seed=config.seed, samples=config.bootstrap_samples),
        terms={name: _mean([answer.scores[name] for answer in answers]) for name in answers[0].scores},
        rates=rates,
        mean_tokens=_mean([answer.num_tokens for answer in answers]),
        mean_chars=_mean([len(answer.text) for answer in answers]),
        nll=nll,
    )


def gains(rewards: Mapping[str, Sequence[float]], config: EvaluateConfig) -> dict[str, Interval]:
    """Return the gain in reward from each model to the next, paired over prompts: `base_to_sft`, `sft_to_grpo`."""
    names = list(rewards)
    return {
        f"{before}_to_{after}": paired_gain(rewards[before], rewards[after], seed=config.seed, samples=config.bootstrap_samples)
        for before, after in itertools.pairwise(names)
    }


def failed_gates(models: Mapping[str, ModelMetrics], gates: EvalGates) -> list[dict[str, JsonValue]]:
    """Return every gate that does not hold, with value, what was wanted and why it matters.

    Args:
        models: base, sft, grpo in this order, any of them absent; the last one is what would be published.
        gates: The limits.
    """
    return [
        {"gate": gate, "value": round(value, 6), "wanted": f"{'>=' if at_least else '<='} {limit:g}", "why": why}
        for gate, value, at_least, limit, why in _gate_table(models, gates)
        if (value < limit if at_least else value > limit)
    ]


def _gate_table(models: Mapping[str, ModelMetrics], gates: EvalGates) -> Iterator[tuple[str, float, bool, float, str]]:
    name, model = list(models.items())[-1]
    rates = model.rates
    yield f"{name}.format_rate", rates["format"], True, gates.min_format_rate, "play needs one narration line and one quoted line"
    yield f"{name}.register_rate", rates["register"], True, gates.min_register_rate, "the card says how the character speaks"
    yield f"{name}.name_rate", rates["name"], True, gates.min_name_rate, "narration starts with the character's name"
    yield f"{name}.eos_rate", rates["eos"], True, gates.min_eos_rate, "a model that does not stop runs into the next turn"
    yield f"{name}.leak_rate", rates["leak"], False, gates.max_leak_rate, "labels, template tokens or the player's lines in a reply"
    yield f"{name}.repetition_rate", rates["repetition"], False, gates.max_repetition_rate, "looping or padded replies"
    if "sft" in models and "grpo" in models:
        gain = models["grpo"].reward.mean - models["sft"].reward.mean
        yield "grpo.reward_gain", gain, True, -gates.reward_tolerance, "GRPO must not make the model worse than SFT left it"
    if "base" in models and "sft" in models:
        gain = models["sft"].reward.mean - models["base"].reward.mean
        yield "sft.reward_gain", gain, True, gates.min_sft_gain, "fine-tuning must help"


def _share(flags: Iterator[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rounded(values: Mapping[str, float]) -> dict[str, JsonValue]:
    return {name: round(value, 6) for name, value in values.items()}
