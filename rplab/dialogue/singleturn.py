"""Stage `singleturn`: one-exchange rows, accepted row by accepted row.

Every item is drawn from its own seed, asked for, checked, and asked again with the reason when it fails; what stays
bad goes to `rejects.jsonl` with its reason. When items are lost, more are planned until `target_rows` are accepted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rplab.backend.base import ChatBackend, ChatRequest, Message, SingleTurnSlots
from rplab.backend.open import open_backend
from rplab.character import Card, Register
from rplab.dialogue.config import SingleturnConfig
from rplab.dialogue.draw import balanced, pick_person, takes_share
from rplab.dialogue.drive import NO_ANSWER, Asker, Outcome, Reject, answer_fault, drive, open_journal
from rplab.dialogue.harvest import harvest
from rplab.dialogue.journal import Journal
from rplab.dialogue.pack import Pack, load_pack
from rplab.dialogue.payload import EXPLANATIONS, SCHEMA, Expected, UserFormat, parse_payload, payload_fault
from rplab.dialogue.prompts import Word, fill, squeeze
from rplab.dialogue.report import SHOWN_ROWS, count_usage, show_exchange, write_report, write_usage
from rplab.dialogue.shard import parse_shard
from rplab.dialogue.shard_answers import ANSWERS, write_answers
from rplab.dialogue.singleturn_text import Scene, card_scene, system_text
from rplab.errors import ConfigError
from rplab.jsonl import write_rows
from rplab.seeding import content_id, derive, derive_seed
from rplab.stage import StageContext, Stats

STAGE = "singleturn"


@dataclass(frozen=True)
class Plan:
    """One row to be made."""

    index: int
    scene: Scene
    user_format: UserFormat
    from_card: bool


def generate_singleturn(config: SingleturnConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Write `rows.jsonl`, `rejects.jsonl` and `report.md`.

    Returns:
        planned, accepted, rejected{reason: n}, failed{reason: n} and the mix of the rows.

    Raises:
        BackendError: Too few rows were good enough; the message lists the reasons.
    """
    del inputs
    pack = load_pack(config.pack)
    genres = check_genres(config.genres, tuple(pack.singleturn.genres), pack)
    shard = parse_shard(config.shard) if config.shard else None
    with open_journal(context, STAGE) as journal:
        done = harvest(
            config.target_rows,
            config.max_overshoot,
            shard,
            lambda indices, accepted: _run(
                [draw_plan(config, pack, genres, at) for at in indices], config, pack, journal, context, accepted
            ),
            lambda row: ((row["user"], row["assistant_raw"]), f"singleturn/{row['meta']['index']}", row["assistant_raw"]),
            "rows",
        )
        if config.shard:
            write_answers(context.out / ANSWERS, journal, STAGE, config, {})
        usage = write_usage(context.out, {STAGE: count_usage(journal, config.backend)})
    write_rows(context.out / "rows.jsonl", done.rows)
    write_rows(context.out / "rejects.jsonl", done.rejects)
    stats: Stats = {**done.tally.stats(), "mix": count_mix([row["meta"] for row in done.rows]), "usage": usage}
    shown = done.rows[:SHOWN_ROWS]
    examples = [show_exchange([(row["meta"]["player"], row["user"]), (row["meta"]["protagonist"], row["assistant_raw"])]) for row in shown]
    write_report(context.out, "Single-turn rows", stats, examples)
    return stats


def _run(
    plans: list[Plan], config: SingleturnConfig, pack: Pack, journal: Journal, context: StageContext, done: int
) -> list[Outcome[dict[str, Any]]]:
    async def work(plan: Plan, asker: Asker) -> Outcome[dict[str, Any]]:
        return await make_row(plan, asker, config, pack)

    def opener() -> ChatBackend:
        return open_backend(config.backend)

    return drive(
        plans,
        work,
        open_backend=opener,
        journal=journal,
        in_flight=config.in_flight,
        context=context,
        done_before=done,
        total=config.target_rows if config.shard is None else len(plans),
        what="rows",
    )


def draw_plan(config: SingleturnConfig, pack: Pack, genres: Sequence[str], index: int) -> Plan:
    """Draw item `index`: a pure function of the seed, the pack and the index."""
    rng = derive(config.seed, "singleturn", index)
    cells = [(genre, register) for genre in genres for register in Register]
    genre, register = balanced(cells, config.seed, "singleturn/cell", index)
    bank = pack.singleturn.genres[genre]
    card = config.card if config.card is not None and takes_share(config.card_share, index) else None
    situation, location = rng.choice(bank.situations), rng.choice(pack.singleturn.locations)
    user_format = rng.choice(pack.singleturn.user_formats)
    if card is not None:
        return Plan(index, _card_plan(card, config, pack, genre, situation, location, rng.random()), user_format, from_card=True)
    protagonist = pick_person(pack.cast.protagonists, rng)
    player = pick_person(pack.cast.players, rng, without=frozenset({protagonist.name}))
    scene = Scene(
        protagonist=protagonist,
        player=player,
        register=register,
        genre=genre,
        direction=bank.direction,
        situation=situation,
        location=location,
        personality=rng.choice(bank.personalities),
        relationship=fill(rng.choice(bank.relationships), player=player.name),
    )
    return Plan(index, scene, user_format, from_card=False)


def _card_plan(card: Card, config: SingleturnConfig, pack: Pack, genre: str, situation: str, location: str, chance: float) -> Scene:
    own = card_scene(card, pack, genre)
    if chance < config.card_situation_share:
        return own
    return replace(own, situation=situation, location=location)


async def make_row(plan: Plan, asker: Asker, config: SingleturnConfig, pack: Pack) -> Outcome[dict[str, Any]]:
    """Ask until a row is good or the attempts are used up."""
    expected = Expected(plan.scene.protagonist.name, plan.scene.player.name, plan.user_format, plan.scene.register)
    rejects: list[Reject] = []
    reason = ""
    for attempt in range(config.max_attempts):
        request = build_request(plan, attempt, reason, config.seed, pack)
        result = await asker.ask(request)
        reason, payload = judge_answer(result.text, answer_fault(result), expected)
        if not reason:
            row = build_row(plan, payload, attempt + 1, config, pack, asker.name)
            return Outcome(row, attempts=attempt + 1, rejects=tuple(rejects))
        final = attempt + 1 == config.max_attempts
        kept = "" if reason.endswith("age_cue") else result.text
        rejects.append(Reject(request.key, reason, kept, result.error, final))
    return Outcome(None, "failed" if reason in NO_ANSWER else "rejected", reason, config.max_attempts, tuple(rejects))


def judge_answer(text: str, fault: str | None, expected: Expected) -> tuple[str, Any]:
    """Return (reason code or "", payload)."""
    if fault:
        return fault, None
    try:
        payload = parse_payload(text)
    except (ValueError, RecursionError):
        return "no_json", None
    return payload_fault(payload, expected) or "", payload


def build_request(plan: Plan, attempt: int, reason: str, seed: int, pack: Pack) -> ChatRequest:
    """Return the request of one attempt; a later attempt has its own key and seed, and is told what was wrong."""
    scene, prompts = plan.scene, pack.prompts
    names = {"protagonist": scene.protagonist.name, "player": scene.player.name}
    task = fill(
        prompts.singleturn,
        **names,
        register=scene.register.value,
        protagonist_ja=scene.protagonist.name_ja,
        player_ja=scene.player.name_ja,
        user_rule=fill(prompts.user_rules[plan.user_format], **names),
        example=json.dumps(_example(plan), ensure_ascii=False),
        fix=fill(prompts.fix, reason=EXPLANATIONS.get(reason, reason)) if reason else "",
    )
    messages: tuple[Message, ...] = (
        {"role": "system", "content": system_text(scene, pack)},
        {"role": "user", "content": squeeze(task)},
    )
    return ChatRequest(
        key=f"singleturn/{plan.index}/a{attempt}",
        messages=messages,
        seed=derive_seed(seed, "singleturn", plan.index, attempt),
        sampling=pack.decoding.singleturn.sampling(),
        schema=SCHEMA,
        slots=SingleTurnSlots(
            protagonist=scene.protagonist,
            player=scene.player,
            register=scene.register,
            genre=scene.genre,
            user_format=plan.user_format,
            situation=scene.situation,
            location=scene.location,
            personality=scene.personality,
            relationship=scene.relationship,
        ),
    )


def _example(plan: Plan) -> dict[str, Any]:
    """Return a filled-in answer of the right shape, with the scene's own names."""
    protagonist, player = Word(plan.scene.protagonist.name), Word(plan.scene.player.name)
    polite = plan.scene.register is Register.POLITE
    question = '"무슨 생각을 하고 있어?"'
    user = question if plan.user_format == "dialog_only" else f"{player:은/는} 곁에 다가와 앉는다.\n{question}"
    narration = f"{protagonist:은/는} 고개를 돌려 창밖을 바라본다."
    speech = "바람 소리를 듣고 있었어요." if polite else "바람 소리를 듣고 있었어."
    return {
        "user": user,
        "assistant_raw": f'{narration}\n"{speech}"',
        "scene": {
            "speaker": str(protagonist),
            "narration": {"ko": narration, "jp": f"{plan.scene.protagonist.name_ja}は振り返って窓の外を眺める。"},
            "dialogue": {"ko": speech, "jp": "風の音を聞いていました。" if polite else "風の音を聞いてたの。"},
        },
    }


def build_row(plan: Plan, payload: Any, attempts: int, config: SingleturnConfig, pack: Pack, backend: str) -> dict[str, Any]:
    """Return the row of an accepted payload, with its lineage."""
    scene, system = plan.scene, system_text(plan.scene, pack)
    user, assistant = payload["user"].strip(), payload["assistant_raw"].strip()
    return {
        "system": system,
        "user": user,
        "assistant_raw": assistant,
        "scene": payload["scene"],
        "meta": {
            "id": content_id("singleturn", system, user, assistant),
            "index": plan.index,
            "genre": scene.genre,
            "register": scene.register.value,
            "protagonist": scene.protagonist.name,
            "player": scene.player.name,
            "user_format": plan.user_format,
            "situation": scene.situation,
            "location": scene.location,
            "from_card": plan.from_card,
            "attempts": attempts,
            "seed": config.seed,
            "pack": pack.name,
            "pack_version": pack.version,
            "backend": backend,
        },
    }


def check_genres(wanted: Sequence[str] | None, known: Sequence[str], pack: Pack) -> tuple[str, ...]:
    """Return the genres to draw from.

    Raises:
        ConfigError: One of them is not in the pack.
    """
    if wanted is None:
        return tuple(known)
    if unknown := [genre for genre in wanted if genre not in known]:
        raise ConfigError(f"genres: pack {pack.name} has no {', '.join(unknown)}. Use some of: {', '.join(known)}")
    return tuple(wanted)


def count_mix(metas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count genres, registers and protagonists."""
    mix: dict[str, dict[str, int]] = {}
    for field in ("genre", "register", "protagonist"):
        counts: dict[str, int] = {}
        for meta in metas:
            counts[meta[field]] = counts.get(meta[field], 0) + 1
        mix[field] = dict(sorted(counts.items()))
    return mix
