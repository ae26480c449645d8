"""Stage `voice_preprocess`: recordings and transcripts -> clips, readings, style vectors and a split.

Input `recordings`: a folder with `raw/` (or the files beside the list) and `transcripts.list`; it is only read. Output:
`clips/<id>.npy` (int16 mono at the network's rate), `clips.jsonl` (one row a clip: reading, speaker, split, sha256 of the
source), `style_vectors.npy`, `config.json` (as the family writes it), `rejects.jsonl` and `report.md`. With an input
`bert` (a BERT folder), `bert/<id>.npy` holds float16 features a character.

With `asr`, recordings that the list does not name are cut at pauses (`voice_activity`) and understood by a Whisper model;
without it they are listed in the report. What cannot be used is set aside with its reason and counted; recordings already
done survive a kill in the resume folder. The number of workers changes no byte of the result.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rplab.errors import ConfigError, DataError, ModelError
from rplab.jsonl import write_rows, write_text
from rplab.seeding import derive
from rplab.stage import StageContext, Stats
from rplab.tts.bert import BertFeatures
from rplab.tts.clip_making import BERT, CLIPS, ClipMaker, Made
from rplab.tts.judges import Transcribe, open_asr
from rplab.tts.model.hyper import VoiceConfigFile, to_family
from rplab.tts.recordings import AUDIO_SUFFIXES, Transcript, read_transcripts
from rplab.tts.style import style_vector, voice_styles
from rplab.tts.style_encoder import OnnxStyleEncoder
from rplab.tts.training_config import SIZES, VoicePreprocessConfig
from rplab.tts.voice_activity import open_detector

ROWS = "clips.jsonl"


def preprocess_voice(config: VoicePreprocessConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Make everything that training reads; see the module.

    Raises:
        DataError: The transcript list is wrong, or too few clips are usable.
        UnreadableError: A text has characters without a reading, under `unknown = raise`.
        AudioError: `asr` is set and faster-whisper is not installed.
        ModelError: `asr`, `vad` or `style_model` cannot be loaded.
    """
    source = inputs["recordings"]
    audio_root = source / "raw" if (source / "raw").is_dir() else source
    listing = source / "transcripts.list"
    transcripts = read_transcripts(listing) if config.asr is None or listing.is_file() else []
    unnamed = _without_transcript(audio_root, transcripts)
    todo = list(transcripts)
    detector = transcribe = None
    if config.asr is not None and unnamed:
        speaker = _speaker_of_rest(config, transcripts)
        todo += [Transcript(0, file, speaker, "") for file in unnamed]
        detector, transcribe = open_detector(config.vad), _open_asr(config.asr)
    encoder = OnnxStyleEncoder(Path(config.style_model).expanduser()) if config.style_model is not None else None
    maker = ClipMaker(
        config,
        SIZES[config.size],
        audio_root,
        context.resume,
        bert=BertFeatures(inputs["bert"]) if "bert" in inputs else None,
        encode=encoder or style_vector,
        detector=detector,
        transcribe=transcribe,
    )
    made = _make_all(maker, todo, config.workers, context)
    rows = [row for one in made for row in one.rows]
    rejects = [reject for one in made for reject in one.rejects]
    _split(rows, config)
    counts: Stats = {
        "recordings": len(todo),
        "clips": len(rows),
        "set_aside": dict(Counter(reject["reason"] for reject in rejects)),
        "without_transcript": 0 if detector else len(unnamed),
        "sliced": len(unnamed) if detector else 0,
        "transcribed": sum("transcribed" in row for row in rows),
        "voice_activity": detector.name if detector else None,
        "style_encoder": encoder.name if encoder else "built-in",
    }
    return _publish(rows, rejects, [] if detector else unnamed, config, context, counts, has_bert="bert" in inputs)


def _make_all(maker: ClipMaker, todo: list[Transcript], workers: int, context: StageContext) -> list[Made]:
    """Return what each recording became, in the order of `todo`."""
    made: list[Made] = []
    pool = ThreadPoolExecutor(workers, thread_name_prefix="clips")
    try:
        for future in [pool.submit(maker.make, transcript) for transcript in todo]:
            made.append(future.result())
            context.progress(len(made), len(todo), "recordings prepared")
            context.check_stop()
    finally:
        pool.shutdown(cancel_futures=True)
    return made


def _without_transcript(root: Path, transcripts: list[Transcript]) -> list[str]:
    named = {transcript.file for transcript in transcripts}
    files = (file.relative_to(root).as_posix() for file in root.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
    return sorted(file for file in files if file not in named)


def _speaker_of_rest(config: VoicePreprocessConfig, transcripts: list[Transcript]) -> str:
    """Return who speaks in the recordings that no list names."""
    speakers = sorted({transcript.speaker for transcript in transcripts})
    if config.speaker or not speakers:
        return config.speaker or config.name
    if len(speakers) > 1:
        raise ConfigError(
            f"the list has the speakers {', '.join(speakers)}; say with `speaker` who speaks in the recordings without transcript"
        )
    return speakers[0]


def _open_asr(model: str) -> Transcribe:
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder. Give `asr` the folder of a CTranslate2 Whisper model")
    return open_asr(str(folder), sampling=False)


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
    unnamed: list[str],
    config: VoicePreprocessConfig,
    context: StageContext,
    counts: Stats,
    *,
    has_bert: bool,
) -> Stats:
    size = SIZES[config.size]
    for folder in (CLIPS, BERT) if has_bert else (CLIPS,):
        shutil.copytree(context.resume / folder, context.out / folder, ignore=_only({f"{row['id']}.npy" for row in rows}))
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row["style"] or "Neutral", []).append(np.array(row["style_vector"], dtype=np.float32))
    styles, vectors = voice_styles(groups)
    np.save(context.out / "style_vectors.npy", vectors)
    speakers = {name: index for index, name in enumerate(sorted({row["speaker"] for row in rows}))}
    family = VoiceConfigFile(replace(size, num_speakers=len(speakers)), config.name, speakers, styles)
    write_text(context.out / "config.json", json.dumps(to_family(family), ensure_ascii=False, indent=2) + "\n")
    write_rows(context.out / ROWS, sorted(rows, key=lambda row: (row["file"], row.get("from_s", 0.0))))
    write_rows(context.out / "rejects.jsonl", rejects)
    seconds = sum(row["frames"] for row in rows) * size.audio.hop_length / size.audio.sample_rate
    stats: Stats = {
        **counts,
        "below_rate": sum(row["source_hz"] < size.audio.sample_rate for row in rows),
        "unknown_readings": sum(len(row["unknown"]) for row in rows),
        "seconds": round(seconds, 1),
        "speakers": len(speakers),
        "styles": len(styles),
        "bert": has_bert,
    }
    write_text(context.out / "report.md", _report(stats, rows, rejects, unnamed))
    return stats


def _only(names: set[str]) -> Callable[[str, list[str]], list[str]]:
    """Return a filter for `copytree` that ignores everything but `names`."""

    def ignored(_folder: str, files: list[str]) -> list[str]:
        return [file for file in files if file not in names]

    return ignored


def _report(stats: Stats, rows: list[dict[str, Any]], rejects: list[dict[str, Any]], unnamed: list[str]) -> str:
    lines = ["# Voice data", "", *(f"- {name}: {value}" for name, value in stats.items())]
    if below := stats["below_rate"]:
        lines += ["", f"{below} recordings have a lower sample rate than the voice: it cannot learn the highest tones from them."]
    if rejects:
        lines += ["", "## Set aside", "", "| file | reason | detail |", "|---|---|---|"]
        lines += [f"| {row['file']} | {row['reason']} | {row['detail']} |" for row in rejects[:50]]
    if heard := [row for row in rows if "transcribed" in row]:
        lines += ["", "## Understood by the ASR model (read some of them: its mistakes are learnt)", "", "| file | seconds | text |"]
        lines += ["|---|---|---|", *(f"| {row['file']} | {row['from_s']:.1f}-{row['to_s']:.1f} | {row['text']} |" for row in heard[:50])]
    if unnamed:
        lines += ["", f"## Without transcript ({len(unnamed)})", "", *(f"- {name}" for name in unnamed[:50])]
    return "\n".join(lines) + "\n"
