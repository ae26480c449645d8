"""Stage `dialogues`: from every scenario a dialogue, turn by turn, under the pack's two state machines.

One coroutine per dialogue: player turn -> checks -> protagonist turn -> checks -> signals -> machines -> next. A turn
that fails its checks is asked again with the reason, a bounded number of times. A dialogue that cannot be finished
goes to `partial.jsonl` with its reason and is never mixed into `dialogues.jsonl`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rplab.backend.base import ChatBackend, ChatResult
from rplab.backend.open import open_backend
from rplab.dialogue.checks import Finding, find_fault, verify_checks
from rplab.dialogue.config import DialoguesConfig
from rplab.dialogue.coverage import describe_dialogues, write_coverage
from rplab.dialogue.drive import NO_ANSWER, Asker, Outcome, Reject, Tally, answer_fault, drive, open_journal
from rplab.dialogue.pacing import DialogueState, Facts, Intent, advance, draw_intent, gate_of, is_over, mode_of, start
from rplab.dialogue.pack import Pack, load_pack
from rplab.dialogue.payload import parse_payload
from rplab.dialogue.report import SHOWN_ROWS, count_usage, read_usage, show_exchange, write_report, write_usage
from rplab.dialogue.scenario_file import Scenario, read_scenarios
from rplab.dialogue.shard import parse_shard
from rplab.dialogue.shard_answers import ANSWERS, write_answers
from rplab.dialogue.turn import mend
from rplab.dialogue.turns import Speaker, Talk, asks_for_scene, build_judgement, build_turn, context_of
from rplab.jsonl import write_rows
from rplab.seeding import content_id, derive
from rplab.stage import StageContext, Stats

STAGE = "dialogues"
SCENARIOS = "scenarios.jsonl"
_WORD = re.compile(r"[가-힣]{2,}")


@dataclass
class _Work:
    """One dialogue under way."""

    talk: Talk
    judge: bool
    turns: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    rejects: list[Reject] = field(default_factory=list[Reject])
    attempts: int = 0


@dataclass(frozen=True)
class _Said:
    """A turn that passed."""

    text: str
    result: ChatResult
    attempts: int
    repaired: bool
    noted: tuple[str, ...]


class _Unfinished(Exception):  # noqa: N818 - ends one dialogue, always caught
    """A turn could not be made; the text is the reason code."""


def generate_dialogues(config: DialoguesConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Write `dialogues.jsonl`, `partial.jsonl`, `rejects.jsonl` and `report.md`.

    Args:
        config: Settings.
        inputs: `scenarios`: directory of the stage, or a scenarios file.
        context: Where to write.

    Raises:
        DataError: A scenario that is not one (file, line).
    """
    pack = load_pack(config.pack)
    verify_checks(pack)
    source = inputs["scenarios"]
    file = source / SCENARIOS if source.is_dir() else source
    scenarios = read_scenarios(file, pack)
    if config.shard:
        shard = parse_shard(config.shard)
        scenarios = [scenario for at, scenario in enumerate(scenarios) if shard.picks(at)]

    async def work(scenario: Scenario, asker: Asker) -> Outcome[dict[str, Any]]:
        return await make_dialogue(scenario, asker, config, pack)

    def opener() -> ChatBackend:
        return open_backend(config.backend)

    with open_journal(context, STAGE) as journal:
        outcomes = drive(
            scenarios,
            work,
            open_backend=opener,
            journal=journal,
            in_flight=config.in_flight,
            context=context,
            what="dialogues",
        )
        if config.shard:
            write_answers(context.out / ANSWERS, journal, STAGE, config, {"scenarios": file})
        usage = write_usage(context.out, {**read_usage(source), STAGE: count_usage(journal, config.backend)})
    tally = Tally()
    for outcome in outcomes:
        tally.add(outcome)
    rows = [outcome.row for outcome in outcomes if outcome.row is not None]
    write_rows(context.out / "dialogues.jsonl", rows)
    write_rows(context.out / "partial.jsonl", (outcome.partial for outcome in outcomes if outcome.partial is not None))
    write_rows(context.out / "rejects.jsonl", (asdict(reject) for outcome in outcomes for reject in outcome.rejects))
    write_coverage(context.out, pack)
    stats: Stats = {**tally.stats(), **describe_dialogues(rows), "usage": usage}
    write_report(context.out, "Dialogues", stats, [_show(row) for row in rows[:SHOWN_ROWS]])
    return stats


def _show(row: dict[str, Any]) -> str:
    names = {"user": row["meta"]["player"], "assistant": row["meta"]["protagonist"]}
    return show_exchange([(names[message["role"]], message["content"]) for message in row["messages"][1:]])


async def make_dialogue(scenario: Scenario, asker: Asker, config: DialoguesConfig, pack: Pack) -> Outcome[dict[str, Any]]:
    """Make one dialogue; depends on the scenario, the settings and the answers only."""
    facts = _facts(scenario, config, pack)
    talk = Talk(scenario, pack, facts, config.seed)
    work = _Work(talk, config.signals == "judge")
    state = start(pack, facts, derive(config.seed, "dialogue", scenario.id, "start"))
    try:
        over = False
        while not over:
            after = await _exchange(work, state, asker)
            over, state = is_over(facts, state, after), after
    except _Unfinished as unfinished:
        reason = str(unfinished)
        partial = _row(work, config, asker.name, reason)
        status = "failed" if reason.partition("_")[2] in NO_ANSWER else "rejected"
        return Outcome(None, status, reason, work.attempts, tuple(work.rejects), partial)
    return Outcome(_row(work, config, asker.name, "complete"), "accepted", "", work.attempts, tuple(work.rejects))


def _facts(scenario: Scenario, config: DialoguesConfig, pack: Pack) -> Facts:
    """Return what the planner knows; a number of turns that the user gives is kept to the letter."""
    turns, closing = (config.turns, 0) if config.turns else (pack.pacing.turns, pack.pacing.closing_turns)
    return Facts(scenario.genre, scenario.relation, scenario.gate, scenario.gate_condition, turns, closing)


async def _exchange(work: _Work, state: DialogueState, asker: Asker) -> DialogueState:
    """Make one exchange and return the state after it."""
    talk, pack = work.talk, work.talk.pack
    rng = derive(talk.root_seed, "dialogue", talk.scenario.id, "turn", state.turn)
    intent = draw_intent(pack, state, rng)
    before = talk.said()[-2:]
    player = await _ask_turn(work, "player", state, intent, asker)
    talk.player_turns.append(player.text)
    avoid = asks_for_scene(talk, player.text) and mode_of(state) != "staged" and gate_of(pack, talk.facts, state) != "open"
    try:
        reply = await _ask_turn(work, "protagonist", state, intent, asker, avoid=avoid)
    except _Unfinished:
        talk.player_turns.pop()  # a partial dialogue ends with a reply
        raise
    talk.replies.append(reply.text)
    judged, judge_failed = (await _judge(work, state, intent, asker)) if work.judge else (None, False)
    stalled = _is_stalled(talk, [text for _, text in before], [player.text, reply.text])
    after = advance(pack, talk.facts, state, intent, rng, stalled=stalled, judged=judged)
    work.turns.append(
        {
            "turn": state.turn,
            "state": state.relation_state,
            "action": state.action_state,
            "mode": mode_of(state),
            "gate": gate_of(pack, talk.facts, state),
            "relation": state.relation,
            "intent": intent,
            "signals": dict(state.signals),
            "avoid": avoid,
            "stalled": stalled,
            "attempts": {"player": player.attempts, "protagonist": reply.attempts},
            "repaired": player.repaired or reply.repaired,
            "noted": [*player.noted, *reply.noted],
            "judge_failed": judge_failed,
            "japanese": reply.result.japanese,
            "player_japanese": player.result.japanese,
            "model": reply.result.model,
            "next": {"state": after.relation_state, "action": after.action_state, "relation": after.relation},
        }
    )
    return after


async def _ask_turn(work: _Work, speaker: Speaker, state: DialogueState, intent: Intent, asker: Asker, *, avoid: bool = False) -> _Said:
    """Ask for a turn until it passes its checks.

    Raises:
        _Unfinished: The attempts are used up, or a check demands the end of the dialogue.
    """
    pack = work.talk.pack
    context = context_of(work.talk, speaker, state)
    rules = pack.checks_for(context.side)
    limit = pack.limits.user_attempts if speaker == "player" else pack.limits.protagonist_attempts
    code = explanation = ""
    for attempt in range(limit):
        request = build_turn(work.talk, speaker, state, intent, attempt, explanation, avoid=avoid)
        result = await asker.ask(request)
        work.attempts += 1
        fault, finding, noted = answer_fault(result), None, ()
        text = mend(result.text)
        if fault is None:
            finding, noted = find_fault(text, context, rules)
            if finding is None:
                return _Said(text, result, attempt + 1, text != result.text.strip(), tuple(item.code for item in noted))
        code, explanation, ends = _verdict(fault, finding, context.side)
        final = ends or attempt + 1 == limit
        work.rejects.append(Reject(request.key, code, "" if ends else result.text, result.error, final))
        if ends:
            break
    raise _Unfinished(code)


def _verdict(fault: str | None, finding: Finding | None, side: str) -> tuple[str, str, bool]:
    """Return (reason code, explanation for the next attempt, whether the dialogue ends here)."""
    if finding is None:
        return f"{side}_{fault}", "빈 답이다", False
    return finding.code, finding.rule.tell or finding.rule.id, finding.rule.policy == "drop"


async def _judge(work: _Work, state: DialogueState, intent: Intent, asker: Asker) -> tuple[dict[str, int] | None, bool]:
    """Return the judged signals; None and True when no usable judgement came (then the planner goes on, and it is counted)."""
    reason = ""
    for attempt in range(work.talk.pack.limits.judge_attempts):
        request = build_judgement(work.talk, state, intent, attempt, reason)
        result = await asker.ask(request)
        work.attempts += 1
        judged = _read_signals(result, work.talk.pack)
        if judged is not None:
            return judged, False
        reason = "모든 신호를 정수로 담은 JSON 객체 하나만 쓴다"
        work.rejects.append(Reject(request.key, "signals_unreadable", result.text, result.error))
    return None, True


def _read_signals(result: ChatResult, pack: Pack) -> dict[str, int] | None:
    if answer_fault(result):
        return None
    try:
        values = parse_payload(result.text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not all(type(values.get(name)) is int for name in pack.signals):
        return None
    return {name: signal.clamp(values[name]) for name, signal in pack.signals.items()}


def _is_stalled(talk: Talk, before: list[str], now: list[str]) -> bool:
    """Return whether an exchange says little that the last one did not say."""
    names = (talk.protagonist.name, talk.player.name)
    words = {word for text in now for word in _WORD.findall(text) if not word.startswith(names)}
    known = {word for text in before for word in _WORD.findall(text)}
    return not words or len(words & known) / len(words) >= talk.pack.pacing.stall_overlap


def _row(work: _Work, config: DialoguesConfig, backend: str, finish: str) -> dict[str, Any]:
    talk = work.talk
    scenario = talk.scenario
    messages: list[dict[str, str]] = [{"role": "system", "content": scenario.book}]
    for player, reply in zip(talk.player_turns, talk.replies, strict=True):
        messages += [{"role": "user", "content": player}, {"role": "assistant", "content": reply}]
    return {
        "id": content_id("dialogue", scenario.id, *(message["content"] for message in messages)),
        "scenario_id": scenario.id,
        "messages": messages,
        "turns": work.turns,
        "meta": {
            "finish": finish,
            "exchanges": len(talk.replies),
            "genre": scenario.genre,
            "register": scenario.register_.value,
            "era": scenario.era,
            "relation": scenario.relation,
            "protagonist": scenario.protagonist.name,
            "player": scenario.player.name,
            "place": scenario.place,
            "from_card": scenario.from_card,
            "signals": config.signals,
            "seed": config.seed,
            "pack": talk.pack.name,
            "pack_version": talk.pack.version,
            "backend": backend,
            "attempts": work.attempts,
        },
    }
