"""Stage `scenarios`: structured scenarios, the source of truth of every dialogue, and their book as text.

The frame (who, genre, era, register, relation, gate) is drawn by a stratified design, so that even a short run holds
every genre, relation and register; the free text (`Draft`) is asked for as JSON and checked field by field. The text
of the book is rendered from the fields, never parsed back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rplab.backend.base import ChatBackend, ChatRequest, ScenarioSlots
from rplab.backend.open import open_backend
from rplab.character import Card, Person, Register
from rplab.dialogue.book import render_book
from rplab.dialogue.config import ScenariosConfig
from rplab.dialogue.draft import DRAFT_SCHEMA, Draft, draft_fault
from rplab.dialogue.draw import balanced, pick_person, takes_share
from rplab.dialogue.drive import NO_ANSWER, Asker, Outcome, Reject, answer_fault, drive, open_journal
from rplab.dialogue.harvest import harvest
from rplab.dialogue.journal import Journal
from rplab.dialogue.pack import Pack, load_pack
from rplab.dialogue.payload import parse_payload
from rplab.dialogue.prompts import fill, squeeze
from rplab.dialogue.report import SHOWN_ROWS, count_usage, write_report, write_usage
from rplab.dialogue.scenario_file import Scenario
from rplab.dialogue.shard import parse_shard
from rplab.dialogue.shard_answers import ANSWERS, write_answers
from rplab.dialogue.singleturn import check_genres
from rplab.dialogue.singleturn_text import person_of
from rplab.jsonl import JsonValue, write_rows
from rplab.seeding import content_id, derive, derive_seed
from rplab.stage import StageContext, Stats

STAGE = "scenarios"


@dataclass(frozen=True)
class Frame:
    """What is fixed before anything is asked."""

    index: int
    protagonist: Person
    player: Person
    register: Register
    genre: str
    era: str
    relation: str
    gate: bool
    gate_condition: str
    start_frame: str
    card: Card | None


def generate_scenarios(config: ScenariosConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Write `scenarios.jsonl`, `rejects.jsonl` and `report.md`.

    Raises:
        BackendError: Too few scenarios were good enough; the message lists the reasons.
    """
    del inputs
    pack = load_pack(config.pack)
    genres = check_genres(config.genres, tuple(pack.genres), pack)
    shard = parse_shard(config.shard) if config.shard else None
    with open_journal(context, STAGE) as journal:
        done = harvest(
            config.count,
            config.max_overshoot,
            shard,
            lambda indices, accepted: _run(
                [draw_frame(config, pack, genres, at) for at in indices], config, pack, journal, context, accepted
            ),
            lambda scenario: (scenario.id, f"scenario/{scenario.index}", scenario.book),
            "scenarios",
        )
        if config.shard:
            write_answers(context.out / ANSWERS, journal, STAGE, config, {})
        usage = write_usage(context.out, {STAGE: count_usage(journal, config.backend)})
    scenarios = done.rows
    write_rows(context.out / "scenarios.jsonl", (scenario.model_dump(mode="json") for scenario in scenarios))
    write_rows(context.out / "rejects.jsonl", done.rejects)
    lengths = _lengths([len(scenario.book) for scenario in scenarios])
    stats: Stats = {**done.tally.stats(), "mix": _mix(scenarios), "book_chars": lengths, "usage": usage}
    write_report(context.out, "Scenarios", stats, [f"```\n{scenario.book}\n```" for scenario in scenarios[:SHOWN_ROWS]])
    return stats


def _run(
    frames: list[Frame], config: ScenariosConfig, pack: Pack, journal: Journal, context: StageContext, done: int
) -> list[Outcome[Scenario]]:
    async def work(frame: Frame, asker: Asker) -> Outcome[Scenario]:
        return await make_scenario(frame, asker, config, pack)

    def opener() -> ChatBackend:
        return open_backend(config.backend)

    return drive(
        frames,
        work,
        open_backend=opener,
        journal=journal,
        in_flight=config.in_flight,
        context=context,
        done_before=done,
        total=config.count if config.shard is None else len(frames),
        what="scenarios",
    )


def draw_frame(config: ScenariosConfig, pack: Pack, genres: tuple[str, ...], index: int) -> Frame:
    """Draw item `index`: a pure function of seed, pack and index; each factor is balanced over every block of items."""
    rng = derive(config.seed, "scenario", index)

    genre = balanced(genres, config.seed, "scenario/genre", index)
    register = balanced(tuple(Register), config.seed, "scenario/register", index)
    relation = balanced(pack.relations, config.seed, "scenario/relation", index)
    era = balanced(tuple(pack.eras), config.seed, "scenario/era", index)
    gate = balanced((True, False), config.seed, "scenario/gate", index)
    gate_condition = rng.choice(pack.relations[2:])
    start_frame = rng.choice(pack.frames[genre])
    card = config.card if config.card is not None and takes_share(config.card_share, index) else None
    protagonist = person_of(card) if card else pick_person(pack.cast.protagonists, rng)
    player = card.player if card else pick_person(pack.cast.players, rng, without=frozenset({protagonist.name}))
    return Frame(
        index=index,
        protagonist=protagonist,
        player=player,
        register=card.register_ if card else register,
        genre=genre,
        era=era,
        relation=relation,
        gate=gate,
        gate_condition=gate_condition,
        start_frame=start_frame,
        card=card,
    )


async def make_scenario(frame: Frame, asker: Asker, config: ScenariosConfig, pack: Pack) -> Outcome[Scenario]:
    """Ask until the draft is good or the attempts are used up."""
    rejects: list[Reject] = []
    reason, attempts = "", pack.limits.scenario_attempts
    for attempt in range(attempts):
        request = build_request(frame, attempt, reason, config.seed, pack)
        result = await asker.ask(request)
        draft, reason, detail = read_draft(result.text, answer_fault(result), frame)
        if draft is not None:
            return Outcome(build_scenario(frame, draft, config, pack, asker.name), attempts=attempt + 1, rejects=tuple(rejects))
        kept = "" if reason == "age_cue" else result.text
        rejects.append(Reject(request.key, reason, kept, detail or result.error, attempt + 1 == attempts))
    return Outcome(None, "failed" if reason in NO_ANSWER else "rejected", reason, attempts, tuple(rejects))


def read_draft(text: str, fault: str | None, frame: Frame) -> tuple[Draft | None, str, str]:
    """Return (draft or None, reason code, detail)."""
    if fault:
        return None, fault, ""
    try:
        draft = Draft.model_validate(parse_payload(text))
    except ValidationError as error:
        first = error.errors()[0]
        return None, "draft_fields", f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, RecursionError):
        return None, "no_json", ""
    draft = draft.with_card(frame.card) if frame.card else draft
    found = draft_fault(draft, frame.protagonist.name, frame.player.name, frame.register)
    return (None, *found) if found else (draft, "", "")


def build_request(frame: Frame, attempt: int, reason: str, seed: int, pack: Pack) -> ChatRequest:
    """Return the request of one attempt."""
    prompts = pack.prompts
    task = fill(
        prompts.scenario,
        genre=frame.genre,
        driver=pack.genres[frame.genre].driver,
        era=frame.era,
        era_description=pack.eras[frame.era],
        protagonist=frame.protagonist.name,
        protagonist_age=frame.protagonist.age,
        protagonist_gender=frame.protagonist.gender,
        player=frame.player.name,
        player_age=frame.player.age,
        player_gender=frame.player.gender,
        register=frame.register.value,
        relation=frame.relation,
        frame=frame.start_frame,
        fix=fill(prompts.fix, reason=reason) if reason else "",
    )
    return ChatRequest(
        key=f"scenario/{frame.index}/a{attempt}",
        messages=({"role": "user", "content": squeeze(task)},),
        seed=derive_seed(seed, "scenario", frame.index, attempt),
        sampling=pack.decoding.scenario.sampling(),
        schema=DRAFT_SCHEMA,
        slots=ScenarioSlots(
            protagonist=frame.protagonist,
            player=frame.player,
            register=frame.register,
            genre=frame.genre,
            era=frame.era,
            relation=frame.relation,
            start_frame=frame.start_frame,
        ),
    )


def build_scenario(frame: Frame, draft: Draft, config: ScenariosConfig, pack: Pack, backend: str) -> Scenario:
    """Return the scenario of an accepted draft."""
    book = render_book(
        draft,
        protagonist=frame.protagonist,
        player=frame.player,
        register=frame.register,
        genre=frame.genre,
        era=frame.era,
        relation=frame.relation,
        gate=frame.gate,
        gate_condition=frame.gate_condition,
        pack=pack,
    )
    return Scenario(
        id=content_id("scenario", pack.name, pack.version, book, frame.start_frame),
        index=frame.index,
        pack=pack.name,
        pack_version=pack.version,
        seed=config.seed,
        backend=backend,
        protagonist=frame.protagonist,
        player=frame.player,
        register=frame.register,
        genre=frame.genre,
        era=frame.era,
        relation=frame.relation,
        gate=frame.gate,
        gate_condition=frame.gate_condition,
        start_frame=frame.start_frame,
        place=draft.place,
        draft=draft,
        from_card=frame.card is not None,
        book=book,
    )


def _mix(scenarios: list[Scenario]) -> JsonValue:
    mix: dict[str, JsonValue] = {}
    for name in ("genre", "era", "relation", "register_", "gate"):
        counts = Counter(str(getattr(scenario, name)) for scenario in scenarios)
        mix[name.rstrip("_")] = dict(sorted(counts.items()))
    return mix


def _lengths(lengths: list[int]) -> JsonValue:
    ordered = sorted(lengths) or [0]
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]}
