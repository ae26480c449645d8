"""Stage `voice_preprocess`: recordings and transcripts -> clips, readings, style vectors and a split.

Input `recordings`: a folder with `raw/` (or the files beside the list) and `transcripts.list`; it is only read. Output:
`clips/<id>.npy` (int16 mono at the network's rate), `clips.jsonl` (one row a clip: reading, speaker, split, sha256 of the
source), `style_vectors.npy`, `config.json` (as the family writes it), `rejects.jsonl` and `report.md`. With an input
`bert` (a BERT folder), `bert/<id>.npy` holds float16 features a character.

What cannot be used is set aside with its reason and counted; clips already made survive a kill in the resume folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rplab.errors import AudioError, DataError
from rplab.jsonl import write_rows, write_text
from rplab.seeding import derive
from rplab.stage import StageContext, Stats
from rplab.tts.bert import BertFeatures
from rplab.tts.engine import Samples
from rplab.tts.frontend import normalise
from rplab.tts.g2p import Reading, read_or_skip
from rplab.tts.model.hyper import VoiceConfigFile, VoiceSize, to_family
from rplab.tts.recordings import AUDIO_SUFFIXES, Transcript, read_audio, read_transcripts
from rplab.tts.resample import resample
from rplab.tts.signal import rms_dbfs, trim_edges
from rplab.tts.style import style_vector, voice_styles
from rplab.tts.training_config import SIZES, VoicePreprocessConfig

CLIPS = "clips"
ROWS = "clips.jsonl"
LOWEST_HZ = 8_000
HIGHEST_HZ = 192_000
_LOWEST_DBFS = -60.0
_MARGIN_S = 0.1


@dataclass(frozen=True)
class Rejected:
    """Why a recording was set aside."""

    reason: str
    detail: str


def preprocess_voice(config: VoicePreprocessConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Make everything that training reads; see the module.

    Raises:
        DataError: The transcript list is wrong, or too few clips are usable.
        UnreadableError: A text has characters without a reading, under `unknown = raise`.
    """
    source = inputs["recordings"]
    transcripts = read_transcripts(source / "transcripts.list")
    audio_root = source / "raw" if (source / "raw").is_dir() else source
    bert = BertFeatures(inputs["bert"]) if "bert" in inputs else None
    size = SIZES[config.size]
    rows: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    for done, transcript in enumerate(transcripts, start=1):
        outcome = _process(transcript, audio_root, config, size, context, bert)
        if isinstance(outcome, Rejected):
            rejects.append({"file": transcript.file, "line": transcript.line, "reason": outcome.reason, "detail": outcome.detail})
        else:
            rows.append(outcome)
        context.progress(done, len(transcripts), "recordings prepared")
        context.check_stop()
    _split(rows, config)
    return _publish(rows, rejects, audio_root, transcripts, config, size, context, bert is not None)


def _process(
    transcript: Transcript,
    root: Path,
    config: VoicePreprocessConfig,
    size: VoiceSize,
    context: StageContext,
    bert: BertFeatures | None,
) -> dict[str, Any] | Rejected:
    try:
        reading = read_or_skip(normalise(transcript.text).text, config.unknown)
    except AudioError as error:
        if config.unknown == "raise":
            raise
        return Rejected("text", str(error))
    if reading is None:
        return Rejected("unknown_reading", transcript.text)
    if not reading.has_speech:
        return Rejected("text", "nothing in it is spoken")
    path = root / transcript.file
    try:
        samples, rate = read_audio(path)
    except DataError as error:
        return Rejected("audio", str(error))
    if not LOWEST_HZ <= rate <= HIGHEST_HZ:
        return Rejected("sample_rate", f"{path.name} says {rate} Hz; {LOWEST_HZ} to {HIGHEST_HZ} is possible. Convert or record it again")
    prepared = prepare_clip(samples, rate, config, size)
    if isinstance(prepared, Rejected):
        return prepared
    frames = len(prepared) // size.audio.hop_length
    num_phones = 2 * len(reading.phones) + 1
    if frames < num_phones:
        return Rejected("too_fast", f"{frames} frames for {num_phones} phones with blanks; the text does not fit the recording")
    name = hashlib.blake2b(transcript.file.encode(), digest_size=8).hexdigest()
    _save(context.resume / CLIPS / f"{name}.npy", np.round(np.clip(prepared, -1, 1) * 32767).astype(np.int16))
    if bert is not None:
        _save(context.resume / "bert" / f"{name}.npy", bert(reading.text).astype(np.float16))
    row = {**_reading_row(reading), "id": name, "file": transcript.file, "speaker": transcript.speaker, "style": transcript.style}
    vector = style_vector(prepared, size.audio.sample_rate)
    row |= {
        "source_hz": rate,
        "frames": frames,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "style_vector": [round(float(v), 6) for v in vector],
    }
    return row


def _reading_row(reading: Reading) -> dict[str, Any]:
    return {
        "text": reading.text,
        "phones": list(reading.phones),
        "tones": list(reading.tones),
        "word2ph": list(reading.word2ph),
        "unknown": dict(reading.unknown),
    }


def prepare_clip(samples: Samples, rate_hz: int, config: VoicePreprocessConfig, size: VoiceSize) -> Samples | Rejected:
    """Resample, trim and level one recording; return it, or why it cannot be used."""
    clip = resample(samples - samples.mean(), size.audio.sample_rate / rate_hz) if rate_hz != size.audio.sample_rate else samples
    if rms_dbfs(clip) < _LOWEST_DBFS:
        return Rejected("silent", f"{rms_dbfs(clip):.0f} dBFS")
    if config.trim_db is not None:
        threshold = float(np.abs(clip).max()) * 10 ** (-config.trim_db / 20)
        clip = trim_edges(clip, size.audio.sample_rate, threshold=threshold, margin_s=_MARGIN_S)
    seconds = len(clip) / size.audio.sample_rate
    if not config.min_s <= seconds <= config.max_s:
        return Rejected("length", f"{seconds:.2f} s is not within {config.min_s:g}..{config.max_s:g} s; cut long recordings at pauses")
    if config.loudness_dbfs is not None:
        clip = clip * np.float32(10 ** ((config.loudness_dbfs - rms_dbfs(clip)) / 20))
        peak = float(np.abs(clip).max())
        clip = clip / peak * np.float32(0.99) if peak > 0.99 else clip
    return clip.astype(np.float32)


def _save(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as handle:
        np.save(handle, array)
    os.replace(temporary, path)


def _split(rows: list[dict[str, Any]], config: VoicePreprocessConfig) -> None:
    """Mark `validation` clips of every speaker, drawn by the seed from names, not from order."""
    speakers = sorted({row["speaker"] for row in rows})
    for speaker in speakers:
        mine = sorted((row for row in rows if row["speaker"] == speaker), key=lambda row: derive(config.seed, "split", row["id"]).random())
        if len(mine) < config.validation + 2:
            raise DataError(
                f"speaker {speaker!r} has {len(mine)} usable clips; {config.validation} for validation and 2 for training are needed",
                remedy="Add recordings, or lower `validation`; see rejects.jsonl for what was set aside",
            )
        for index, row in enumerate(mine):
            row["split"] = "validation" if index < config.validation else "train"
    if not rows:
        raise DataError("no usable clip", remedy="See the reasons in rejects.jsonl")


def _publish(
    rows: list[dict[str, Any]],
    rejects: list[dict[str, Any]],
    root: Path,
    transcripts: list[Transcript],
    config: VoicePreprocessConfig,
    size: VoiceSize,
    context: StageContext,
    has_bert: bool,
) -> Stats:
    for folder in (CLIPS, "bert") if has_bert else (CLIPS,):
        shutil.copytree(context.resume / folder, context.out / folder, ignore=_only({f"{row['id']}.npy" for row in rows}))
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row["style"] or "Neutral", []).append(np.array(row["style_vector"], dtype=np.float32))
    styles, vectors = voice_styles(groups)
    np.save(context.out / "style_vectors.npy", vectors)
    speakers = {name: index for index, name in enumerate(sorted({row["speaker"] for row in rows}))}
    family = VoiceConfigFile(replace(size, num_speakers=len(speakers)), config.name, speakers, styles)
    write_text(context.out / "config.json", json.dumps(to_family(family), ensure_ascii=False, indent=2) + "\n")
    write_rows(context.out / ROWS, sorted(rows, key=lambda row: row["file"]))
    write_rows(context.out / "rejects.jsonl", rejects)
    named = {transcript.file for transcript in transcripts}
    unnamed = sorted(
        str(file.relative_to(root))
        for file in root.rglob("*")
        if file.suffix.lower() in AUDIO_SUFFIXES and str(file.relative_to(root)) not in named
    )
    seconds = sum(row["frames"] for row in rows) * size.audio.hop_length / size.audio.sample_rate
    reasons = Counter(reject["reason"] for reject in rejects)
    stats: Stats = {
        "recordings": len(transcripts),
        "clips": len(rows),
        "set_aside": dict(reasons),
        "without_transcript": len(unnamed),
        "below_rate": sum(row["source_hz"] < size.audio.sample_rate for row in rows),
        "unknown_readings": sum(len(row["unknown"]) for row in rows),
        "seconds": round(seconds, 1),
        "speakers": len(speakers),
        "styles": len(styles),
        "bert": has_bert,
    }
    write_text(context.out / "report.md", _report(stats, rejects, unnamed))
    return stats


def _only(names: set[str]) -> Callable[[str, list[str]], list[str]]:
    """Return a filter for `copytree` that ignores everything but `names`."""

    def ignored(_folder: str, files: list[str]) -> list[str]:
        return [file for file in files if file not in names]

    return ignored


def _report(stats: Stats, rejects: list[dict[str, Any]], unnamed: list[str]) -> str:
    lines = ["# Voice data", "", *(f"- {name}: {value}" for name, value in stats.items())]
    if below := stats["below_rate"]:
        lines += ["", f"{below} recordings have a lower sample rate than the voice: it cannot learn the highest tones from them."]
    if rejects:
        lines += ["", "## Set aside", "", "| file | reason | detail |", "|---|---|---|"]
        lines += [f"| {row['file']} | {row['reason']} | {row['detail']} |" for row in rejects[:50]]
    if unnamed:
        lines += ["", f"## Without transcript ({len(unnamed)})", "", *(f"- {name}" for name in unnamed[:50])]
    return "\n".join(lines) + "\n"
