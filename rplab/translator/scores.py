"""Numbers about translations: chrF against references, and what needs no reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sacrebleu.metrics.chrf import CHRF

from rplab.jsonl import JsonValue
from rplab.llm.bootstrap import Interval, mean_interval
from rplab.text.korean import name_pattern
from rplab.translator.checks import num_quotes, numbers_of, politeness_of_japanese, politeness_of_korean
from rplab.translator.config import TranslatorEvalConfig
from rplab.translator.translate import Translation


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
    number_rate: float | None
    """Share of the lines with digits that keep every number; None: no such line."""
    quote_rate: float | None
    """Share of the lines with a quotation that keep it; None: no such line."""
    name_rate: float | None
    """Share of the lines with a name of the glossary that have all of them in kana; None: no such line."""

    def as_json(self) -> dict[str, JsonValue]:
        """Return the numbers rounded to 4 digits."""
        return {
            "chrf": round(self.chrf, 4),
            "chrfpp": round(self.chrfpp, 4),
            "line_chrfpp": dict(self.line_chrfpp.as_json()),
            "stop_rate": round(self.stop_rate, 4),
            "hangul_rate": round(self.hangul_rate, 4),
            "retry_rate": round(self.retry_rate, 4),
            "politeness_rate": _rounded(self.politeness_rate),
            "politeness_lines": self.politeness_lines,
            "number_rate": _rounded(self.number_rate),
            "quote_rate": _rounded(self.quote_rate),
            "name_rate": _rounded(self.name_rate),
        }


def line_scores(pairs: Sequence[Pair], results: Sequence[Translation]) -> list[float]:
    """Return chrF++ of each line, 0..100."""
    metric = CHRF(word_order=2)
    return [metric.sentence_score(result.text, [pair.reference]).score for pair, result in zip(pairs, results, strict=True)]


def measure(
    pairs: Sequence[Pair], results: Sequence[Translation], config: TranslatorEvalConfig, glossary: Mapping[str, str] | None = None
) -> Scores:
    """Compare translations with their references; `pairs` is not empty, `glossary` is the one that was translated with."""
    glossary = glossary or {}
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
        number_rate=_kept_share(pairs, results, lambda source: bool(numbers_of(source)), "number"),
        quote_rate=_kept_share(pairs, results, lambda source: num_quotes(source) > 0, "quote"),
        name_rate=_kept_share(pairs, results, lambda source: any(name_pattern(name).search(source) for name in glossary), "name"),
    )


def _kept_share(pairs: Sequence[Pair], results: Sequence[Translation], concerns: Callable[[str], bool], flag: str) -> float | None:
    """Return the share of the concerned lines without a flag that starts with `flag`."""
    kept = [not any(found.startswith(flag) for found in r.flags) for p, r in zip(pairs, results, strict=True) if concerns(p.source)]
    return sum(kept) / len(kept) if kept else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
