# ruff: noqa: ARG002, ARG005 - the engines of these tests have the signatures of the protocols
"""The session: text first, speech while it is written, nothing lost when a part fails."""

import asyncio
import threading
import time

import numpy as np
import pytest
from rplab_play_fakes import RATE, REPLY, Model, Notebook, Translator, Voice

from rplab.errors import AudioError, BackendError, StorageError
from rplab.play.audio import NullSink
from rplab.play.config import PlayConfig
from rplab.play.engines import Engines
from rplab.play.events import Delta, Notice, Sentence, Spoken, Translated
from rplab.play.session import PlaySession, Scene
from rplab.play.virtual import VirtualSink
from rplab.seeding import derive

SCENE = Scene("너는 사야다.", ("사야", "サヤ"), ("카즈키",))


def play(*messages, model=None, translator=None, voice=None, sink=None, notebook=None, scene=SCENE, **config):
    """Send messages one after another and return (session, turns, events)."""
    engines = Engines(model or Model(), translator or Translator(), voice or Voice(), sink or NullSink(RATE))
    events = []

    async def run():
        session = PlaySession(scene, engines, PlayConfig(**config), notebook or Notebook())
        turns = []
        for message in messages:
            turns.append(await session.say(message, events.append))
            await session.finish(turns[-1])
        await session.aclose()
        return session, turns

    return *asyncio.run(run()), events


def test_turn_is_shown_translated_and_spoken():
    voice, translator = Voice(), Translator()

    session, (turn,), events = play("안녕", voice=voice, translator=translator)

    assert "".join(event.text for event in events if isinstance(event, Delta)) == REPLY
    assert [event.text for event in events if isinstance(event, Sentence)] == ["왔구나.", "비가 와서 못 오는 줄 알았어.", "앉아."]
    assert sum(map(len, translator.batches)) == len(voice.said) == len([e for e in events if isinstance(e, Spoken)]) == 3
    assert [exchange.reply for exchange in session.exchanges] == [REPLY]
    assert not turn.notices
    assert turn.metrics.audio_s == pytest.approx(3 * 0.2 + 2 * 0.25)
    assert turn.metrics.ttft_s <= turn.metrics.ttfq_s <= turn.metrics.ttfa_s
    assert voice.closed


def test_speech_begins_while_the_reply_is_still_written():
    _, (turn,), events = play("안녕", model=Model(delay_s=0.004))

    kinds = [type(event) for event in events]
    assert kinds.index(Spoken) < max(index for index, kind in enumerate(kinds) if kind is Delta)
    assert turn.metrics.ttfa_s < turn.metrics.text_s


def test_text_does_not_wait_for_a_slow_voice():
    _, (turn,), _ = play("안녕", voice=Voice(delay_s=0.3))

    assert turn.metrics.text_s < 0.3
    assert turn.metrics.total_s > 0.9


@pytest.mark.parametrize("fault", [AudioError("broken"), ValueError("odd"), MemoryError()], ids=lambda fault: type(fault).__name__)
def test_voice_that_fails_costs_the_sound_not_the_text(fault):
    session, turns, events = play("안녕", "또", voice=Voice(fault=fault))

    assert [len(turn.notices) for turn in turns] == [1, 1]
    assert turns[0].notices[0].part == "voice"
    assert len(session.exchanges) == 2
    assert len([event for event in events if isinstance(event, Translated)]) == 6


@pytest.mark.parametrize(
    "translator", [Translator(fault=RuntimeError("no")), Translator("아직 한국어"), Translator(""), Translator("あ" * 900)]
)
def test_translation_that_fails_costs_the_sound_not_the_text(translator):
    voice = Voice()

    session, (turn,), _ = play("안녕", translator=translator, voice=voice)

    assert [notice.part for notice in turn.notices] == ["translation"]
    assert voice.said == []
    assert session.exchanges[0].reply == REPLY


def test_japanese_in_the_reply_is_spoken_as_it_is():
    voice, translator = Voice(), Translator()

    play("안녕", model=Model('サヤは笑った。\n"おかえり。"'), voice=voice, translator=translator)

    assert voice.said == ["おかえり。"]
    assert translator.batches == []


def test_words_put_into_the_players_mouth_are_not_spoken():
    voice = Voice()

    play("안녕", model=Model('카즈키가 말했다.\n"나 왔어."\n사야는 웃었다.\n"어서 와."'), voice=voice)

    assert len(voice.said) == 1


def test_model_that_dies_in_the_middle_leaves_its_text():
    model = Model(fault_after=20, fault=BackendError("gone"))

    session, turns, _ = play("안녕", "또", model=model)

    assert turns[0].failure == "gone"
    assert [notice.part for notice in turns[0].notices] == ["reply"]
    assert session.exchanges[0].reply == REPLY[:20].strip()
    assert len(model.prompts[1]) == 4


def test_model_that_dies_at_once_leaves_no_exchange():
    session, (turn,), _ = play("안녕", model=Model(fault_after=0, fault=BackendError("gone")))

    assert session.exchanges == []
    assert turn.failure == "gone"


def test_model_that_hangs_is_given_up_and_the_next_turn_works():
    model = Model(REPLY, hang_after=25)

    async def run():
        session = PlaySession(SCENE, Engines(model), PlayConfig(reply_timeout_s=0.2), Notebook())
        first = await session.say("안녕", lambda event: None)
        model.hang_after = None
        second = await session.say("또", lambda event: None)
        await session.aclose()
        return first, second

    first, second = asyncio.run(run())
    assert "0.2 s" in first.failure
    assert second.parsed().shown == REPLY


def test_message_that_never_fits_is_refused_and_the_next_works():
    model = Model()

    session, turns, _ = play("짧은 말", "가" * 500, "또", model=model, sampling={"max_new_tokens": 200})

    assert "나누어" in turns[1].failure or "parts" in turns[1].failure
    assert [exchange.user for exchange in session.exchanges] == ["짧은 말", "또"]


def test_reply_drawn_again_stands_beside_the_first_with_another_draw():
    model, notebook = Model(REPLY, '"다른 말."'), Notebook()

    async def run():
        session = PlaySession(SCENE, Engines(model), PlayConfig(), notebook)
        await session.say("안녕", lambda event: None)
        await session.regenerate(lambda event: None)
        undone = await session.undo()
        await session.aclose()
        return session, undone

    session, undone = asyncio.run(run())
    assert undone.reply == '"다른 말."'
    assert session.exchanges == []
    assert [(parent, reply) for parent, _, reply in notebook.nodes] == [(None, REPLY), (None, '"다른 말."')]
    assert model.prompts[0] == model.prompts[1]
    assert model.seeds[0] != model.seeds[1]


def test_typing_interrupts_text_and_sound_and_keeps_what_was_shown():
    model, sink = Model(delay_s=0.003), VirtualSink(RATE, clock=time.monotonic)

    async def run():
        session = PlaySession(SCENE, Engines(model, Translator(), Voice(seconds=5.0), sink), PlayConfig(), Notebook())
        spoken = asyncio.Event()
        first = asyncio.create_task(session.say("안녕", lambda event: spoken.set() if isinstance(event, Sentence) else None))
        await spoken.wait()
        started = time.monotonic()
        await session.stop()
        stopped_s = time.monotonic() - started
        turn = await first
        model.replies, session.engines.voice.seconds = ['"응."'], 0.2
        await session.finish(await session.say("잠깐", lambda event: None))
        return session, turn, stopped_s

    session, turn, stopped_s = asyncio.run(run())
    assert turn.metrics.cancelled
    assert stopped_s < 2.0
    assert 0 < len(session.exchanges[0].reply) < len(REPLY)
    assert REPLY.startswith(session.exchanges[0].reply.removesuffix('"').removesuffix("…"))
    assert session.exchanges[1].reply == '"응."'
    assert not turn.metrics.heard_ratio or turn.metrics.heard_ratio < 0.5


def test_cancel_silences_the_loudspeaker_within_a_short_fade():
    sink = VirtualSink(RATE)

    async def run():
        session = PlaySession(SCENE, Engines(Model(), Translator(), Voice(seconds=5.0), sink), PlayConfig(), Notebook())
        await session.say("안녕", lambda event: None)
        await asyncio.sleep(0.1)
        sink.advance(0.1)
        await session.stop()

    asyncio.run(run())
    assert np.abs(sink.advance(0.005)).max() > 0
    assert np.abs(sink.advance(1.0)).max() == 0


def test_session_that_cannot_be_saved_goes_on():
    class Full(Notebook):
        def commit(self, user, reply, *, complete):
            super().commit(user, reply, complete=complete)
            raise StorageError("the disk is full")

    session, turns, events = play("안녕", "또", notebook=Full())

    assert len(session.exchanges) == 2
    assert [event.part for event in events if isinstance(event, Notice)] == ["store", "store"]
    assert turns[0].metrics.audio_s > 0


def test_without_voice_there_are_subtitles_and_without_translation_only_text():
    translator, voice = Translator(), Voice()

    _, (turn,), events = play("안녕", translator=translator, voice=voice, speak=False)
    assert (voice.said, turn.notices) == ([], [])
    assert len([event for event in events if isinstance(event, Translated)]) == 3

    translator.batches = []
    play("안녕", translator=translator, voice=voice, translate=False)
    assert (translator.batches, voice.said) == ([], [])


def test_interrupting_does_not_wait_for_a_translator_that_hangs():
    class Hanging(Translator):
        def translate(self, texts):
            threading.Event().wait(2)
            return texts

    async def run():
        session = PlaySession(SCENE, Engines(Model(), Hanging(), Voice(), NullSink(RATE)), PlayConfig(), Notebook())
        await session.say("안녕", lambda event: None)
        started = time.monotonic()
        await session.stop()
        return time.monotonic() - started

    assert asyncio.run(run()) < 0.5


def test_fifty_interrupted_turns_leave_no_sound_and_no_thread_behind():
    sink, before = VirtualSink(RATE), threading.active_count()

    async def run():
        session = PlaySession(SCENE, Engines(Model(), Translator(), Voice(seconds=1.0), sink), PlayConfig(), Notebook())
        for index in range(50):
            await session.say("안녕", lambda event: None)
            await asyncio.sleep(0.001 * (index % 7))
            await session.stop()
            sink.advance(0.01)
            assert np.abs(sink.advance(0.1)).max() == 0
        await session.aclose()

    asyncio.run(run())
    time.sleep(0.1)
    assert threading.active_count() <= before


class Chaos:
    """Engines that each fail one call in four, always another way; seeded."""

    name, sample_rate = "chaos", RATE

    def __init__(self, sink, seed):
        self.random, self.sink = derive(seed, "chaos"), sink
        self.faults = 0
        self.model, self.japanese, self.voice = Model(), Translator(), Voice(seconds=0.05)

    def fail(self):
        if self.random.randrange(4) == 0:
            self.faults += 1
            raise self.random.choice([AudioError("gone"), ValueError("odd"), OSError(28, "no space"), BackendError("dead"), RuntimeError()])

    context_tokens, usage, styles = 10**6, None, ()

    def count(self, messages):
        return 1

    def prefill(self, messages, *, cancelled):
        self.fail()

    def stream(self, *arguments, cancelled=None, **options):
        if cancelled is None:
            return self.speak(*arguments)
        return self.write(*arguments, cancelled=cancelled, **options)

    def write(self, *arguments, **options):
        for index, piece in enumerate(self.model.stream(*arguments, **options)):
            if index == 30:
                self.fail()
            yield piece

    def speak(self, text):
        self.fail()
        yield from self.voice.stream(text)

    def translate(self, texts):
        self.fail()
        return [self.random.choice(["はい。", "はい。", "아니", ""]) for _ in texts]

    def close(self):
        pass


class ChaosSink(NullSink):
    def __init__(self, rate):
        super().__init__(rate)
        self.random = derive(5, "sink")

    def write(self, samples):
        if self.random.randrange(8) == 0:
            raise AudioError("unplugged")
        return super().write(samples)

    def finish(self):
        if self.random.randrange(8) == 0:
            raise StorageError("the disk is full")


def test_a_hundred_turns_of_faults_lose_no_text_and_leave_nothing_behind():
    sink, before = ChaosSink(RATE), threading.active_count()
    chaos = Chaos(sink, 3)
    notebook = Notebook()

    async def run():
        session = PlaySession(SCENE, Engines(chaos, chaos, chaos, sink), PlayConfig(), notebook)
        for index in range(100):
            events = []
            turn = await session.say("안녕", events.append)
            if index % 5 == 0:
                await session.stop()
            else:
                await session.finish(turn)
            shown = "".join(event.text for event in events if isinstance(event, Delta))
            assert notebook.nodes[-1][2] == shown.strip()
            assert len(turn.notices) == len({notice.part for notice in turn.notices})
        await session.aclose()
        return session

    session = asyncio.run(run())
    time.sleep(0.1)
    assert len(session.exchanges) == 100
    assert chaos.faults > 50
    assert threading.active_count() <= before
    assert len(notebook.outcomes) == 100
    assert notebook.closed
