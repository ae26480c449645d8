"""`rplab tts corpus|preprocess|train|export|export-bert`: a voice from recordings to ONNX, step by step.

Each command is the stage of the same name on folders of your choice. A run that is stopped or killed continues when the
same command is given again: unfinished work lies in `.resume-OUT` beside OUT.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rplab.errors import ConfigError
from rplab.l10n import tr

_PREPROCESS_FIELDS = ("size", "name", "validation", "unknown", "asr", "speaker", "vad", "style_model", "workers")


def add_commands(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add the commands of the voice below `rplab tts`."""
    corpus = _command(
        verbs, "corpus", tr("내장 음성으로 연습용 녹음 만들기", "let the embedded voice record a corpus"), "rplab tts corpus out/corpus"
    )
    corpus.add_argument("out", type=Path, metavar="OUT")
    corpus.add_argument("--sentences", type=int, default=200, help="how many (default: 200)")
    corpus.set_defaults(handler=_corpus)

    prepare = _command(
        verbs,
        "preprocess",
        tr("녹음과 대본을 학습용으로", "recordings and transcripts to training clips"),
        "rplab tts preprocess recordings out/data",
    )
    prepare.add_argument("source", type=Path, metavar="IN", help="folder with raw/*.wav and transcripts.list (file|speaker|JP|text)")
    prepare.add_argument("out", type=Path, metavar="OUT")
    prepare.add_argument("--size", choices=("small", "full"), default="full", help="network to prepare for (default: full, 44.1 kHz)")
    prepare.add_argument("--name", default="voice", help="name of the voice")
    prepare.add_argument("--validation", type=int, default=5, help="clips of each speaker kept for validation (default: 5)")
    prepare.add_argument(
        "--unknown", choices=("raise", "skip", "use"), default="skip", help="texts with characters without a reading (default: skip)"
    )
    prepare.add_argument(
        "--bert", type=Path, metavar="DIR", help="BERT folder (rplab tts export-bert); without it the voice learns without"
    )
    prepare.add_argument(
        "--asr", metavar="DIR", help="Whisper folder (CTranslate2): cut and understand recordings that the list does not name"
    )
    prepare.add_argument("--speaker", default="", metavar="NAME", help="who speaks in those (default: the list's only speaker)")
    prepare.add_argument("--vad", metavar="FILE", help="silero-vad .onnx that finds pauses (default: an installed one, else energy)")
    prepare.add_argument("--style-model", metavar="FILE", help="speaker network .onnx for style vectors (default: the built-in encoder)")
    prepare.add_argument("--workers", type=int, default=2, help="recordings in work at the same time (default: 2)")
    prepare.set_defaults(handler=_preprocess)

    train = _command(verbs, "train", tr("음성 학습", "train a voice"), "rplab tts train out/data out/trained --preset smoke")
    train.add_argument("data", type=Path, metavar="DATA", help="folder made by rplab tts preprocess")
    train.add_argument("out", type=Path, metavar="OUT")
    train.add_argument("--preset", choices=("smoke", "small", "finetune", "scratch"), default="finetune")
    train.add_argument("--base", type=Path, metavar="DIR", help="folder with G_0.safetensors and D_0.safetensors, or a training of ours")
    train.add_argument("--wavlm", type=Path, metavar="DIR", help="folder of a WavLM model: adds its loss (opt-in, slow)")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, for example max_steps=2000")
    train.set_defaults(handler=_train)

    export = _command(verbs, "export", tr("ONNX로 내보내기", "export a voice to ONNX"), "rplab tts export out/trained out/voice")
    export.add_argument("source", type=Path, metavar="IN", help="folder with weights, config.json and style_vectors.npy")
    export.add_argument("out", type=Path, metavar="OUT")
    export.add_argument("--form", action="append", choices=("split", "mono"), help="may be given twice (default: both)")
    export.add_argument("--exporter", choices=("legacy", "dynamo"), default="legacy")
    export.add_argument("--aivmx", action="store_true", help="also write NAME.aivmx, one file for AivisSpeech")
    export.add_argument("--licence", default="", metavar="TEXT", help="licence of the voice, shown to users of the .aivmx file")
    export.add_argument("--creator", action="append", default=[], metavar="NAME", help="who made the voice (.aivmx); may be given twice")
    export.set_defaults(handler=_export)

    bert = _command(
        verbs,
        "export-bert",
        tr("일본어 BERT를 ONNX로", "export the Japanese BERT to ONNX"),
        "rplab tts export-bert deberta-v2-large-japanese-char-wwm out/bert",
    )
    bert.add_argument("source", type=Path, metavar="IN", help="Hugging Face folder of a character-level DeBERTa-v2")
    bert.add_argument("out", type=Path, metavar="OUT")
    bert.set_defaults(handler=_export_bert)


def _command(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
    name: str,
    about: str,
    example: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=about, description=about, epilog=f"example: {example}")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _corpus(arguments: argparse.Namespace) -> int:
    from rplab.tts.corpus import make_corpus
    from rplab.tts.training_config import VoiceCorpusConfig

    config = _configure(VoiceCorpusConfig, {"sentences": arguments.sentences})
    return _run(make_corpus, config, {}, arguments)


def _preprocess(arguments: argparse.Namespace) -> int:
    from rplab.tts.preprocess import preprocess_voice
    from rplab.tts.training_config import VoicePreprocessConfig

    fields = {name: getattr(arguments, name) for name in _PREPROCESS_FIELDS}
    inputs = {"recordings": arguments.source, **({"bert": arguments.bert} if arguments.bert else {})}
    return _run(preprocess_voice, _configure(VoicePreprocessConfig, fields), inputs, arguments)


def _train(arguments: argparse.Namespace) -> int:
    from rplab.tts.train import train_voice
    from rplab.tts.training_config import PRESETS, VoiceTrainConfig

    changes: dict[str, Any] = {}
    for item in arguments.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: write KEY=VALUE, for example max_steps=2000")
        try:
            changes[name] = json.loads(value)
        except json.JSONDecodeError:
            changes[name] = value
    config = _configure(VoiceTrainConfig, {**PRESETS[arguments.preset].model_dump(), **changes})
    inputs = {"data": arguments.data, **{name: path for name in ("base", "wavlm") if (path := getattr(arguments, name))}}
    return _run(train_voice, config, inputs, arguments)


def _export(arguments: argparse.Namespace) -> int:
    from rplab.tts.export_stage import export_folder
    from rplab.tts.training_config import VoiceExportConfig

    forms = tuple(arguments.form or ("split", "mono"))
    if arguments.aivmx and "mono" not in forms:
        raise ConfigError("--aivmx needs the mono graph. Add --form mono")
    config = _configure(VoiceExportConfig, {"forms": forms, "exporter": arguments.exporter})
    exported, report = export_folder(arguments.source, arguments.out, config)
    graphs = [{"file": str(g.path), "bytes": g.size_bytes, "max_difference": g.max_difference} for g in exported]
    result: dict[str, Any] = {"weights": str(report), "graphs": graphs}
    if arguments.aivmx:
        result["aivmx"] = str(_write_aivmx(exported[-1].path, arguments))
    _show(result, arguments)
    return 0


def _write_aivmx(mono: Path, arguments: argparse.Namespace) -> Path:
    from rplab.tts.aivmx import write_aivmx
    from rplab.tts.voice_folder import find_voice

    voice = find_voice(mono)
    path = mono.with_suffix(".aivmx")
    write_aivmx(mono, voice.config, voice.styles, path, licence=arguments.licence, creators=tuple(arguments.creator))
    return path


def _export_bert(arguments: argparse.Namespace) -> int:
    from rplab.tts.export_bert import export_bert

    export = export_bert(arguments.source, arguments.out)
    variants = [
        {"name": v.name, "file": str(v.path), "bytes": v.size_bytes, "max_difference": v.max_difference, "cosine": v.cosine}
        for v in export.variants
    ]
    _show({"variants": variants, "refused": export.refused}, arguments)
    return 0


def _configure(kind: Any, fields: Mapping[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def _run(function: Callable[..., Any], config: Any, inputs: Mapping[str, Path], arguments: argparse.Namespace) -> int:
    """Run a stage function into `arguments.out`; SIGINT and SIGTERM ask it to save and stop."""
    from rplab.stage import Progress, StageContext

    out: Path = arguments.out.absolute()
    rank = int(os.environ.get("RANK", "0"))
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty. Give a new folder; nothing is overwritten")
    work, resume = out.with_name(f".work-{out.name}" + (f"-{rank}" if rank else "")), out.with_name(f".resume-{out.name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    resume.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()

    def show(progress: Progress) -> None:
        if sys.stderr.isatty():
            print(f"\r{progress.done:.0f}/{progress.total:.0f} {progress.message}\x1b[K", end="", file=sys.stderr, flush=True)

    def ask_to_stop(_number: int, _frame: object) -> None:
        stop.set()

    previous = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stats = function(config, inputs, StageContext(work, resume, show, stop))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if sys.stderr.isatty():
            print(file=sys.stderr)
    if rank:  # started by torchrun; the first process publishes
        shutil.rmtree(work)
        return 0
    if out.exists():
        out.rmdir()
    os.replace(work, out)
    shutil.rmtree(resume, ignore_errors=True)
    _show({**stats, "out": str(out)}, arguments)
    return 0


def _show(result: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for name, value in result.items():
        print(f"{name}: {value}")
