"""The evaluation as a page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rplab.jsonl import JsonValue
from rplab.llm.bootstrap import Interval
from rplab.llm.eval_metrics import Answer, ModelMetrics

_TITLES = {"base": "base", "sft": "after SFT", "grpo": "after GRPO"}
_RATES = {
    "format": "right format",
    "register": "right speech level",
    "name": "starts with the name",
    "eos": "ended by itself",
    "leak": "leaks (label, token, player's lines)",
    "repetition": "loops or padding",
    "echo": "echoes of the player",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_replies": "different replies",
}


def render_report(
    models: Mapping[str, ModelMetrics],
    changes: Mapping[str, Interval],
    falls: Mapping[str, Interval],
    failed: Sequence[Mapping[str, JsonValue]],
    samples: Mapping[str, Sequence[Answer]],
    notes: Sequence[str],
    judged: Sequence[str] = (),
) -> str:
    """Return the report in Markdown.

    Args:
        models: Name -> numbers, in the order of training.
        changes: `before_to_after` -> paired gain in reward.
        falls: `before_to_after` -> paired fall of the held-out loss.
        failed: Gates that do not hold.
        samples: Name -> the same prompts' answers.
        notes: Sentences about the data (how many prompts, what was shortened).
        judged: Lines about the judge's comparisons.
    """
    lines = ["# Evaluation of the role-play model", "", "**Passed.**" if not failed else "**Not passed:**", ""]
    lines += [f"- `{gate['gate']}` is {gate['value']}, wanted {gate['wanted']}: {gate['why']}" for gate in failed]
    lines += [*(f"- {note}" for note in notes), "", *_table(models), ""]
    lines += ["Gain in mean reward over the same prompts, with its 95 % interval:", ""]
    lines += [
        f"- {name.replace('_to_', ' → ')}: {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
        for name, interval in changes.items()
    ]
    if falls:
        lines += ["", "Fall of the held-out loss (nats a turn) over the same dialogues, with its 95 % interval:", ""]
    lines += [
        f"- {name.replace('_to_', ' → ')}: {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
        for name, interval in falls.items()
    ]
    lines += judged
    lines += ["", "## Replies to prompts that were not trained on", ""]
    for index, answer in enumerate(next(iter(samples.values()), [])):
        lines += [f"**{answer.context.player}**: {_inline(answer.context.user)}", ""]
        lines += [f"- {_TITLES.get(name, name)} ({rows[index].reward:.2f}): {_inline(rows[index].text)}" for name, rows in samples.items()]
        lines += [f"- reference: {_inline(answer.reference)}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(models: Mapping[str, ModelMetrics]) -> list[str]:
    rows: list[tuple[str, list[str]]] = [("**mean reward** [95 %]", [f"**{model.reward}**" for model in models.values()])]
    for term in next(iter(models.values())).terms:
        rows.append((f"reward: {term}", [f"{model.terms[term]:.3f}" for model in models.values()]))
    for rate, title in _RATES.items():
        rows.append(
            (title, [f"{model.rates[rate]:.3f}" if "distinct-" in title else f"{model.rates[rate]:.0%}" for model in models.values()])
        )
    rows.append(("mean length, tokens", [f"{model.mean_tokens:.1f}" for model in models.values()]))
    rows.append(("mean length, characters", [f"{model.mean_chars:.1f}" for model in models.values()]))
    rows.append(("loss of an assistant turn (nats a token)", [_nll(model) for model in models.values()]))
    turns = max((len(_per_turn(model)) for model in models.values()), default=0)
    for turn in range(turns if turns > 1 else 0):
        rows.append(
            (f"... of turn {turn + 1}", [f"{_per_turn(m)[turn]:.3f}" if turn < len(_per_turn(m)) else "-" for m in models.values()])
        )
    head = ["| |" + "|".join(f" {_TITLES.get(name, name)} " for name in models) + "|", "|---|" + "---|" * len(models)]
    return head + [f"| {title} | " + " | ".join(cells) + " |" for title, cells in rows]


def _nll(model: ModelMetrics) -> str:
    value = model.nll.get("mean")
    return f"{value:.3f}" if isinstance(value, float) else "not measured"


def _per_turn(model: ModelMetrics) -> list[float]:
    value = model.nll.get("per_turn")
    return [float(str(loss)) for loss in value] if isinstance(value, list) else []


def _inline(text: str) -> str:
    """Put a reply on one line without Markdown or HTML of its own."""
    short = text if len(text) <= 300 else text[:299] + "…"
    return "`" + short.replace("`", "'").replace("\n", " ⏎ ").replace("|", "¦") + "`" if short.strip() else "(nothing)"
