"""Which voice speaks, where it sounds, and what happens when one of them does not work."""

from pathlib import Path

import pytest

from rplab.cli.play_speaker import EMBEDDED, OWN, open_speaker, plan_voices
from rplab.errors import AudioError
from rplab.play import audio
from rplab.play.config import PlayConfig
from rplab.tts.config import VoiceConfig

VOICE = Path(__file__).parents[2] / "assets" / "tts" / "smallest_voice"


def test_own_voice_of_the_character_speaks_unless_the_settings_name_another():
    assert plan_voices(PlayConfig(), None)[EMBEDDED].engine == "openjtalk"
    own = plan_voices(PlayConfig(), VOICE)
    assert (list(own), own[OWN].engine, own[OWN].folder) == ([OWN], "onnx", str(VOICE))
    assert list(plan_voices(PlayConfig(voice=VoiceConfig(engine="openjtalk")), VOICE)) == [EMBEDDED]
    assert list(plan_voices(PlayConfig(), VOICE, choice="openjtalk")) == [EMBEDDED, OWN]
    assert list(plan_voices(PlayConfig(), VOICE, choice=str(VOICE))) == ["smallest_voice", OWN]
    assert list(plan_voices(PlayConfig(), VOICE, choice="other", extra={"other": VOICE})) == ["other", OWN]


def test_own_voice_speaks_from_the_process(tmp_path):
    speaker = open_speaker(PlayConfig(), VOICE, wav=tmp_path / "a.wav")
    try:
        assert speaker.voice.name.startswith("onnx/")
        assert speaker.sink.sample_rate == speaker.voice.sample_rate
    finally:
        speaker.voice.close()


def test_voice_that_does_not_work_is_replaced_by_the_embedded_one_with_a_note(tmp_path):
    speaker = open_speaker(PlayConfig(sink="null"), tmp_path / "gone")
    try:
        assert speaker.voice.name == "openjtalk/mei_normal"
        assert len(list(speaker.voice.stream("おかえり。"))) > 0
        assert any("no such voice" in note for note in speaker.notes)
    finally:
        speaker.voice.close()


def test_without_a_device_there_is_text_and_a_note_and_no_process_is_left(monkeypatch):
    def refuse(kind, *arguments, **options):
        raise AudioError(f"no device for {kind}")

    monkeypatch.setattr("rplab.cli.play_speaker.open_sink", refuse)

    speaker = open_speaker(PlayConfig(sink="sounddevice"))

    assert (speaker.voice, speaker.sink) == (None, None)
    assert "no device" in speaker.notes[-1]


def test_device_is_chosen_by_number_or_a_part_of_its_name(monkeypatch):
    devices = [
        audio.OutputDevice(0, "sounddevice", "USB Headset"),
        audio.OutputDevice(1, "sounddevice", "HDMI"),
        audio.OutputDevice(2, "miniaudio", "HDMI 2"),
    ]
    monkeypatch.setattr(audio, "list_output_devices", lambda: devices)

    assert audio._pick_device("sounddevice", "headset") == "USB Headset"
    assert audio._pick_device("sounddevice", "1") == "HDMI"
    with pytest.raises(AudioError, match="0 USB Headset, 1 HDMI"):
        audio._pick_device("sounddevice", "speaker")


def test_machine_without_devices_has_an_empty_list():
    assert all(device.name for device in audio.list_output_devices())
