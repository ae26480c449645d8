"""The voice as another process: whatever happens to it, the listener hears every sentence once or is told why not."""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rplab.errors import AudioError, ConfigError
from rplab.play.voice_link import WorkerLimits
from rplab.play.voice_process import VoiceProcess
from rplab.tts.config import VoiceConfig
from rplab.tts.frames import MAX_PAYLOAD_BYTES, Frame, FrameBuffer, FrameError, encode
from rplab.tts.open import open_voice

SCRIPT = Path(__file__).with_name("chaos_worker.py")
CHAOS = (sys.executable, str(SCRIPT))
sound, PIECES = (runpy.run_path(str(SCRIPT))[name] for name in ("sound", "PIECES"))
QUICK = WorkerLimits(start_s=60.0, silence_s=1.5, answer_s=4.0, answer_factor=0.0, backoff_s=(0.0,))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid, within_s=10.0):
    deadline = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


@pytest.fixture
def chaos(monkeypatch, tmp_path):
    """Start a chaos worker with a fault; every process is closed at the end."""
    opened = []

    def start(fault="", *, once=True, limits=QUICK, voices=("",)):
        monkeypatch.setenv("CHAOS_FAULT", fault)
        if once:
            (tmp_path / "fuse").touch()
            monkeypatch.setenv("CHAOS_FUSE", str(tmp_path / "fuse"))
        opened.append(VoiceProcess(dict.fromkeys(voices, VoiceConfig()), limits=limits, command=CHAOS))
        return opened[-1]

    yield start
    for voice in opened:
        voice.close()


@given(
    st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), st.binary(max_size=50)), max_size=5),
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
)
def test_frames_come_back_however_the_bytes_are_cut(messages, sizes):
    frames = [Frame({**header, "type": "x"}, payload) for header, payload in messages]
    data = b"".join(encode(frame.header, frame.payload) for frame in frames)
    buffer, back, start = FrameBuffer(), [], 0
    while start < len(data):
        size = sizes[len(back) % len(sizes)]
        buffer.feed(data[start : start + size])
        start += size
        while (frame := buffer.next()) is not None:
            back.append(frame)

    assert back == frames


@given(st.binary(min_size=4, max_size=200).filter(lambda data: not data.startswith(b"RPV1")))
def test_garbage_is_known_at_once(data):
    buffer = FrameBuffer()
    buffer.feed(data)

    with pytest.raises(FrameError, match="garbage"):
        buffer.next()


def test_oversized_frame_is_refused_on_both_sides():
    with pytest.raises(FrameError, match="too large"):
        encode({"type": "chunk"}, bytes(MAX_PAYLOAD_BYTES + 1))
    buffer = FrameBuffer()
    buffer.feed(b"RPV1\x02\0\0\0\xff\xff\xff\xff{}")
    with pytest.raises(FrameError, match="oversized"):
        buffer.next()


@pytest.mark.parametrize("fault", ["kill", "exit", "stall", "hang", "garbage", "oversized", "nan"])
def test_worker_that_fails_in_a_sentence_is_replaced_and_the_sentence_is_heard_whole_and_once(chaos, fault):
    voice = chaos(fault)
    first = voice.pid

    heard = voice.synthesise("おかえり。")

    assert np.array_equal(heard, np.concatenate(sound("おかえり。")))
    assert voice.restarts == 1
    assert voice.last_fault
    assert gone(first)
    assert len(voice.synthesise("もう一度。")) == PIECES * 800
    assert voice.restarts == 1


def test_what_libraries_print_does_not_disturb_the_frames(chaos):
    voice = chaos("stdout")

    assert np.array_equal(voice.synthesise("おかえり。"), np.concatenate(sound("おかえり。")))
    assert voice.restarts == 0


def test_bug_in_a_voice_is_an_error_of_that_sentence_only(chaos):
    voice = chaos("raise")

    with pytest.raises(AudioError, match="a bug in the voice"):
        voice.synthesise("おかえり。")

    assert len(voice.synthesise("おかえり。")) == PIECES * 800
    assert voice.restarts == 0


def test_worker_that_keeps_failing_is_given_up_with_a_reason_and_tried_again_later(chaos, monkeypatch):
    voice = chaos("kill", once=False, limits=WorkerLimits(start_s=60.0, max_restarts=2, backoff_s=(0.0,)))

    for _ in range(2):
        with pytest.raises(AudioError, match=r"3 .*signal 9"):
            voice.synthesise("おかえり。")
        assert (voice.pid, voice.restarts) == (0, 2)

    monkeypatch.setenv("CHAOS_FAULT", "")
    voice._failures.clear()  # a minute later
    assert len(voice.synthesise("おかえり。")) == PIECES * 800


def test_worker_killed_between_two_sentences_is_replaced(chaos):
    voice = chaos()
    os.kill(voice.pid, signal.SIGKILL)

    assert len(voice.synthesise("おかえり。")) == PIECES * 800
    assert voice.restarts == 1


def test_cancel_ends_the_sentence_between_two_pieces_and_the_next_is_clean(chaos):
    voice = chaos()
    stream = voice.stream("遅い文です。")
    next(stream)
    started = time.monotonic()
    threading.Timer(0.05, voice.cancel).start()

    rest = list(stream)

    assert len(rest) < PIECES - 1
    assert time.monotonic() - started < 2.0
    assert np.array_equal(voice.synthesise("次。"), np.concatenate(sound("次。")))
    assert voice.restarts == 0


def test_reader_that_leaves_in_mid_sentence_disturbs_nothing(chaos):
    voice = chaos()
    for _ in range(5):
        stream = voice.stream("途中まで。")
        next(stream)
        stream.close()

    assert np.array_equal(voice.synthesise("次。"), np.concatenate(sound("次。")))


def test_slow_reader_holds_the_voice_back(chaos):
    voice = chaos()
    stream = voice.stream("あ" * 50)
    next(stream)
    time.sleep(2.0)  # longer than the silence that counts as a stall: nobody waits for the worker meanwhile

    assert len(list(stream)) == PIECES - 1
    assert voice.restarts == 0


def test_several_voices_are_warm_in_one_process(chaos):
    voice = chaos(voices=("saya", "other"))

    assert voice.voices == ("saya", "other")
    assert voice.styles == ("happy", "sad")
    voice.choose("other")
    assert len(voice.synthesise("おかえり。")) == PIECES * 800
    with pytest.raises(ConfigError, match="saya, other"):
        voice.choose("third")
    assert voice.voice == "other"


@pytest.mark.parametrize(("fault", "match"), [("start", "code 4"), ("proto", "protocol")])
def test_worker_that_cannot_start_says_why(chaos, fault, match):
    with pytest.raises(AudioError, match=match):
        chaos(fault)


def test_program_that_is_not_there_is_an_audio_error():
    with pytest.raises(AudioError, match="cannot be started"):
        VoiceProcess({"": VoiceConfig()}, command=("/no/such/program",))


def test_worker_dies_with_a_parent_that_is_killed():
    script = (
        "import time\nfrom rplab.play.voice_process import VoiceProcess\nfrom rplab.tts.config import VoiceConfig\n"
        f"voice = VoiceProcess({{'': VoiceConfig()}}, command={CHAOS!r})\n"
        "print(voice.pid, flush=True)\nnext(voice.stream('遅い文です。'))\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "CHAOS_FAULT": ""})
    pid = int(parent.stdout.readline())
    assert alive(pid)

    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert gone(pid)


def test_real_voice_sounds_the_same_from_the_process():
    here = open_voice(VoiceConfig())
    there = VoiceProcess({"": VoiceConfig()})
    try:
        assert (there.name, there.sample_rate, there.styles) == (here.name, here.sample_rate, here.styles)
        assert np.array_equal(there.synthesise("おかえり。", style="happy"), here.synthesise("おかえり。", style="happy"))
        assert 0 < there.timings["first_s"] <= there.timings["total_s"]
        with pytest.raises(AudioError):
            there.synthesise("한국어")
        pid = there.pid
    finally:
        there.close()
    assert gone(pid)


def test_onnx_voices_share_one_process(tmp_path):
    folder = Path(__file__).parents[2] / "assets" / "tts" / "smallest_voice"
    config = VoiceConfig(engine="onnx", folder=str(folder), device="cpu", threads=1)
    there = VoiceProcess({"one": config, "two": config})
    try:
        assert len(there.synthesise("おかえり。")) > 0
    finally:
        there.close()


def test_voice_that_is_missing_is_named():
    with pytest.raises(AudioError, match="no such voice"):
        VoiceProcess({"": VoiceConfig(engine="onnx", folder="/no/such/voice")})
