"""Stage `voice_corpus`: the embedded HTS voice reads sentences aloud; the result is a folder of recordings.

The folder looks like one that a user brings: `raw/*.wav` and `transcripts.list` with lines `file|speaker|language|text`.
Speech: HTS voice "mei_normal" (CC BY 3.0, Nagoya Institute of Technology); a model trained on it must name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    """Speak `config.sentences` sentences into `raw/` and write `transcripts.list`."""
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
