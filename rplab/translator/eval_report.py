"""The translator's evaluation as a page for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rplab.jsonl import JsonValue
from rplab.translator.scores import Pair, Scores
from rplab.translator.translate import Translation

_ROWS = (
    ("chrfpp", "**chrF++**", False),
    ("chrf", "chrF", False),
    ("stop_rate", "ended by itself", True),
    ("hangul_rate", "Hangul left over", True),
    ("retry_rate", "tried twice", True),
    ("politeness_rate", "speech level kept, where clear", True),
    ("number_rate", "numbers kept, where any", True),
    ("quote_rate", "quotations kept, where any", True),
    ("name_rate", "names in kana, where known", True),
)


def render_report(
    scores: Scores,
    shipped: Mapping[str, JsonValue] | None,
    failed: Sequence[Mapping[str, JsonValue]],
    pairs: Sequence[Pair],
    results: Sequence[Translation],
    notes: Sequence[str],
) -> str:
    """Return the report in Markdown; `results` may be longer than `pairs`."""
    lines = ["# Evaluation of the translator", "", "**Passed.**" if not failed else "**Not passed:**", ""]
    lines += [f"- `{gate['gate']}` is {gate['value']}, wanted {gate['wanted']}: {gate['why']}" for gate in failed]
    lines += [*(f"- {note}" for note in notes), ""]
    columns = [scores.as_json(), *([shipped] if shipped is not None else [])]
    lines += ["| | data set |" + (" shipped set |" if shipped is not None else ""), "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {title} | " + " | ".join(_value(column[name], share) for column in columns) + " |" for name, title, share in _ROWS]
    if shipped is not None:
        lines += [
            "",
            f"Shipped set ({shipped['lines']} lines that no generator wrote), chrF++ by kind: {json.dumps(shipped['chrfpp_by_kind'])}",
        ]
    lines += [""]
    lines += ["| Korean | translation | reference |", "|---|---|---|"]
    lines += [
        f"| {_cell(pair.source)} | {_cell(result.text)} | {_cell(pair.reference)} |" for pair, result in zip(pairs, results, strict=False)
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "¦")[:200] or "(nothing)"


def _value(value: JsonValue, share: bool) -> str:
    if value is None:
        return "no such lines"
    return f"{float(str(value)):.1%}" if share else f"{float(str(value)):.1f}"
