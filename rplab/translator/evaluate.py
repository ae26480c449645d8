"""Stage `translator_eval`: is the translator good enough to be published?

Held-out pairs are translated as play does it; chrF and chrF++ (Popović 2015, 2017; sacreBLEU) compare with the reference, and
what needs no reference is counted: Hangul left over, translations that did not stop, politeness that was lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rplab.errors import DataError
from rplab.jsonl import JsonValue, read_rows, write_rows, write_text
from rplab.seeding import derive
from rplab.stage import StageContext, Stats
from rplab.translator.config import TranslatorEvalConfig, TranslatorGates
from rplab.translator.eval_report import render_report
from rplab.translator.heldout import load_heldout
from rplab.translator.scores import Pair, Scores, line_scores, measure
from rplab.translator.translate import Translator


def evaluate_translator(config: TranslatorEvalConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Translate held-out pairs and measure.

    Args:
        config: Settings and gates.
        inputs: `translator` (holds model/) and `dataset`.
        context: Writes evaluation.json, translations.jsonl, report.md.

    Raises:
        DataError: No held-out pairs.
        ModelError: The translator is missing or broken.
    """
    pairs, available, repeated = load_pairs(config, inputs["dataset"])
    context.progress(0, len(pairs), "loading the translator")
    translator = Translator.load(inputs["translator"] / "model", precision=config.precision)

    def report(done: int) -> None:
        context.progress(done, len(pairs), f"{done} of {len(pairs)} lines")
        context.check_stop()

    results = translator.translate(
        [pair.source for pair in pairs], max_new_tokens=config.max_new_tokens, batch_size=config.batch_size, on_done=report
    )
    scores = measure(pairs, results, config)
    shipped, shipped_rows = evaluate_shipped(translator, config, context)
    failed = failed_gates(scores, config.gates, shipped)
    notes = [f"{len(pairs)} held-out pairs of {available} different ones ({repeated} repeated lines left out)"]
    if len(pairs) < config.num_pairs:
        notes.append(f"{config.num_pairs} pairs were wanted; the evaluation file has only {available}, so all were used")
    numbers: dict[str, JsonValue] = {**scores.as_json(), "shipped": shipped}
    summary = {"passed": not failed, "failed": failed, **numbers, "pairs": len(pairs), "notes": notes}
    write_rows(context.out / "shipped.jsonl", shipped_rows)
    write_text(context.out / "evaluation.json", json.dumps(summary, ensure_ascii=False, indent=1) + "\n")
    lines = line_scores(pairs, results)
    write_rows(
        context.out / "translations.jsonl",
        (
            {
                "source": pair.source,
                "translation": result.text,
                "reference": pair.reference,
                "chrfpp": round(value, 4),
                "flags": list(result.flags),
                "retried": result.retried,
            }
            for pair, result, value in zip(pairs, results, lines, strict=True)
        ),
    )
    write_text(context.out / "report.md", render_report(scores, shipped, failed, pairs[: config.num_samples], results, notes))
    return {
        "passed": not failed,
        "failed": [str(gate["gate"]) for gate in failed],
        "pairs": len(pairs),
        "pairs_available": available,
        "repeated": repeated,
        **numbers,
    }


def evaluate_shipped(
    translator: Translator, config: TranslatorEvalConfig, context: StageContext
) -> tuple[dict[str, JsonValue] | None, list[dict[str, JsonValue]]]:
    """Translate the shipped held-out set; return its numbers (None when none is wanted) and its rows."""
    lines, glossary = load_heldout()
    lines = lines[: config.num_shipped]
    if not lines:
        return None, []
    named = Translator(translator.model, translator.prompt, glossary)

    def report(done: int) -> None:
        context.progress(done, len(lines), f"shipped set: {done} of {len(lines)} lines")
        context.check_stop()

    results = named.translate(
        [line.source for line in lines], max_new_tokens=config.max_new_tokens, batch_size=config.batch_size, on_done=report
    )
    pairs = [Pair(line.source, line.reference) for line in lines]
    scores = measure(pairs, results, config, glossary)
    values = line_scores(pairs, results)
    by_kind: dict[str, list[float]] = {}
    for line, value in zip(lines, values, strict=True):
        by_kind.setdefault(line.kind, []).append(value)
    kinds: dict[str, JsonValue] = {kind: round(sum(found) / len(found), 2) for kind, found in by_kind.items()}
    rows: list[dict[str, JsonValue]] = [
        {
            "kind": line.kind, "source": line.source, "translation": result.text, "reference": line.reference,
            "chrfpp": round(value, 4), "flags": list(result.flags), "retried": result.retried,
        }
        for line, result, value in zip(lines, results, values, strict=True)
    ]  # fmt: skip
    return {**scores.as_json(), "lines": len(lines), "chrfpp_by_kind": kinds}, rows


def load_pairs(config: TranslatorEvalConfig, dataset: Path) -> tuple[list[Pair], int, int]:
    """Draw the held-out pairs; return them, how many different ones there are, and how many repeated lines were left out.

    Raises:
        DataError: The file is missing, empty, or a row lacks a text.
    """
    path = dataset / "views" / "translation" / "eval.jsonl"
    pairs: dict[str, Pair] = {}
    rows = 0
    for number, row in read_rows(path):
        rows += 1
        source, reference = row.get("input"), row.get("output")
        if not (isinstance(source, str) and isinstance(reference, str) and source.strip() and reference.strip()):
            raise DataError("input and output must be texts", file=path, line=number, remedy="Make the dataset again")
        pairs.setdefault(source, Pair(source, reference))
    if not pairs:
        raise DataError("there are no held-out pairs", file=path, remedy="Make a larger dataset, or raise its evaluation share")
    different = list(pairs.values())
    chosen = sorted(derive(config.seed, "translator_eval").sample(range(len(different)), min(config.num_pairs, len(different))))
    return [different[index] for index in chosen], len(different), rows - len(different)


def failed_gates(scores: Scores, gates: TranslatorGates, shipped: Mapping[str, JsonValue] | None = None) -> list[dict[str, JsonValue]]:
    """Return every gate that does not hold, with value, what was wanted and why it matters."""
    return [
        {"gate": gate, "value": round(value, 4), "wanted": f"{'>=' if at_least else '<='} {limit:g}", "why": why}
        for gate, value, at_least, limit, why in _gate_table(scores, gates, shipped)
        if (value < limit if at_least else value > limit)
    ]


def _gate_table(
    scores: Scores, gates: TranslatorGates, shipped: Mapping[str, JsonValue] | None
) -> Iterator[tuple[str, float, bool, float, str]]:
    if shipped is not None and gates.min_shipped_chrfpp > 0:
        value = float(str(shipped["chrfpp"]))
        yield "translator.shipped_chrfpp", value, True, gates.min_shipped_chrfpp, "speech that no generator wrote must come across too"
    yield "translator.chrfpp", scores.chrfpp, True, gates.min_chrfpp, "translations must say what the reference says"
    yield "translator.hangul_rate", scores.hangul_rate, False, gates.max_hangul_rate, "a Japanese voice cannot read Hangul"
    yield "translator.stop_rate", scores.stop_rate, True, gates.min_stop_rate, "a translator that does not stop holds up the voice"
    if scores.politeness_rate is not None:
        yield (
            "translator.politeness_rate",
            scores.politeness_rate,
            True,
            gates.min_politeness_rate,
            "the character's speech level must survive",
        )
