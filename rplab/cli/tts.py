"""`rplab tts`: speak Japanese with the lab's voice; `rplab.cli.tts_voice` adds the making of voices, `tts_eval` their judging."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rplab.cli.tts_eval import add_eval
from rplab.cli.tts_voice import add_commands
from rplab.errors import ConfigError
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.tts.engine import VoiceEngine


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab tts`."""
    example = "example: rplab tts say --text こんにちは --out out.wav"
    parser = commands.add_parser("tts", help=tr("일본어 음성", "Japanese speech"), epilog=example)
    verbs = parser.add_subparsers(title="tts commands", metavar="COMMAND", required=True)
    say = verbs.add_parser("say", help=tr("문장을 읽어 WAV로 저장", "speak a text into a WAV file"), epilog=example)
    say.add_argument("--text", required=True, help="Japanese text")
    say.add_argument("--out", type=Path, required=True, metavar="FILE", help="WAV file to write (16-bit mono)")
    say.add_argument("--speed", type=float, default=1.0, help="rate of speech, 0.5 to 2 (default: 1)")
    say.add_argument("--pitch", type=float, default=0.0, help="shift in semitones, -12 to 12 (default: 0)")
    say.add_argument("--style", default="", help="speaking style; the embedded voice has happy, sad, angry, calm")
    say.add_argument("--voice", type=Path, metavar="PATH", help="ONNX voice: a folder, or an .aivmx file (default: the embedded voice)")
    say.add_argument("--bert", type=Path, metavar="DIR", help="BERT folder for the ONNX voice (default: PATH/bert when it is there)")
    say.add_argument("--speaker", default="", help="speaker of the ONNX voice (default: its first)")
    say.add_argument("--style-weight", type=float, default=1.0, help="0 = mean of all styles, 1 = as recorded (default: 1)")
    say.add_argument(
        "--intonation",
        type=float,
        default=1.0,
        help="melody of the ONNX voice, 0 = monotone to 2 = twice (default: 1; needs pyworld-prebuilt)",
    )
    say.add_argument("--seed", type=int, default=42, help="equal seeds give equal sound (default: 42)")
    say.add_argument("--device", choices=("cpu", "cuda", "auto"), default="cpu", help="where the ONNX voice runs (default: cpu)")
    say.add_argument("--threads", type=int, default=0, help="threads of the ONNX voice (default: onnxruntime's choice)")
    say.add_argument("--dictionary", type=Path, metavar="FILE", help="readings of names, lines surface,reading,accent")
    say.add_argument("--json", action="store_true", help="print the result as JSON")
    say.set_defaults(handler=_say)
    worker = verbs.add_parser(
        "worker",
        help=tr("음성 작업 프로세스 (다른 프로그램이 시작)", "serve voices on two pipes; another program starts it"),
        description="Serve voices with the framed protocol of rplab/tts/frames.py on standard input and output, for example over ssh.",
        epilog="example: ssh gpu-box rplab tts worker",
    )
    worker.set_defaults(handler=_worker)
    add_commands(verbs)
    add_eval(verbs)


def _say(arguments: argparse.Namespace) -> int:
    if not 0.5 <= arguments.speed <= 2.0 or not -12.0 <= arguments.pitch <= 12.0:
        raise ConfigError("--speed must be 0.5 to 2 and --pitch -12 to 12 semitones")
    from rplab.tts.dictionary import apply_dictionary, read_dictionary
    from rplab.tts.frontend import prepare_speech
    from rplab.tts.signal import rms_dbfs
    from rplab.tts.wav import write_wav

    speech = prepare_speech(arguments.text)
    if arguments.dictionary is not None:
        apply_dictionary(read_dictionary(arguments.dictionary))
    voice = _open(arguments)
    samples = voice.synthesise(arguments.text, speed=arguments.speed, pitch=arguments.pitch, style=arguments.style)
    seconds = write_wav(arguments.out, samples, voice.sample_rate)
    if arguments.json:
        result = {
            "wav": str(arguments.out),
            "seconds": round(seconds, 3),
            "sample_rate": voice.sample_rate,
            "rms_dbfs": round(rms_dbfs(samples), 1),
            "voice": voice.name,
            "sentences": list(speech.sentences),
            "dropped": dict(speech.dropped),
        }
        print(json.dumps(result, ensure_ascii=False))
        return 0
    print(f"{arguments.out}  {seconds:.2f} s  {voice.name}")
    if speech.dropped:
        taken_out = ", ".join(f"{reason} {count}" for reason, count in speech.dropped.items())
        print(tr(f"읽지 않은 글자: {taken_out}", f"characters left out: {taken_out}"))
    return 0


def _worker(arguments: argparse.Namespace) -> int:
    del arguments
    from rplab.tts.worker import main

    return main([])


def _open(arguments: argparse.Namespace) -> VoiceEngine:
    if arguments.voice is None:
        if arguments.intonation != 1.0:
            raise ConfigError("--intonation is for ONNX voices. Give one with --voice, or leave it out")
        from rplab.tts.config import VoiceConfig
        from rplab.tts.open import open_voice

        return open_voice(VoiceConfig())
    from rplab.tts.onnx_engine import OnnxVoice, OnnxVoiceOptions

    options = OnnxVoiceOptions(
        speaker=arguments.speaker,
        style_weight=arguments.style_weight,
        intonation=arguments.intonation,
        seed=arguments.seed,
        device=arguments.device,
        threads=arguments.threads,
    )
    beside = arguments.voice / "bert"
    return OnnxVoice(arguments.voice, bert=arguments.bert or (beside if beside.is_dir() else None), options=options)
