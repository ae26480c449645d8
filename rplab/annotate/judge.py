"""Stage `judge`: a text model of its own lists the flaws of each conversation; the rubric says what follows.

For every conversation a verdict or the reason why there is none: planned = kept + rejected + failed. Answers are in the
journal before they are used. A conversation that could not be judged is not passed on: it counts as failed.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rplab.annotate.config import JudgeConfig
from rplab.annotate.rows import Conversation, read_conversations
from rplab.annotate.rubric import Rubric, load_rubric
from rplab.annotate.verdict import NotAVerdict, Verdict, read_verdict, schema_of
from rplab.backend.base import ChatBackend, ChatRequest, Message, Sampling
from rplab.backend.config import BackendConfig
from rplab.backend.open import open_backend
from rplab.dialogue.coverage import COVERAGE
from rplab.dialogue.drive import Asker, Outcome, Reject, Tally, answer_fault, drive, open_journal
from rplab.dialogue.report import count_usage, read_usage, write_report, write_usage
from rplab.errors import ConfigError
from rplab.jsonl import JsonValue, write_rows
from rplab.seeding import derive_seed
from rplab.stage import StageContext, Stats

STAGE = "judge"
DIALOGUES = "dialogues.jsonl"
JUDGED_OUT = "judged_out.jsonl"
SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=1500)
_PASSED_ON = ("rejects.jsonl", "partial.jsonl", COVERAGE)
"""What later stages read of the stage before."""


def judge_rows(config: JudgeConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Judge a file of conversations, or the dialogues of the stage before.

    Writes `dialogues.jsonl` (what was kept, each row with its verdict in `meta.judge`), `judged_out.jsonl` (what was not, with
    the reason), `verdicts.jsonl` (every flaw), `report.md`, and passes on what later stages read of the stage before.

    Args:
        config: Settings.
        inputs: `rows`: a `{messages}` file, or the folder of the stage `dialogues`.
        context: Where to write.

    Raises:
        ConfigError: No backend that can judge, or a broken rubric.
        DataError: A row that is no conversation (file, line).
    """
    backend = check_judge(config.backend)
    rubric = load_rubric(config.rubric)
    source = inputs["rows"]
    rows = read_conversations(source / DIALOGUES if source.is_dir() else source)
    min_score = rubric.min_score if config.min_score is None else config.min_score

    async def work(row: Conversation, asker: Asker) -> Outcome[Verdict]:
        return await _judge(row, asker, config, rubric, min_score)

    def opener() -> ChatBackend:
        return open_backend(backend)

    with open_journal(context, STAGE) as journal:
        outcomes = drive(
            rows, work, open_backend=opener, journal=journal, in_flight=config.in_flight, context=context, what="conversations"
        )
        earlier = read_usage(source)
        usage = write_usage(context.out, {**earlier, STAGE: count_usage(journal, backend)})
        model = opener().name
    stats = _write(context.out, rows, outcomes, rubric, model)
    if source.is_dir():
        for name in _PASSED_ON:
            if (source / name).is_file():
                shutil.copyfile(source / name, context.out / name)
    stats["usage"] = usage
    write_report(context.out, "Judged conversations", stats, [])
    return stats


def check_judge(backend: BackendConfig | None) -> BackendConfig:
    """Return the backend when it can read and judge.

    Raises:
        ConfigError: None is set, or the embedded grammar, which understands nothing.
    """
    if backend is None or backend.kind == "scripted":
        raise ConfigError("the scripted backend understands no text. Set a text model: --backend openai, spawn or transformers")
    return backend


def first_requests(config: JudgeConfig, inputs: Mapping[str, Path]) -> list[ChatRequest]:
    """Return the first request of every conversation, each once; what the Batch API is given."""
    rubric = load_rubric(config.rubric)
    requests = [build_request(row, 0, "", config.seed, rubric) for row in read_conversations(inputs["rows"])]
    return list({request.key: request for request in requests}.values())


def build_request(row: Conversation, attempt: int, fix: str, seed: int, rubric: Rubric) -> ChatRequest:
    """Return the request of one attempt; a later attempt is told what was wrong."""
    setting = "\n\n".join(row.texts("system")).strip()
    lines: list[str] = []
    number = 0
    for message in row.messages:
        if message["role"] == "system":
            continue
        number += message["role"] == "assistant"
        who = f"캐릭터 응답 {number}" if message["role"] == "assistant" else "플레이어"
        lines.append(f"[{who}]\n{message['content'].strip()}")
    parts = [f"설정:\n{setting}" if setting else "", "대화:\n" + "\n\n".join(lines), f"지난 답의 잘못: {fix}" if fix else ""]
    messages: tuple[Message, ...] = (
        {"role": "system", "content": rubric.instructions()},
        {"role": "user", "content": "\n\n".join(part for part in parts if part)},
    )
    return ChatRequest(
        key=f"judge/{row.id}/a{attempt}",
        messages=messages,
        seed=derive_seed(seed, "judge", row.id, attempt),
        sampling=SAMPLING,
        schema=schema_of(rubric),
    )


async def _judge(row: Conversation, asker: Asker, config: JudgeConfig, rubric: Rubric, min_score: float) -> Outcome[Verdict]:
    replies = row.texts("assistant")
    if not replies:
        return Outcome(None, "rejected", "no_reply")
    rejects: list[Reject] = []
    fix = reason = ""
    for attempt in range(config.max_attempts):
        request = build_request(row, attempt, fix, config.seed, rubric)
        result = await asker.ask(request)
        reason = answer_fault(result) or ""
        if not reason:
            try:
                verdict = read_verdict(result.text, replies, rubric, min_score)
            except NotAVerdict as fault:
                reason, fix = f"verdict_{fault.code}", str(fault)
            else:
                status = "rejected" if verdict.reason else "accepted"
                return Outcome(verdict, status, verdict.reason, attempt + 1, tuple(rejects))
        rejects.append(Reject(request.key, reason, result.text, result.error, attempt + 1 == config.max_attempts))
    return Outcome(None, "failed", reason, config.max_attempts, tuple(rejects))


def _write(out: Path, rows: Sequence[Conversation], outcomes: Sequence[Outcome[Verdict]], rubric: Rubric, model: str) -> Stats:
    tally, found, scores = Tally(), Counter[str](), list[float]()
    kept: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    for row, outcome in zip(rows, outcomes, strict=True):
        tally.add(outcome)
        verdict = outcome.row
        stamp = {"rubric": rubric.name, "rubric_version": rubric.version, "model": model}
        if verdict is not None:
            found.update(flaw.type for flaw in verdict.flaws)
            scores.append(verdict.score)
            verdicts.append({"id": row.id, "line": row.line, **stamp, **verdict.as_json(), "attempts": outcome.attempts})
        if verdict is not None and outcome.status == "accepted":
            meta = row.row.get("meta")
            judged = {**stamp, "score": verdict.score, "flaws": [flaw.type for flaw in verdict.flaws]}
            kept.append({**row.row, "meta": {**(meta if isinstance(meta, dict) else {}), "judge": judged}})
        else:
            detail = verdict.as_json() if verdict else {"answers": [asdict(reject) for reject in outcome.rejects]}
            left_out.append({"id": row.id, "line": row.line, "reason": outcome.reason, "judge": detail, "row": row.row})
    write_rows(out / DIALOGUES, kept)
    write_rows(out / JUDGED_OUT, left_out)
    write_rows(out / "verdicts.jsonl", verdicts)
    kinds: dict[str, JsonValue] = {flaw.id: found[flaw.id] for flaw in rubric.flaws if found[flaw.id]}
    mean = round(sum(scores) / len(scores), 2) if scores else None
    return {**tally.stats(), "rubric": f"{rubric.name}/{rubric.version}", "mean_score": mean, "mix": {"flaw": kinds}}
