"""Where sound goes: the buffer, the sinks, and what happens when nothing is there."""

import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rplab.errors import AudioError, StorageError
from rplab.play.audio import NullSink, WavSink, numbered_paths, open_sink
from rplab.play.devices import FfplaySink, MiniaudioSink
from rplab.play.ring import PcmRing
from rplab.play.virtual import VirtualSink
from rplab.tts.wav import read_wav

RATE = 8000


def tone(seconds, level=0.5):
    return np.full(round(seconds * RATE), level, dtype=np.float32)


@given(st.lists(st.one_of(st.tuples(st.just("write"), st.integers(0, 50)), st.tuples(st.just("read"), st.integers(1, 60))), max_size=30))
def test_buffer_gives_back_every_sample_in_order(steps):
    ring = PcmRing(RATE, 10.0)
    written, read = [], []
    for action, count in steps:
        if action == "write":
            part = np.arange(1, count + 1, dtype=np.float32) + 1000 * len(written)
            ring.write(part)
            written.append(part)
        else:
            read.append(ring.read(count))

    heard = np.concatenate(read) if read else np.zeros(0, dtype=np.float32)
    expected = np.concatenate([*written, ring.read(0)])[: ring.played_frames]
    assert np.array_equal(heard[heard != 0], expected)


def test_running_empty_in_mid_speech_is_one_underrun_and_at_the_end_none():
    ring = PcmRing(RATE, 1.0)
    ring.write(tone(0.01))
    for _ in range(3):
        ring.read(80)
    ring.write(tone(0.01))
    ring.read(80)
    ring.finish()
    ring.read(80)

    assert ring.underruns == 1


def test_writer_waits_while_the_buffer_is_full_and_clear_lets_it_go():
    ring = PcmRing(RATE, 0.1)
    ring.write(tone(0.2))
    results = []
    writer = threading.Thread(target=lambda: results.append(ring.write(tone(0.1))))
    writer.start()
    time.sleep(0.05)
    assert results == []

    ring.clear()
    writer.join(2)

    assert results == [False]
    assert ring.buffered_frames <= 0.005 * RATE


def test_virtual_clock_hears_what_was_written():
    sink = VirtualSink(RATE)
    sink.write(tone(0.2))
    sink.write(np.zeros(800, dtype=np.float32))
    sink.write(tone(0.2))
    sink.finish()

    sink.advance(1.0)
    assert sink.silence_runs_s() == [pytest.approx(0.1)]


def test_miniaudio_plays_in_real_time():
    miniaudio = pytest.importorskip("miniaudio")
    sink = MiniaudioSink(RATE, 2.0, backends=[miniaudio.Backend.NULL])
    try:
        started = time.monotonic()
        sink.write(tone(0.4))
        sink.finish()
        assert sink.drain(5.0)
        took = time.monotonic() - started
        sink.write(tone(1.0))
        sink.clear()
        assert sink.drain(0.5)
    finally:
        sink.close()

    assert 0.2 < took < 2.0
    assert sink.underruns == 0
    assert round(0.4 * RATE) <= sink.played_frames <= round(0.45 * RATE) + 80


@pytest.fixture
def ffplay(tmp_path, monkeypatch):
    """A program called ffplay that keeps what it is given."""
    program = tmp_path / "bin" / "ffplay"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\nexec cat > {tmp_path}/heard.$$\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


def test_ffplay_is_one_process_for_many_sentences(ffplay):
    sink = FfplaySink(RATE, 5.0)
    sink.latency_s = 0.0
    for _ in range(3):
        sink.write(tone(0.05))
    sink.finish()
    assert sink.drain(2.0)
    deadline = time.monotonic() + 5
    wanted = 3 * round(0.05 * RATE) * 2
    while sum(path.stat().st_size for path in ffplay.glob("heard.*")) < wanted and time.monotonic() < deadline:
        time.sleep(0.01)

    heard = list(ffplay.glob("heard.*"))
    assert len(heard) == 1
    assert heard[0].stat().st_size == wanted
    assert sink.played_frames == 3 * round(0.05 * RATE)
    assert f"-sample_rate {RATE}" in (ffplay / "arguments").read_text()
    sink.clear()
    sink.write(tone(0.05))
    sink.close()
    assert sink._process is None


def test_ffplay_that_dies_is_an_audio_error_and_the_next_sound_starts_another(ffplay):
    (ffplay / "bin" / "ffplay").write_text("#!/bin/sh\nexit 1\n")
    sink = FfplaySink(RATE, 5.0)

    with pytest.raises(AudioError, match="ffplay"):
        write_until_it_fails(sink)
    sink.close()


def write_until_it_fails(sink):
    deadline = time.monotonic() + 20  # a busy machine takes its time to notice a dead process
    while time.monotonic() < deadline:
        sink.write(tone(0.1))
        time.sleep(0.01)


def test_wav_sink_writes_one_file_a_turn(tmp_path):
    sink = WavSink(RATE, numbered_paths(tmp_path / "out"))
    for _ in range(2):
        sink.write(tone(0.1))
        sink.write(tone(0.1))
        sink.finish()
    sink.write(tone(0.1))
    sink.clear()
    sink.finish()

    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["turn-001.wav", "turn-002.wav"]
    assert all(len(read_wav(path)[0]) == round(0.2 * RATE) for path in files)


def test_wav_sink_on_a_bad_path_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    sink = WavSink(RATE, lambda: tmp_path / "file" / "a.wav")
    sink.write(tone(0.1))

    with pytest.raises(StorageError):
        sink.finish()


def test_auto_ends_at_files_when_nothing_else_is_there(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setitem(sys.modules, "miniaudio", None)
    monkeypatch.setenv("PATH", str(tmp_path))

    sink, note = open_sink("auto", RATE, out=tmp_path / "out")

    assert isinstance(sink, WavSink)
    assert str(tmp_path / "out") in note
    for name in ("sounddevice", "miniaudio", "ffplay"):
        with pytest.raises(AudioError):
            open_sink(name, RATE)


def test_auto_takes_ffplay_before_files(monkeypatch, ffplay):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setitem(sys.modules, "miniaudio", None)

    sink, note = open_sink("auto", RATE)

    assert (sink.name, "ffplay" in note) == ("ffplay", True)
    sink.close()


def test_looking_for_devices_prints_nothing(capfd, tmp_path):
    sink, note = open_sink("auto", RATE, out=tmp_path)
    sink.close()

    assert note
    assert capfd.readouterr().err == ""


def test_null_sink_plays_at_once():
    sink = NullSink(RATE)

    assert sink.write(tone(1.0))
    assert sink.drain(0.0)
    assert sink.played_frames == RATE
