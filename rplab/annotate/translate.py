"""`rplab data translate`: the lines of any `{messages}` file into Japanese by a text model: `{instruction, input, output}`.

Each different line is asked for once, with the two turns before its first appearance as context. A translation must look
like one (kana or kanji, no Hangul, no Latin that the line does not have, a plausible length, every glossary term as it must
read); what is not is asked for again with the reason, and set aside with it in the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from rplab.annotate.config import TranslateConfig
from rplab.annotate.judge import check_judge
from rplab.annotate.rows import Conversation, read_conversations
from rplab.backend.base import ChatBackend, ChatRequest, ChatResult, Message, Sampling
from rplab.backend.open import open_backend
from rplab.dataset.translation_set import Pair, Unusable, check_pair
from rplab.dialogue.drive import NO_ANSWER, Asker, Outcome, Reject, Tally, answer_fault, drive, open_journal
from rplab.dialogue.report import count_usage, write_report, write_usage
from rplab.errors import ConfigError
from rplab.jsonl import write_rows
from rplab.seeding import content_id, derive_seed
from rplab.stage import StageContext, Stats
from rplab.text.korean import has_hangul
from rplab.text.quotes import Kind, split_blocks, straighten

STAGE = "translate"
SAMPLING = Sampling(temperature=0.2, top_p=0.9, max_tokens=400)
_CONTEXT_TURNS = 2
_LATIN = re.compile(r"[A-Za-z]{2,}")
_LABEL = re.compile(r"^\s*(?:翻訳|日本語|訳)\s*[:：]\s*")
_LONGEST, _SLACK_CHARS = 3.0, 12
"""Japanese characters for one Korean character, and some more for short lines."""
_INSTRUCTIONS = (
    "당신은 한국어 롤플레이 대화를 일본어로 옮기는 번역가다. 주어진 한 줄만 자연스러운 일본어로 옮긴다. "
    "말하는 이의 성격과 존댓말·반말의 높이를 지킨다. 설명, 따옴표, 읽는 법을 붙이지 않고 번역문만 출력한다."
)
_EXPLANATIONS = {
    Unusable.EMPTY_JAPANESE.value: "번역문이 비어 있다",
    Unusable.NOT_JAPANESE.value: "일본어가 아니다. 가나와 한자로 쓴다",
    Unusable.HANGUL_IN_JAPANESE.value: "한글이 남아 있다. 모두 일본어로 쓴다",
    "more_than_one_line": "한 줄로만 쓴다",
    "latin_in_japanese": "원문에 없는 로마자를 쓰지 않는다",
    "length": "원문에 견주어 너무 길다. 번역문만 쓴다",
}


@dataclass(frozen=True)
class Line:
    """A line to translate."""

    id: str
    korean: str
    kind: Kind
    context: tuple[str, ...]
    """The turns before it where it first stood, oldest first."""


def translate_rows(config: TranslateConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Write `pairs.jsonl`, `rejects.jsonl` and `report.md`.

    Args:
        config: Settings.
        inputs: `rows`: a `{messages}` file.
        context: Where to write.

    Raises:
        ConfigError: No backend that can translate.
        DataError: A row that is no conversation (file, line).
    """
    backend = check_judge(config.backend)
    lines = list(lines_of(read_conversations(inputs["rows"]), config))

    async def work(line: Line, asker: Asker) -> Outcome[Pair]:
        return await _translate(line, asker, config)

    def opener() -> ChatBackend:
        return open_backend(backend)

    with open_journal(context, STAGE) as journal:
        outcomes = drive(lines, work, open_backend=opener, journal=journal, in_flight=config.in_flight, context=context, what="lines")
        usage = write_usage(context.out, {STAGE: count_usage(journal, backend)})
    tally = Tally()
    for outcome in outcomes:
        tally.add(outcome)
    write_rows(context.out / "pairs.jsonl", (outcome.row.as_row() for outcome in outcomes if outcome.row is not None))
    write_rows(context.out / "rejects.jsonl", (asdict(reject) for outcome in outcomes for reject in outcome.rejects))
    kinds = {kind.value: sum(line.kind is kind for line in lines) for kind in Kind}
    stats: Stats = {**tally.stats(), "usage": usage, "mix": {"line": {name: number for name, number in kinds.items() if number}}}
    shown = [outcome.row for outcome in outcomes if outcome.row is not None][:3]
    write_report(context.out, "Translated lines", stats, [f"> {pair.korean}  \n> {pair.japanese}" for pair in shown])
    return stats


def first_requests(config: TranslateConfig, inputs: Mapping[str, Path]) -> list[ChatRequest]:
    """Return the first request of every line; what the Batch API is given."""
    return [build_request(line, 0, "", config) for line in lines_of(read_conversations(inputs["rows"]), config)]


def lines_of(rows: list[Conversation], config: TranslateConfig) -> Iterator[Line]:
    """Yield every different Korean line once, in the order of first appearance."""
    seen: set[str] = set()
    for row in rows:
        before: list[str] = []
        for message in row.messages:
            if message["role"] == "assistant" or (config.players and message["role"] == "user"):
                for block in split_blocks(straighten(message["content"])):
                    korean = " ".join(block.text.split())
                    if (block.kind is Kind.NARRATION and not config.narration) or korean in seen or not has_hangul(korean):
                        continue
                    seen.add(korean)
                    yield Line(content_id("line", korean), korean, block.kind, tuple(before[-_CONTEXT_TURNS:]))
            if message["role"] != "system":
                before.append(message["content"].strip())


def build_request(line: Line, attempt: int, fix: str, config: TranslateConfig) -> ChatRequest:
    """Return the request of one attempt; only the glossary terms that stand in the line are shown."""
    terms = _terms(line.korean, config.glossary)
    parts = [
        "앞의 대화:\n" + "\n".join(line.context) if line.context else "",
        "용어:\n" + "\n".join(f"{korean} → {japanese}" for korean, japanese in terms.items()) if terms else "",
        f"지난 번역의 잘못: {fix}" if fix else "",
        f"{'대사' if line.kind is Kind.SPEECH else '지문'}:\n{line.korean}",
    ]
    messages: tuple[Message, ...] = (
        {"role": "system", "content": _INSTRUCTIONS},
        {"role": "user", "content": "\n\n".join(part for part in parts if part)},
    )
    key = f"translate/{line.id}/a{attempt}"
    return ChatRequest(key, messages, derive_seed(config.seed, "translate", line.id, attempt), sampling=SAMPLING)


def _terms(korean: str, glossary: Mapping[str, str]) -> dict[str, str]:
    """Return the glossary terms of a line; a term inside a longer one does not count."""
    found: dict[str, str] = {}
    left = korean
    for term in sorted(glossary, key=lambda term: (-len(term), term)):
        if term in left:
            found[term] = glossary[term]
            left = left.replace(term, "\0")
    return found


async def _translate(line: Line, asker: Asker, config: TranslateConfig) -> Outcome[Pair]:
    rejects: list[Reject] = []
    fix = reason = ""
    for attempt in range(config.max_attempts):
        request = build_request(line, attempt, fix, config)
        result = await asker.ask(request)
        found = _read(line, result, config.glossary)
        if isinstance(found, Pair):
            return Outcome(found, attempts=attempt + 1, rejects=tuple(rejects))
        reason, fix = found
        rejects.append(Reject(request.key, reason, result.text, result.error or line.korean, attempt + 1 == config.max_attempts))
    return Outcome(None, "failed" if reason in NO_ANSWER else "rejected", reason, config.max_attempts, tuple(rejects))


def _read(line: Line, result: ChatResult, glossary: Mapping[str, str]) -> Pair | tuple[str, str]:
    """Return the pair, or (reason code, what the model is told)."""
    if fault := answer_fault(result):
        return fault, ""
    text = _LABEL.sub("", result.text.strip()).strip()
    if len(text) > 1 and text[0] + text[-1] in ('""', "「」", "『』", "“”"):
        text = text[1:-1].strip()
    found = check_pair(line.korean, text)
    if isinstance(found, Unusable):
        return found.value, _EXPLANATIONS.get(found.value, found.value)
    reason = _fault(found, glossary)
    if reason is None:
        return found
    code, _, term = reason.partition(":")
    return code, _EXPLANATIONS.get(code, f"용어 '{term}'은(는) '{glossary.get(term, '')}'(으)로 옮긴다")


def _fault(pair: Pair, glossary: Mapping[str, str]) -> str | None:
    if len(pair.japanese.splitlines()) > 1:
        return "more_than_one_line"
    if set(_LATIN.findall(pair.japanese)) - set(_LATIN.findall(pair.korean)) - set(_LATIN.findall(" ".join(glossary.values()))):
        return "latin_in_japanese"
    if len(pair.japanese) > _LONGEST * len(pair.korean) + _SLACK_CHARS:
        return "length"
    missing = next((term for term, japanese in _terms(pair.korean, glossary).items() if japanese not in pair.japanese), None)
    return None if missing is None else f"glossary:{missing}"


def read_glossary(path: Path) -> dict[str, str]:
    """Read a glossary: a YAML or JSON mapping, or lines of `Korean<TAB>Japanese`.

    Raises:
        ConfigError: No such file, or it is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--glossary {path}: cannot be read ({error})") from None
    value: Any
    if path.suffix.lower() in (".tsv", ".txt"):
        rows = [line.split("\t") for line in text.splitlines() if line.strip() and not line.startswith("#")]
        value = dict(rows) if all(len(row) == 2 for row in rows) else None
    else:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--glossary {path}: not YAML ({str(error)[:160]})") from None
    usable = isinstance(value, dict) and all(isinstance(term, str) and term.strip() for pair in value.items() for term in pair)
    if not usable:
        raise ConfigError(f"--glossary {path}: must map Korean terms to Japanese ones: `사야: サヤ`, or a TAB-separated pair a line")
    return {korean.strip(): japanese.strip() for korean, japanese in value.items()}
