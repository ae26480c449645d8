"""Stage `translator_eval`: is the translator good enough to be published?

Held-out pairs are translated as play does it; chrF and chrF++ (Popović 2015, 2017; sacreBLEU) compare with the reference, and
what needs no reference is counted: Hangul left over, translations that did not stop, politeness that was lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sacrebleu.metrics.chrf import CHRF

from rplab.errors import DataError
from rplab.jsonl import JsonValue, read_rows, write_rows, write_text
from rplab.llm.bootstrap import Interval, mean_interval
from rplab.seeding import derive
from rplab.stage import StageContext, Stats
from rplab.translator.checks import politeness_of_japanese, politeness_of_korean
from rplab.translator.config import TranslatorEvalConfig, TranslatorGates
from rplab.translator.translate import Translation, Translator


@dataclass(frozen=True)
class Pair:
    """A held-out line and its reference."""

    source: str
    reference: str


@dataclass(frozen=True)
class Scores:
    """What was measured."""

    chrf: float
    """Corpus chrF, 0..100."""
    chrfpp: float
    """Corpus chrF++ (word bigrams as well), 0..100."""
    line_chrfpp: Interval
    """Mean chrF++ of a line with its 95 % interval."""
    stop_rate: float
    hangul_rate: float
    retry_rate: float
    politeness_rate: float | None
    """None: no line has a clear level on both sides of the reference."""
    politeness_lines: int

    def as_json(self) -> dict[str, JsonValue]:
        """Return the numbers rounded to 4 digits."""
        return {
            "chrf": round(self.chrf, 4),
            "chrfpp": round(self.chrfpp, 4),
            "line_chrfpp": dict(self.line_chrfpp.as_json()),
            "stop_rate": round(self.stop_rate, 4),
            "hangul_rate": round(self.hangul_rate, 4),
            "retry_rate": round(self.retry_rate, 4),
            "politeness_rate": None if self.politeness_rate is None else round(self.politeness_rate, 4),
            "politeness_lines": self.politeness_lines,
        }


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
    failed = failed_gates(scores, config.gates)
    notes = [f"{len(pairs)} held-out pairs of {available} different ones ({repeated} repeated lines left out)"]
    if len(pairs) < config.num_pairs:
        notes.append(f"{config.num_pairs} pairs were wanted; the evaluation file has only {available}, so all were used")
    numbers = scores.as_json()
    summary = {"passed": not failed, "failed": failed, **numbers, "pairs": len(pairs), "notes": notes}
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
    write_text(context.out / "report.md", render_report(scores, failed, pairs[: config.num_samples], results, notes))
    return {
        "passed": not failed,
        "failed": [str(gate["gate"]) for gate in failed],
        "pairs": len(pairs),
        "pairs_available": available,
        "repeated": repeated,
        **numbers,
    }


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


def line_scores(pairs: Sequence[Pair], results: Sequence[Translation]) -> list[float]:
    """Return chrF++ of each line, 0..100."""
    metric = CHRF(word_order=2)
    return [metric.sentence_score(result.text, [pair.reference]).score for pair, result in zip(pairs, results, strict=True)]


def measure(pairs: Sequence[Pair], results: Sequence[Translation], config: TranslatorEvalConfig) -> Scores:
    """Compare translations with their references; `pairs` is not empty."""
    texts, references = [result.text for result in results], [[pair.reference for pair in pairs]]
    kept = [
        politeness_of_japanese(result.text) is polite
        for pair, result in zip(pairs, results, strict=True)
        if (polite := politeness_of_korean(pair.source)) is not None and politeness_of_japanese(pair.reference) is polite
    ]
    return Scores(
        chrf=CHRF().corpus_score(texts, references).score,
        chrfpp=CHRF(word_order=2).corpus_score(texts, references).score,
        line_chrfpp=mean_interval(line_scores(pairs, results), seed=config.seed, samples=config.bootstrap_samples),
        stop_rate=sum("cut" not in result.flags for result in results) / len(results),
        hangul_rate=sum("hangul" in result.flags for result in results) / len(results),
        retry_rate=sum(result.retried for result in results) / len(results),
        politeness_rate=sum(kept) / len(kept) if kept else None,
        politeness_lines=len(kept),
    )


def failed_gates(scores: Scores, gates: TranslatorGates) -> list[dict[str, JsonValue]]:
    """Return every gate that does not hold, with value, what was wanted and why it matters."""
    return [
        {"gate": gate, "value": round(value, 4), "wanted": f"{'>=' if at_least else '<='} {limit:g}", "why": why}
        for gate, value, at_least, limit, why in _gate_table(scores, gates)
        if (value < limit if at_least else value > limit)
    ]


def _gate_table(scores: Scores, gates: TranslatorGates) -> Iterator[tuple[str, float, bool, float, str]]:
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


def render_report(
    scores: Scores, failed: Sequence[Mapping[str, JsonValue]], pairs: Sequence[Pair], results: Sequence[Translation], notes: Sequence[str]
) -> str:
    """Return the report in Markdown; `results` may be longer than `pairs`."""
    politeness = "no clear lines" if scores.politeness_rate is None else f"{scores.politeness_rate:.0%} of {scores.politeness_lines} lines"
    lines = ["# Evaluation of the translator", "", "**Passed.**" if not failed else "**Not passed:**", ""]
    lines += [f"- `{gate['gate']}` is {gate['value']}, wanted {gate['wanted']}: {gate['why']}" for gate in failed]
    lines += [*(f"- {note}" for note in notes), ""]
    lines += ["| | |", "|---|---|", f"| **chrF++** | **{scores.chrfpp:.1f}** |", f"| chrF | {scores.chrf:.1f} |"]
    lines += [f"| chrF++ of a line, mean | {scores.line_chrfpp.mean:.1f} [{scores.line_chrfpp.low:.1f}, {scores.line_chrfpp.high:.1f}] |"]
    lines += [f"| ended by itself | {scores.stop_rate:.1%} |", f"| Hangul left over | {scores.hangul_rate:.1%} |"]
    lines += [f"| tried twice | {scores.retry_rate:.1%} |", f"| speech level kept | {politeness} |", ""]
    lines += ["| Korean | translation | reference |", "|---|---|---|"]
    lines += [
        f"| {_cell(pair.source)} | {_cell(result.text)} | {_cell(pair.reference)} |" for pair, result in zip(pairs, results, strict=False)
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "¦")[:200] or "(nothing)"
