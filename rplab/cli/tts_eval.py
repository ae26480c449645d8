"""`rplab tts eval`: how good and how fast a voice is, with a page to listen."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rplab.errors import ConfigError
from rplab.l10n import tr


def add_eval(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add the command below `rplab tts`."""
    about = tr("음성의 명료도와 속도를 잰다", "measure how understandable, how natural and how fast a voice is")
    example = "example: rplab tts eval out/voice out/held out/evaluation --asr models/whisper-base"
    parser = verbs.add_parser("eval", help=about, description=about, epilog=example)
    parser.add_argument("voice", metavar="VOICE", help="voice folder, .aivmx file, or the word embedded")
    parser.add_argument(
        "source", type=Path, metavar="TEXTS", help="file with a sentence a line, or recordings with transcripts.list (then MCD too)"
    )
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--asr", default="", metavar="MODEL", help="Whisper model for the kana error rate: a folder or a name (faster-whisper)"
    )
    parser.add_argument("--bert", default="", metavar="DIR", help="BERT folder (default: VOICE/bert when it is there)")
    parser.add_argument("--limit", type=int, default=0, help="only so many sentences (default: all)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the voice (default: one a core)")
    parser.add_argument("--max-cer", type=float, metavar="RATE", help="exit with 1 when the kana error rate is above it")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(handler=_eval)


def _eval(arguments: argparse.Namespace) -> int:
    if arguments.out.exists() and any(arguments.out.iterdir()):
        raise ConfigError(f"{arguments.out} is not empty. Give a new folder; nothing is overwritten")
    if arguments.max_cer is not None and not arguments.asr:
        raise ConfigError("--max-cer needs --asr MODEL")
    from rplab.tts.config import VoiceConfig
    from rplab.tts.evaluate import Judges, evaluate_voice, read_sentences
    from rplab.tts.judges import open_asr, open_dnsmos
    from rplab.tts.open import open_voice

    sentences = read_sentences(arguments.source)
    if arguments.limit > 0:
        sentences = sentences[: arguments.limit]
    judges = Judges(open_asr(arguments.asr) if arguments.asr else None, open_dnsmos())
    embedded = arguments.voice == "embedded"
    config = (
        VoiceConfig()
        if embedded
        else VoiceConfig(engine="onnx", folder=arguments.voice, bert=arguments.bert, threads=arguments.threads, spin=True)
    )
    voice = open_voice(config)
    arguments.out.mkdir(parents=True, exist_ok=True)
    summary = evaluate_voice(voice, sentences, arguments.out, judges)
    voice.close()
    if arguments.json:
        print(json.dumps({**summary, "out": str(arguments.out)}, ensure_ascii=False))
    else:
        for name, value in summary.items():
            if name != "missing" and value is not None:
                print(f"{name}: {value}")
        for name, reason in summary["missing"].items():
            print(tr(f"{name}: 재지 않음 ({reason})", f"{name}: not measured ({reason})"))
        print(arguments.out / "index.html")
    return 1 if arguments.max_cer is not None and (summary["kana_cer"] is None or summary["kana_cer"] > arguments.max_cer) else 0
