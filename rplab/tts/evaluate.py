"""How good and how fast a voice is: `rplab tts eval`. Speaks sentences, lets judges hear them, and writes a page to listen.

Output folder: `audio/NNN.wav`, `mel/NNN.png`, `rows.jsonl` (a row a sentence), `evaluation.json` (the summary) and
`index.html`, which needs no network. What was not measured is null, and `missing` says why.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rplab.errors import DataError
from rplab.jsonl import write_rows, write_text
from rplab.tts.engine import Samples, VoiceEngine
from rplab.tts.evaluation_page import render_page
from rplab.tts.frontend import normalise
from rplab.tts.judges import Opinion, Transcribe, distance_to, edit_distance, kana_of, log_mel_of
from rplab.tts.png import encode_png, paint
from rplab.tts.recordings import read_audio, read_transcripts
from rplab.tts.text import SpeechTextError
from rplab.tts.wav import write_wav


@dataclass(frozen=True)
class EvaluationSentence:
    """One text to be spoken."""

    text: str
    recording: Path | None = None
    """The same text spoken by a person; None when there is none."""


@dataclass(frozen=True)
class SpokenSentence:
    """What came of one text. Times in seconds; None = not measured."""

    index: int
    text: str
    spoken: str
    """The text as the voice reads it."""
    seconds: float = 0.0
    rtf: float | None = None
    """Time to speak it / its length."""
    first_sound_s: float | None = None
    heard: str | None = None
    """What the ASR understood."""
    kana_errors: int | None = None
    kana_length: int = 0
    mcd: float | None = None
    """dB to the recording."""
    dnsmos: float | None = None
    error: str = ""
    """Why it could not be spoken."""


@dataclass(frozen=True)
class Judges:
    """Who listens."""

    asr: Transcribe | None = None
    dnsmos: Opinion | None = None


def read_sentences(source: Path) -> list[EvaluationSentence]:
    """Read what is to be spoken: a text file with a sentence a line, or a folder of recordings with `transcripts.list`.

    Raises:
        DataError: No such file, not UTF-8, or nothing in it.
    """
    if source.is_dir():
        root = source / "raw" if (source / "raw").is_dir() else source
        return [EvaluationSentence(row.text, root / row.file) for row in read_transcripts(source / "transcripts.list")]
    try:
        lines = [line.strip() for line in source.read_text("utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise DataError("no such file", file=source, remedy="Give a text file with a sentence a line, or a folder of recordings") from None
    except UnicodeDecodeError:
        raise DataError("not UTF-8", file=source, remedy="Save it as UTF-8") from None
    sentences = [EvaluationSentence(line) for line in lines if line]
    if not sentences:
        raise DataError("no sentences in it", file=source, remedy="Write one sentence a line")
    return sentences


def evaluate_voice(voice: VoiceEngine, sentences: Sequence[EvaluationSentence], out: Path, judges: Judges) -> dict[str, Any]:
    """Speak and judge `sentences`, write `out`, and return the summary.

    The first sentence is spoken once before, unmeasured: caches and memory are not part of a voice's speed.
    """
    for _ in voice.stream(_first_speakable(sentences)):
        pass
    rows = [_evaluate(voice, index, sentence, out, judges) for index, sentence in enumerate(sentences)]
    summary = summarise(voice.name, rows, judges, has_recordings=any(sentence.recording for sentence in sentences))
    write_rows(out / "rows.jsonl", [asdict(row) for row in rows])
    write_text(out / "evaluation.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    write_text(out / "index.html", render_page(summary, [asdict(row) for row in rows]))
    return summary


def _first_speakable(sentences: Sequence[EvaluationSentence]) -> str:
    return next((sentence.text for sentence in sentences if len(sentence.text) >= 4), "これは声の試験です。")


def _evaluate(voice: VoiceEngine, index: int, sentence: EvaluationSentence, out: Path, judges: Judges) -> SpokenSentence:
    started, first_s = time.perf_counter(), None
    pieces: list[Samples] = []
    try:
        spoken = normalise(sentence.text).text
        for piece in voice.stream(sentence.text):
            first_s = first_s if first_s is not None else time.perf_counter() - started
            pieces.append(piece)
    except SpeechTextError as error:
        return SpokenSentence(index, sentence.text, "", error=str(error))
    total_s = time.perf_counter() - started
    samples, rate = np.concatenate(pieces), voice.sample_rate
    seconds = write_wav(out / "audio" / f"{index:03d}.wav", samples, rate)
    picture = encode_png(paint(log_mel_of(samples, rate), low=-8.0, high=2.0))
    path = out / "mel" / f"{index:03d}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture)
    heard = judges.asr(samples, rate) if judges.asr else None
    wanted = kana_of(sentence.text)
    mcd = None
    if sentence.recording is not None:
        real, real_hz = read_audio(sentence.recording)
        mcd = round(distance_to(samples, real, rate, real_hz), 3)
    return SpokenSentence(
        index=index,
        text=sentence.text,
        spoken=spoken,
        seconds=round(seconds, 3),
        rtf=round(total_s / max(seconds, 1e-9), 4),
        first_sound_s=None if first_s is None else round(first_s, 4),
        heard=heard,
        kana_errors=None if heard is None else edit_distance(wanted, kana_of(heard)),
        kana_length=len(wanted),
        mcd=mcd,
        dnsmos=round(judges.dnsmos(samples, rate), 3) if judges.dnsmos else None,
    )


def summarise(name: str, rows: Sequence[SpokenSentence], judges: Judges, *, has_recordings: bool) -> dict[str, Any]:
    """Return the numbers of all sentences together; kana CER is errors by characters over all of them."""
    spoken = [row for row in rows if not row.error]
    judged = [row for row in spoken if row.kana_errors is not None]
    kana = sum(row.kana_length for row in judged)
    missing = {
        **({} if judges.asr else {"kana_cer": "no --asr was given"}),
        **({} if judges.dnsmos else {"dnsmos": "speechmos is not installed (pip install 'rplab[voice-eval]')"}),
        **({} if has_recordings else {"mcd": "no recordings: give a folder with transcripts.list"}),
    }
    return {
        "voice": name,
        "sentences": len(rows),
        "not_spoken": len(rows) - len(spoken),
        "seconds": round(sum(row.seconds for row in spoken), 2),
        "kana_cer": round(sum(row.kana_errors or 0 for row in judged) / kana, 4) if kana else None,
        "mcd": _mean([row.mcd for row in spoken]),
        "dnsmos": _mean([row.dnsmos for row in spoken]),
        "rtf": _median([row.rtf for row in spoken]),
        "first_sound_s": _median([row.first_sound_s for row in spoken]),
        "missing": missing,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), 3) if known else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 4) if known else None
