"""Numbers about a set of replies, and the gates on them. Torch-free."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rplab.jsonl import JsonValue
from rplab.llm.bootstrap import Interval, fall_per_unit, mean_interval, paired_gain
from rplab.llm.eval_config import EvalGates, EvaluateConfig
from rplab.llm.reply import parse_reply
from rplab.llm.rewards import RewardContext, keeps_register, score, starts_with_name, total
from rplab.text.repetition import distinct_n

REPETITIVE_BELOW = 0.7
"""A repetition term under this counts as a looping or padded reply."""
ECHOING_BELOW = 0.5
"""An echo term under this counts as handing the player's words back (60 % of the reply's pieces are the player's)."""


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
    """format, register, name, leak, repetition, echo, eos: shares of the replies; distinct_1, distinct_2, distinct_replies: diversity."""
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
            "nll": {name: value for name, value in self.nll.items() if name != "dialogues"},
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
        "echo": _share(bool(answer.text.strip()) and answer.scores["echo"] < ECHOING_BELOW for answer in answers),
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


def loss_falls(models: Mapping[str, ModelMetrics], seed: int) -> dict[str, Interval]:
    """Return the fall of the held-out loss (nats a turn) from each model to the next, paired over dialogues."""
    falls: dict[str, Interval] = {}
    for (before, first), (after, second) in itertools.pairwise(models.items()):
        left, right = first.nll.get("dialogues"), second.nll.get("dialogues")
        if isinstance(left, list) and isinstance(right, list) and (fall := fall_per_unit(left, right, seed)) is not None:
            falls[f"{before}_to_{after}"] = fall
    return falls


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
    yield f"{name}.echo_rate", rates["echo"], False, gates.max_echo_rate, "replies that only hand the player's words back"
    if "sft" in models and "grpo" in models:
        yield from _diversity_gates(models["sft"].rates, models["grpo"].rates, gates)
        gain = models["grpo"].reward.mean - models["sft"].reward.mean
        yield "grpo.reward_gain", gain, True, -gates.reward_tolerance, "GRPO must not make the model worse than SFT left it"
    if "base" in models and "sft" in models:
        gain = models["sft"].reward.mean - models["base"].reward.mean
        yield "sft.reward_gain", gain, True, gates.min_sft_gain, "fine-tuning must help"
        losses = [models[which].nll.get("mean") for which in ("base", "sft")]
        if isinstance(losses[0], float) and isinstance(losses[1], float):
            yield "sft.nll_gain", losses[0] - losses[1], True, gates.min_nll_gain, "held-out dialogues must become more likely"


def _diversity_gates(
    before: Mapping[str, float], after: Mapping[str, float], gates: EvalGates
) -> Iterator[tuple[str, float, bool, float, str]]:
    loss = 1 - after["distinct_2"] / before["distinct_2"] if before["distinct_2"] else 0.0
    yield "grpo.distinct_2_loss", loss, False, gates.max_distinct_loss, "GRPO must not buy reward with sameness"
    rise = after["repetition"] - before["repetition"]
    yield "grpo.repetition_rise", rise, False, gates.max_repetition_rise, "GRPO must not buy reward with loops"


def _share(flags: Iterator[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rounded(values: Mapping[str, float]) -> dict[str, JsonValue]:
    return {name: round(value, 6) for name, value in values.items()}
