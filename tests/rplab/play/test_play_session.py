# ruff: noqa: ARG002, ARG005 - the engines of these tests have the signatures of the protocols
"""The session: text first, speech while it is written, nothing lost when a part fails."""

import asyncio
import json
import threading
import time

import numpy as np
import pytest

from rplab.errors import AudioError, BackendError, StorageError
from rplab.play.audio import NullSink
from rplab.play.config import PlayConfig
from rplab.play.devices import VirtualSink
from rplab.play.engines import Engines
from rplab.play.events import Delta, Notice, Sentence, Spoken, Translated
from rplab.play.session import PlaySession, Scene
from rplab.play.store import open_session
from rplab.seeding import derive

RATE = 8000
REPLY = '사야는 고개를 들었다.\n"왔구나. 비가 와서 못 오는 줄 알았어. 앉아."'
SCENE = Scene("너는 사야다.", ("사야", "サヤ"), ("카즈키",))


class Model:
    """Writes fixed replies, one character at a time; `fault` is raised after so many."""

    def __init__(self, *replies, delay_s=0.0, fault_after=None, fault=None, hang_after=None):
        self.replies = list(replies) or [REPLY]
        self.delay_s, self.fault_after, self.fault, self.hang_after = delay_s, fault_after, fault, hang_after
        self.prompts, self.seeds, self.closed = [], [], 0

    def fits(self, messages, sampling):
        return sum(len(message["content"]) for message in messages) < 400

    def stream(self, messages, sampling, *, seed, cancelled):
        self.prompts.append(messages)
        self.seeds.append(seed)
        text = self.replies[min(len(self.prompts), len(self.replies)) - 1]
        try:
            for index, character in enumerate(text):
                if index == self.fault_after:
                    raise self.fault
                if index == self.hang_after:
                    threading.Event().wait(3)
                if cancelled():
                    return
                time.sleep(self.delay_s)
                yield character
        finally:
            self.closed += 1


class Translator:
    def __init__(self, answer="はい、そうです。", fault=None):
        self.answer, self.fault, self.batches = answer, fault, []

    def translate(self, texts):
        self.batches.append(list(texts))
        if self.fault:
            raise self.fault
        return [self.answer for _ in texts]


class Voice:
    name, sample_rate = "test", RATE

    def __init__(self, fault=None, seconds=0.2, delay_s=0.0):
        self.fault, self.seconds, self.delay_s, self.said, self.closed = fault, seconds, delay_s, [], False

    def stream(self, text, *, speed=1.0, pitch=0.0, style=""):
        self.said.append(text)
        time.sleep(self.delay_s)
        if self.fault:
            raise self.fault
        for _ in range(2):
            yield np.full(round(self.seconds * RATE / 2), 0.3, dtype=np.float32)

    def synthesise(self, text, *, speed=1.0, pitch=0.0, style=""):
        return np.concatenate(list(self.stream(text)))

    def close(self):
        self.closed = True


def play(*messages, model=None, translator=None, voice=None, sink=None, log=None, scene=SCENE, **config):
    """Send messages one after another and return (session, turns, events)."""
    engines = Engines(model or Model(), translator or Translator(), voice or Voice(), sink or NullSink(RATE))
    events = []

    async def run():
        session = PlaySession(scene, engines, PlayConfig(**config), log)
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
        session = PlaySession(SCENE, Engines(model), PlayConfig(reply_timeout_s=0.2))
        first = await session.say("안녕", lambda event: None)
        model.hang_after = None
        second = await session.say("또", lambda event: None)
        await session.aclose()
        return first, second

    first, second = asyncio.run(run())
    assert "0.2 s" in first.failure
    assert second.parsed().shown == REPLY


def test_history_is_trimmed_by_exchanges_and_keeps_the_system_text():
    model = Model()

    play(*[f"말 {index}" for index in range(9)], model=model, max_history_turns=3)

    for prompt in model.prompts:
        assert prompt[0] == {"role": "system", "content": "너는 사야다."}
        assert [message["role"] for message in prompt[1:]] == [*(["user", "assistant"] * 9)[: len(prompt) - 2], "user"]
        assert len(prompt) <= 2 + 2 * 3
    assert model.prompts[-1][-1]["content"] == "말 8"


def test_history_is_shortened_to_what_fits_and_a_message_that_never_fits_is_refused():
    model = Model()

    session, turns, _ = play("짧은 말", "또", "또", "또", "또", "또", "또", "가" * 500, model=model, max_history_turns=100)

    assert all(model.fits(prompt, None) for prompt in model.prompts)
    assert turns[-1].failure
    assert len(session.exchanges) == 7


def test_regenerated_reply_replaces_the_last_one_with_another_draw():
    model = Model(REPLY, '"다른 말."')

    async def run():
        session = PlaySession(SCENE, Engines(model), PlayConfig())
        await session.say("안녕", lambda event: None)
        await session.regenerate(lambda event: None)
        undone = await session.undo()
        return session, undone

    session, undone = asyncio.run(run())
    assert undone.reply == '"다른 말."'
    assert session.exchanges == []
    assert model.prompts[0] == model.prompts[1]
    assert model.seeds[0] != model.seeds[1]


def test_typing_interrupts_text_and_sound_and_keeps_what_was_shown():
    model, sink = Model(delay_s=0.003), VirtualSink(RATE)

    async def run():
        session = PlaySession(SCENE, Engines(model, Translator(), Voice(seconds=5.0), sink), PlayConfig())
        first = asyncio.create_task(session.say("안녕", lambda event: None))
        await asyncio.sleep(0.12)
        sink.advance(0.05)
        started = time.monotonic()
        await session.stop()
        stopped_s = time.monotonic() - started
        turn = await first
        model.replies = ['"응."']
        await session.finish(await session.say("잠깐", lambda event: None))
        return session, turn, stopped_s

    session, turn, stopped_s = asyncio.run(run())
    assert turn.metrics.cancelled
    assert stopped_s < 0.2
    assert 0 < len(session.exchanges[0].reply) < len(REPLY)
    assert REPLY.startswith(session.exchanges[0].reply)
    assert session.exchanges[1].reply == '"응."'
    assert turn.metrics.heard_ratio < 0.5


def test_cancel_silences_the_loudspeaker_within_a_short_fade():
    sink = VirtualSink(RATE)

    async def run():
        session = PlaySession(SCENE, Engines(Model(), Translator(), Voice(seconds=5.0), sink), PlayConfig())
        await session.say("안녕", lambda event: None)
        await asyncio.sleep(0.1)
        sink.advance(0.1)
        await session.stop()

    asyncio.run(run())
    assert np.abs(sink.advance(0.005)).max() > 0
    assert np.abs(sink.advance(1.0)).max() == 0


def test_fast_engines_leave_no_gap_and_no_underrun():
    sink = VirtualSink(RATE, 200.0)

    _, turns, _ = play(*["안녕"] * 20, sink=sink)

    assert sum(turn.metrics.gaps + turn.metrics.underruns for turn in turns) == 0
    assert max(sink.silence_runs_s()) == pytest.approx(0.25, abs=0.001)


def test_the_graph_itself_costs_little_time():
    _, turns, _ = play(*["안녕"] * 30)

    over = sorted(turn.metrics.q2a_s for turn in turns)
    assert over[round(0.9 * len(over))] < 0.05


def test_session_is_saved_and_taken_up_again(tmp_path):
    play("안녕", "또", log=open_session(tmp_path, "one", "사야"))
    with (tmp_path / "one.jsonl").open("ab") as handle:
        handle.write('{"type": "turn", "user": "반쯤'.encode())

    model = Model()
    session, _, _ = play("셋째", model=model, log=open_session(tmp_path, "one", "사야"))

    assert [exchange.user for exchange in session.exchanges] == ["안녕", "또", "셋째"]
    assert len(model.prompts[0]) == 6
    again = open_session(tmp_path, "one", "사야")
    assert (len(again.exchanges), again.num_torn) == (3, 1)
    again.close()
    kinds = [json.loads(line)["type"] for line in (tmp_path / "one.jsonl").read_text().splitlines() if line.endswith("}")]
    assert kinds == ["session", "turn", "speech", "turn", "speech", "turn", "speech"]


def test_session_that_cannot_be_saved_goes_on(tmp_path):
    log = open_session(tmp_path, "one", "사야")

    def refuse(row):
        raise StorageError("the disk is full")

    log._append = refuse
    session, turns, events = play("안녕", "또", log=log)

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
        session = PlaySession(SCENE, Engines(Model(), Hanging(), Voice(), NullSink(RATE)), PlayConfig())
        await session.say("안녕", lambda event: None)
        started = time.monotonic()
        await session.stop()
        return time.monotonic() - started

    assert asyncio.run(run()) < 0.5


def test_fifty_interrupted_turns_leave_no_sound_and_no_thread_behind():
    sink, before = VirtualSink(RATE), threading.active_count()

    async def run():
        session = PlaySession(SCENE, Engines(Model(), Translator(), Voice(seconds=1.0), sink), PlayConfig())
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

    def fits(self, messages, sampling):
        return True

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


def test_a_hundred_turns_of_faults_lose_no_text_and_leave_nothing_behind(tmp_path):
    sink, before = ChaosSink(RATE), threading.active_count()
    chaos = Chaos(sink, 3)
    log = open_session(tmp_path, "chaos", "사야")

    async def run():
        session = PlaySession(SCENE, Engines(chaos, chaos, chaos, sink), PlayConfig(), log)
        for index in range(100):
            events = []
            turn = await session.say("안녕", events.append)
            if index % 5 == 0:
                await session.stop()
            else:
                await session.finish(turn)
            shown = "".join(event.text for event in events if isinstance(event, Delta))
            assert session.exchanges[-1].reply == shown.strip()
            assert len(turn.notices) == len({notice.part for notice in turn.notices})
        await session.aclose()
        return session

    session = asyncio.run(run())
    time.sleep(0.1)
    assert len(session.exchanges) == 100
    assert chaos.faults > 50
    assert threading.active_count() <= before
    again = open_session(tmp_path, "chaos", "사야")
    assert again.exchanges == session.exchanges
    again.close()
