"""Stage `voice_corpus`: the recordings that a voice learns from.

A folder of the user's is taken over as it is (copied, so that the original is never touched and later changes of it are
noticed); without one the embedded HTS voice reads sentences aloud. Either way the result holds the recordings in `raw/`
and `transcripts.list` with lines `file|speaker|language|text`.

Speech: HTS voice "mei_normal" (CC BY 3.0, Nagoya Institute of Technology); a model trained on it must name it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from rplab.errors import DataError
from rplab.jsonl import write_text
from rplab.stage import StageContext, Stats
from rplab.tts.corpus_text import make_sentences
from rplab.tts.openjtalk import OpenJTalkVoice
from rplab.tts.training_config import VoiceCorpusConfig
from rplab.tts.wav import write_wav

SPEAKER = "mei"
TRANSCRIPTS = "transcripts.list"
RAW = "raw"


def make_corpus(config: VoiceCorpusConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:  # noqa: ARG001 - a stage
    """Bring recordings into `raw/` and their texts into `transcripts.list`.

    Raises:
        DataError: `config.recordings` is no folder of recordings.
    """
    if config.recordings is None:
        return _speak(config, context)
    return _take_over(Path(config.recordings).expanduser(), config.untranscribed, context)


def _take_over(folder: Path, untranscribed: bool, context: StageContext) -> Stats:
    listing = folder / TRANSCRIPTS
    if not listing.is_file() and not (untranscribed and folder.is_dir()):
        raise DataError(
            f"{listing}: no such file",
            remedy="Write one line a recording: `file|speaker|JP|text`; or set `untranscribed` here and `asr` of the preprocessing",
        )
    root = folder / RAW if (folder / RAW).is_dir() else folder
    files = sorted(path for path in root.rglob("*") if path.is_file() and path != listing)
    for done, path in enumerate(files, start=1):
        target = context.out / RAW / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        context.progress(done, len(files), "recordings copied")
        context.check_stop()
    if listing.is_file():
        shutil.copyfile(listing, context.out / TRANSCRIPTS)
    return {"recordings": len(files), "bytes": sum(path.stat().st_size for path in files), "source": str(folder)}


def _speak(config: VoiceCorpusConfig, context: StageContext) -> Stats:
    voice = OpenJTalkVoice()
    lines: list[str] = []
    seconds = 0.0
    sentences = make_sentences(config.sentences, config.seed)
    for index, sentence in enumerate(sentences):
        name = f"{index:05d}.wav"
        seconds += write_wav(context.out / RAW / name, voice.synthesise(sentence), voice.sample_rate)
        lines.append(f"{name}|{SPEAKER}|JP|{sentence}\n")
        context.progress(index + 1, len(sentences), "sentences spoken")
        context.check_stop()
    write_text(context.out / TRANSCRIPTS, lines)
    write_text(
        context.out / "LICENSE.txt",
        'Speech: HTS voice "mei_normal", Nagoya Institute of Technology, Department of Computer Science (MMDAgent), CC BY 3.0.\n',
    )
    return {"sentences": len(sentences), "seconds": round(seconds, 1), "voice": voice.name}
