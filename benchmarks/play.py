"""From Enter to the first sound: everything one after another, as the predecessor did, against the pipeline.

    python benchmarks/play.py [--store store] [--rounds 5] [--utterances 4] [--voice openjtalk|own] [--llm-url URL] [--json] [--check]

One process, the same models, the same voice process, the same prompts and seeds, so the same words on both sides; the two
sides take turns, so that a busy machine is busy for both.

* sequential: the whole reply, then the translation of all its speech, then the whole synthesis; then it can be heard.
* pipelined: a turn of `rplab.play.session`, as in `rplab play`.

A reply of the smoke models is short; `--utterances N` lets the model write N of them one after another (each drawn by the
real model, token by token), about the length of a reply of a real role-play model at 4. `--utterances 1` is the reply as it
comes. Time to first audio is until the first sample above -50 dBFS can leave the program; a device adds its own latency to
both. The machine's own overhead (threads, queues, pipes) is in it; models are warm on both sides.

`--check` ends with 1 when the ratio is above 0.4 or the median time to first text above 0.3 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rplab.cli.play_models import open_reply_model, open_translator, warm_up
from rplab.cli.play_speaker import plan_voices
from rplab.dialogue.pack import load_pack
from rplab.dialogue.singleturn_text import card_system_text
from rplab.play.audio import NullSink
from rplab.play.config import EndpointConfig, PlayConfig, ReplySampling
from rplab.play.engines import Engines, PromptUsage, ReplyModel
from rplab.play.events import SessionEvent
from rplab.play.parse import parse_reply
from rplab.play.prompt import World
from rplab.play.published import find_character
from rplab.play.session import PlaySession, Scene
from rplab.play.speakable import find_problem
from rplab.play.timeline import Timeline
from rplab.play.voice_process import VoiceProcess
from rplab.seeding import derive_seed

MESSAGES = (
    "비가 오는데 오늘은 같이 있어도 돼?",
    "오늘 하루는 어땠어?",
    "요즘 제일 좋아하는 게 뭐야?",
    "나한테 하고 싶은 말 있어?",
    "내일은 어디 갈까?",
)
AUDIBLE = 10 ** (-50 / 20)


class LongReply:
    """A reply model that goes on for several replies."""

    def __init__(self, model: ReplyModel, utterances: int) -> None:
        self._model = model
        self._utterances = utterances
        self._first_usage: PromptUsage | None = None

    @property
    def context_tokens(self) -> int:
        """See `ReplyModel`, as for the others here."""
        return self._model.context_tokens

    @property
    def usage(self) -> PromptUsage | None:
        """Of the first of the replies: the others are this benchmark's doing."""
        return self._first_usage

    def count(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Count as the model does."""
        return self._model.count(messages)

    def prefill(self, messages: Sequence[Mapping[str, str]], *, cancelled: Callable[[], bool]) -> None:
        """Read ahead as the model does."""
        self._model.prefill(messages, cancelled=cancelled)

    def stream(
        self, messages: Sequence[Mapping[str, str]], sampling: ReplySampling, *, seed: int, cancelled: Callable[[], bool]
    ) -> Iterator[str]:
        """Yield several replies, one line break between them."""
        for number in range(self._utterances):
            if number:
                yield "\n"
            yield from self._model.stream(messages, sampling, seed=derive_seed(seed, number), cancelled=cancelled)
            if not number:
                self._first_usage = self._model.usage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--utterances", type=int, default=4)
    parser.add_argument("--voice", choices=("openjtalk", "own"), default="own", help="the character's own voice when it has one")
    parser.add_argument("--llm-url", help="let an OpenAI-compatible endpoint write")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments))
    print(json.dumps(result, ensure_ascii=False, indent=None if arguments.json else 1))
    failed = result["ratio"] > 0.4 or result["ttft_s"]["p50"] > 0.3
    return int(arguments.check and failed)


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    published = find_character(arguments.store)
    config = published.play
    if arguments.llm_url:
        config = config.model_copy(update={"llm": EndpointConfig(url=arguments.llm_url)})
    card = published.card
    system = card_system_text(card, load_pack(published.pack))
    model = LongReply(open_reply_model(published, config), arguments.utterances)
    translator = open_translator(published)
    own = published.voice if arguments.voice == "own" else None
    voice = VoiceProcess(plan_voices(config, own, choice="" if own else "openjtalk"))
    sink = NullSink(voice.sample_rate)
    names = (card.name, card.name_ja), (card.player.name, card.player.name_ja)
    timeline = Timeline(World(system=system, character=card.name, player=card.player.name, max_turns=config.max_history_turns))
    session = PlaySession(Scene(system, *names), Engines(model, translator, voice, sink), config, timeline)
    prompts = Prompts(config, model, timeline)
    warm_up(model, translator, prompts.next("안녕?")[0])
    list(voice.stream("こんにちは。"))
    rounds: list[dict[str, Any]] = []
    try:
        for number in range(arguments.rounds + 1):
            row = await one_round(session, prompts, MESSAGES[number % len(MESSAGES)], pipelined_first=bool(number % 2))
            if number:  # the first warms both sides up
                rounds.append(row)
    finally:
        await session.aclose()
    return summarise(rounds, arguments, voice)


class Prompts:
    """Gives the sequential side the very prompt and seed that the session is going to use."""

    def __init__(self, config: PlayConfig, model: ReplyModel, timeline: Timeline) -> None:
        self.config = config
        self._model = model
        self._timeline = timeline

    def next(self, message: str) -> tuple[Sequence[Mapping[str, str]], int]:
        """Return prompt and seed of a message."""
        room = self._model.context_tokens - self.config.sampling.max_new_tokens
        messages = self._timeline.compose(message, self._model.count, room)
        if messages is None:
            raise SystemExit("the prompt does not fit into the model")
        seed = derive_seed(self.config.seed, "turn", len(self._timeline.exchanges), self._timeline.attempt)
        return messages, seed


async def one_round(session: PlaySession, prompts: Prompts, message: str, *, pipelined_first: bool) -> dict[str, Any]:
    """Answer one message both ways, from the same state of the model's cache."""
    messages, seed = prompts.next(message)
    if pipelined_first:
        # the session moves on when it has answered: the sequential side is asked with the prompt from before
        pipelined = await speak(session, message)
        session.engines.model.prefill([*messages[:-1], {"role": "user", "content": ""}], cancelled=lambda: False)
        one_by_one = sequential(session, messages, seed)
    else:
        one_by_one = sequential(session, messages, seed)
        session.engines.model.prefill([*messages[:-1], {"role": "user", "content": ""}], cancelled=lambda: False)
        pipelined = await speak(session, message)
    if pipelined["text"].split() != one_by_one["text"].split():
        print(f"the two sides wrote different texts:\n{pipelined['text']}\n{one_by_one['text']}", file=sys.stderr)
    session.engines.model.prefill(prompts.next("")[0], cancelled=lambda: False)
    return {"pipelined": pipelined, "sequential": one_by_one}


async def speak(session: PlaySession, message: str) -> dict[str, Any]:
    """Return the numbers of a turn of the session."""
    events: list[SessionEvent] = []
    turn = await session.say(message, events.append)
    await session.finish(turn)
    await session.rest()
    metrics = turn.metrics.as_json()
    if metrics["ttfa_s"] is None:
        raise SystemExit(f"no sound: {[notice.message for notice in turn.notices]}")
    return {"text": turn.parsed().shown.strip(), "notices": [notice.message for notice in turn.notices], **metrics}


def sequential(session: PlaySession, messages: Sequence[Mapping[str, str]], seed: int) -> dict[str, Any]:
    """Return the times of doing everything one after another."""
    engines, config = session.engines, session.config
    assert engines.translator is not None
    assert engines.voice is not None
    started = time.perf_counter()
    text = "".join(engines.model.stream(messages, config.sampling, seed=seed, cancelled=lambda: False))
    written_s = time.perf_counter() - started
    parsed = parse_reply(text, protagonist=session.scene.protagonist, player=session.scene.player)
    korean = [sentence.text for sentence in parsed.dialogue if sentence.speaker == "character"]
    japanese = engines.translator.translate(korean)
    translated_s = time.perf_counter() - started
    spoken = [ja for ko, ja in zip(korean, japanese, strict=True) if not find_problem(ko, ja)]
    sound = np.concatenate([engines.voice.synthesise(line) for line in spoken]) if spoken else np.zeros(0, dtype=np.float32)
    loud = np.flatnonzero(np.abs(sound) > AUDIBLE)
    rate = engines.voice.sample_rate
    ttfa_s = time.perf_counter() - started + (float(loud[0]) / rate if len(loud) else 0.0)
    return {
        "text": parsed.shown.strip(),
        "text_s": written_s,
        "translate_s": translated_s - written_s,
        "ttfa_s": ttfa_s,
        "audio_s": len(sound) / rate,
        "sentences": len(spoken),
    }


def summarise(rounds: list[dict[str, Any]], arguments: argparse.Namespace, voice: VoiceProcess) -> dict[str, Any]:
    ours, theirs = [row["pipelined"] for row in rounds], [row["sequential"] for row in rounds]
    ratios = [our["ttfa_s"] / their["ttfa_s"] for our, their in zip(ours, theirs, strict=True)]
    return {
        "rounds": len(rounds),
        "utterances": arguments.utterances,
        "voice": voice.name,
        "characters": round(statistics.mean(len(row["text"]) for row in ours)),
        "sentences": statistics.mean(row["sentences"] for row in theirs),
        "audio_s": round(statistics.mean(row["audio_s"] for row in ours), 2),
        "sequential_ttfa_s": spread([row["ttfa_s"] for row in theirs]),
        "sequential_text_s": spread([row["text_s"] for row in theirs]),
        "sequential_translate_s": spread([row["translate_s"] for row in theirs]),
        "pipelined_ttfa_s": spread([row["ttfa_s"] for row in ours]),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ttft_s": spread([row["ttft_s"] for row in ours]),
        "quote_to_sound_s": spread([row["q2a_s"] for row in ours if row["q2a_s"] is not None]),
        "prefill_new_tokens": [row["prefill_new"] for row in ours],
        "pieces_per_s": spread([row["pieces_per_s"] for row in ours if row["pieces_per_s"]]),
        "gaps": sum(row["gaps"] for row in ours),
        "notices": [notice for row in ours for notice in row["notices"]],
        "same_text": all(our["text"].split() == their["text"].split() for our, their in zip(ours, theirs, strict=True)),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "min": round(ordered[0], 3),
        "p50": round(statistics.median(ordered), 3),
        "max": round(ordered[-1], 3),
    }


if __name__ == "__main__":
    sys.exit(main())
