# ruff: noqa: ARG002, ARG005 - the engines of these tests have the signatures of the protocols
"""What the pipeline itself costs, on a clock that moves only when everybody waits: nothing here depends on the machine."""

import asyncio
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rplab_play_fakes import RATE, Model, Notebook, Translator, Voice

from rplab.errors import AudioError
from rplab.play.config import PlayConfig
from rplab.play.emotion import choose_style, feel
from rplab.play.engines import Engines
from rplab.play.events import Heard, Spoken
from rplab.play.heard import HeardSentence, heard_text
from rplab.play.metrics import percentile
from rplab.play.session import PlaySession, Scene
from rplab.play.virtual import VirtualSink, VirtualThreads, run

SCENE = Scene("너는 사야다. 카즈키와 이야기한다.", ("사야", "サヤ"), ("카즈키",))
NARRATION = "사야는 창밖을 보다가 천천히 고개를 돌린다."
SPEECH = ("왔구나.", "비가 와서 못 오는 줄 알았어.", "이리 와서 앉아.", "오늘은 무슨 일이 있었어?")
REPLY = f'{NARRATION}\n"{" ".join(SPEECH)}"'
TOKEN_S, TRANSLATE_S, RTF, SECONDS, PIECES = 0.01, 0.04, 0.25, 1.6, 8


def talk(*messages, replies=(REPLY,), config=None, during=None, model=None, voice=None, notebook=None):
    """Hold a conversation on a virtual clock; returns (session, turns, events with their times, sink)."""

    async def main():
        threads = VirtualThreads()
        clock = asyncio.get_running_loop().time
        sink = VirtualSink(RATE, clock=clock)
        writer = model or Model(*replies, token_s=TOKEN_S, prefill_s=0.0005)
        speaker = voice or Voice(seconds=SECONDS, pieces=PIECES, rtf=RTF)
        translator = Translator(seconds=TRANSLATE_S)
        for engine in (writer, speaker, translator):
            engine.spend = threads.spend
        writer.context_tokens = 10**6
        session = PlaySession(
            SCENE,
            Engines(writer, translator, speaker, sink),
            PlayConfig(**(config or {})),
            notebook or Notebook(SCENE.system),
            threads=threads,
        )
        turns, events = [], []
        for message in messages:
            saying = asyncio.create_task(session.say(message, lambda event: events.append((clock(), event))))
            if during is not None:
                await during(session, sink)
            turns.append(await saying)
            await session.finish(turns[-1])
            await session.rest()
        await session.aclose()
        return session, turns, events, sink

    return run(main())


def test_overhead_of_the_pipeline_is_below_15_ms_and_there_is_no_gap_in_a_hundred_turns():
    floor_s = TOKEN_S * (len(NARRATION) + len('\n"') + len(SPEECH[0])) + TRANSLATE_S + RTF * SECONDS / PIECES

    turns, pauses = [], []
    for _ in range(10):
        _, ten, _, sink = talk(*["안녕"] * 10)
        turns += ten
        pauses += [pause for pause in sink.silence_runs_s() if pause < 0.3]

    overhead = [turn.metrics.ttfa_s - floor_s - turn.metrics.prefill_new * 0.0005 for turn in turns]
    assert percentile(overhead, 0.95) <= 0.015
    assert min(overhead) >= -1e-6
    assert sum(turn.metrics.gaps + turn.metrics.underruns for turn in turns) == 0
    assert all(turn.metrics.heard_ratio == 1.0 for turn in turns)
    assert pauses == [pytest.approx(0.25, abs=0.001)] * (100 * (len(SPEECH) - 1))


def test_voice_slower_than_speech_is_a_gap_and_an_underrun_that_are_counted():
    _, (turn,), _, _ = talk("안녕", voice=Voice(seconds=SECONDS, pieces=PIECES, rtf=1.5))

    assert turn.metrics.gaps > 0
    assert turn.metrics.underruns > 0
    assert turn.metrics.gap_s > 0.5
    assert turn.metrics.heard_ratio == 1.0


@pytest.mark.parametrize("after_s", [0.2, 0.7, 1.0, 1.7, 3.0, 5.5])
def test_interruption_is_silent_within_60_ms_and_the_next_turn_is_clean(after_s):
    silent = []

    async def interrupt(session, sink):
        await asyncio.sleep(after_s)
        if silent:
            return
        sink.sound()
        started, heard = asyncio.get_running_loop().time(), len(sink.sound())
        await session.stop()
        silent.append(asyncio.get_running_loop().time() - started)
        await asyncio.sleep(0.5)
        tail = sink.sound()[heard:]
        loud = np.flatnonzero(np.abs(tail) > 0.003)
        silent.append(loud[-1] / RATE if len(loud) else 0.0)

    session, (first, second), _, _ = talk("안녕", "또", during=interrupt)

    assert max(silent) <= 0.06
    assert first.metrics.cancelled
    assert not second.metrics.cancelled
    assert second.metrics.heard_ratio == 1.0
    assert session.exchanges[1].reply == REPLY


def test_history_keeps_what_was_heard_and_the_store_what_was_shown():
    notebook = Notebook(SCENE.system)

    async def interrupt(session, sink):
        if not notebook.nodes:
            await asyncio.sleep(2.9)  # in the middle of the second sentence
            await session.stop()

    model = Model(REPLY, token_s=TOKEN_S)
    session, _, _, _ = talk("안녕", "그래서?", during=interrupt, model=model, notebook=notebook)

    assert notebook.nodes[0][2] == REPLY
    told = session.exchanges[0].reply
    assert told.startswith(f'{NARRATION}\n"왔구나. 비가')
    assert told.endswith('…"')
    assert model.prompts[1][2]["content"] == told
    assert 0 < notebook.outcomes[0].lines[1].heard < 1


def test_turn_20_reads_hardly_more_of_its_prompt_than_turn_2():
    model = Model(REPLY, token_s=TOKEN_S)

    talk(*[f"{index}번째로 하는 말이야." for index in range(10, 30)], model=model)

    assert model.usages[19].new <= 1.3 * model.usages[1].new
    assert model.usages[19].cached / (model.usages[19].new + model.usages[19].cached) >= 0.9


def test_without_reading_ahead_the_beginning_of_the_prompt_is_still_not_read_twice():
    model = Model(REPLY, token_s=TOKEN_S)

    talk(*[f"{index}번째로 하는 말이야." for index in range(10, 30)], model=model, config={"prefill": False})

    assert model.usages[19].new <= 1.3 * model.usages[1].new


def test_what_follows_a_turn_waits_for_the_end_of_its_sound_and_is_stopped_by_the_player():
    log = []

    async def main():
        threads = VirtualThreads()
        clock = asyncio.get_running_loop().time
        model = Model(REPLY, token_s=TOKEN_S, spend=threads.spend)
        model.context_tokens = 10**6
        engines = Engines(model, Translator(), Voice(seconds=SECONDS), VirtualSink(RATE, clock=clock))
        session = PlaySession(SCENE, engines, PlayConfig(), Notebook(), threads=threads)

        async def remember(turn):
            log.append(clock())
            await session.ask([{"role": "user", "content": "기억할 것?"}])
            log.append("done")

        session.afterwards = remember
        turn = await session.say("안녕", lambda event: None)
        await session.finish(turn)
        log.append(turn.metrics.total_s)
        await asyncio.sleep(0.2)
        started = clock()
        await session.say("또", lambda event: None)
        log.append(clock() - started)
        await session.aclose()

    run(main())
    total_s, began_s, second_s = log
    assert began_s >= total_s
    assert second_s == pytest.approx(TOKEN_S * len(REPLY), abs=0.03)


def test_subtitles_follow_the_play_clock():
    _, _, events, _ = talk("안녕")

    heard = [(when, event) for when, event in events if isinstance(event, Heard)]
    ends = {event.text: when for when, event in heard if event.share == 1.0}
    assert list(ends) == list(SPEECH)
    assert all(late - early == pytest.approx(SECONDS + 0.25, abs=0.05) for early, late in itertools.pairwise(ends.values()))
    assert all(later[1].share > earlier[1].share for earlier, later in itertools.pairwise(heard) if earlier[1].text == later[1].text)


def test_narration_chooses_the_style_of_the_voice():
    reply = '사야는 환하게 웃었다.\n"어서 와."\n사야는 눈물을 글썽였다.\n"가지 마."\n사야는 책을 폈다.\n"읽을까."'
    voice = Voice()

    _, _, events, _ = talk("안녕", replies=(reply,), voice=voice)

    assert voice.used == ["happy", "悲しい", ""]
    assert [event.feeling for _, event in events if isinstance(event, Spoken)] == ["happy", "sad", "neutral"]
    voice = Voice()
    talk("안녕", replies=(reply,), voice=voice, config={"voice": {"style": "happy"}})
    assert voice.used == ["happy"] * 3


def test_device_that_stops_playing_is_noticed_once_and_the_text_goes_on():
    class Stuck(VirtualSink):
        def advance(self, seconds):
            return super().advance(min(seconds, max(0.0, 1.0 - self._read_frames / RATE)))

    reopened = []

    async def main():
        threads = VirtualThreads()
        clock = asyncio.get_running_loop().time

        def reopen():
            reopened.append(VirtualSink(RATE, clock=clock))
            return reopened[-1], "again"

        stuck = Stuck(RATE, clock=clock)
        stuck._catch_up = lambda: None
        engines = Engines(Model(REPLY), Translator(), Voice(seconds=SECONDS), stuck, reopen)
        session = PlaySession(SCENE, engines, PlayConfig(), Notebook(), threads=threads)
        turns = []
        for _ in range(3):
            turns.append(await session.say("안녕", lambda event: None))
            await session.finish(turns[-1])
        await session.aclose()
        return session, turns

    session, turns = run(main())
    assert [[notice.part for notice in turn.notices] for turn in turns] == [["audio"], ["audio"], []]
    assert len(reopened) == 1
    assert [turn.metrics.heard_ratio for turn in turns[1:]] == [1.0, 1.0]
    assert [exchange.reply for exchange in session.exchanges] == [REPLY] * 3


def test_device_that_refuses_leaves_text_until_it_is_back():
    refused = []

    async def main():
        threads = VirtualThreads()
        clock = asyncio.get_running_loop().time

        class Gone(VirtualSink):
            def write(self, samples):
                raise AudioError("unplugged")

        def reopen():
            refused.append(1)
            if len(refused) < 2:
                raise AudioError("still gone")
            return VirtualSink(RATE, clock=clock), "again"

        voice = Voice()
        session = PlaySession(
            SCENE, Engines(Model(REPLY), Translator(), voice, Gone(RATE), reopen), PlayConfig(), Notebook(), threads=threads
        )
        turns = []
        for _ in range(3):
            turns.append(await session.say("안녕", lambda event: None))
            await session.finish(turns[-1])
        await session.aclose()
        return turns

    turns = run(main())
    assert [[notice.part for notice in turn.notices] for turn in turns] == [["audio"], [], ["audio"]]
    assert [turn.metrics.audio_s > 0 for turn in turns] == [False, False, True]


@pytest.mark.parametrize(
    "row", [json.loads(line) for line in (Path(__file__).parents[2] / "golden/emotion.jsonl").read_text().splitlines()]
)
def test_feeling_of_the_golden_set_comes_from_the_character_and_from_whole_words(row):
    _, narration, speech = row["input"]

    assert feel(narration, speech) == row["expected"]


@pytest.mark.parametrize(
    ("narration", "speech", "feeling"),
    [
        ("사야는 웃지 않았다.", "그래.", "neutral"),
        ("사야는 안 웃었다.", "응.", "neutral"),
        ("사야는 나직하게 속삭였다.", "가까이 와.", "calm"),
        ("사야는 눈썹을 치켜올리며 소리를 질렀다.", "뭐라고?", "angry"),
        ("사야는 한숨을 쉬며 고개를 떨궜다.", "괜찮아.", "sad"),
        ("", "너무 좋아!", "happy"),
        ("서울 거리의 미소라면 가게.", "", "happy"),
    ],
)
def test_feeling_is_read_from_words(narration, speech, feeling):
    assert feel(narration, speech) == feeling


def test_style_is_found_by_how_voices_name_it():
    assert choose_style("sad", ["Neutral", "悲しみ"]) == "悲しみ"
    assert choose_style("happy", ["happy", "sad"]) == "happy"
    assert choose_style("angry", ["Neutral"]) == ""
    assert choose_style("neutral", ["happy"]) == ""


@pytest.mark.parametrize(
    ("shown", "shares", "expected"),
    [
        ('사야는 웃었다.\n"왔구나. 비가 와서 걱정했어."', (1, 0.6), '사야는 웃었다.\n"왔구나. 비가 와서…"'),
        ('사야는 웃었다.\n"왔구나. 비가 와서 걱정했어."', (1, 0), '사야는 웃었다.\n"왔구나."'),
        ('사야는 웃었다.\n"왔구나. 비가 와서 걱정했어."', (0, 0), "사야는 웃었다."),
        ('사야는 웃었다.\n"왔구나. 비가 와서 걱정했어."', (1, 1), None),
        ("「왔구나.」", (0,), "…"),
        ("「그래서 왔구나.」 사야는 웃었다.", (0.6,), "「그래서…」"),
        ('"가자." 사야는 일어났다. "어서 와."', (1, 0.1), '"가자." 사야는 일어났다.'),
        ("“그 사람이 『응』이라고 하더라.”", (0.7,), "“그 사람이 『응』이라고…”"),
    ],
)
def test_interrupted_reply_ends_where_it_was_heard(shown, shares, expected):
    texts = [
        text
        for text in ("왔구나.", "비가 와서 걱정했어.", "그래서 왔구나.", "가자.", "어서 와.", "그 사람이 『응』이라고 하더라.")
        if text in shown
    ]
    texts = [text for text in texts if not any(text != other and text in other for other in texts)]

    assert heard_text(shown, [HeardSentence(text, share) for text, share in zip(texts, shares, strict=True)]) == expected


@given(
    st.lists(st.tuples(st.text("가나다라 ", min_size=2, max_size=12), st.floats(0, 1)), min_size=1, max_size=4),
    st.sampled_from(['""', "「」", "“”"]),
)
def test_heard_text_is_a_beginning_of_what_was_shown(sentences, marks):
    sentences = [(text.strip() + ".", share) for text, share in sentences if text.strip()]
    told = "사야는 웃었다."
    shown = f"{told}\n{marks[0]}{' '.join(text for text, _ in sentences)}{marks[1]}"
    is_speech = [index > len(told) for index in range(len(shown))]

    heard = heard_text(shown, [HeardSentence(text, share) for text, share in sentences], is_speech)

    if heard is not None:
        assert shown.startswith(heard.removesuffix(marks[1]).removesuffix("…"))
        assert heard.startswith(told)


def test_voice_waits_for_the_reader_when_asked_to():
    _, (fast,), _, _ = talk("안녕")
    _, (slow,), _, _ = talk("안녕", config={"pace": "read"})

    assert slow.metrics.ttfa_s >= fast.metrics.ttfa_s + 1.0
