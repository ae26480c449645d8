"""How fast the voice is: the same full-size random weights in our ONNX runtime, in torch eager and in HayaKoe.

    python benchmarks/voice.py [--size full|small] [--threads 1 2] [--rounds 3] [--bert FOLDER] [--deberta HF_FOLDER]
                               [--hayakoe PYTHON] [--sbv2 PYTHON] [--folder KEEP] [--json]

Each side is a process of its own, bound to as many cores as it gets threads; the sides speak in turn, so that a busy
machine is busy for all of them, and the best of `--rounds` counts. Reported for each number of threads and sentence:

* `rtf`: text to samples (front end, BERT when given, network) by length of sound; `network_rtf`: without front end and BERT.
* `against_...`: our RTF by theirs, by wall and by CPU time (the latter says more on a busy machine with one thread).
* `first_sound_s`: text to the first piece of a 15-character sentence, nothing cached.
* `pieces_difference`: largest difference of decoding in pieces to decoding at once.
* memory of the process that only speaks.

Voice and BERT are full-size models with random weights, made here (minutes, 3.5 GB; kept in `--folder`). `--bert` is a folder
of `rplab tts export-bert` instead, `--deberta` the model it was made from (for torch). `--hayakoe` is the Python of an
environment with `pip install hayakoe`: it runs our mono graph, with its names for the inputs, and our int8 BERT, or that of
`--peer-bert`: one from a plain export, as peers distribute it, copies and multiplies whole tables of relative positions.
`--sbv2` is one with `pip install style-bert-vits2-mk[torch]`: the family's own network in torch eager. `torch` is transformers'
BERT and our network in torch eager, whose attention is banded and so already faster than the family's.
Random weights speak noise, so durations are set to 6 frames a phone (70 ms, as in speech).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SENTENCE_15 = "明日の朝は早く起きてください。"
SENTENCES = {
    "15 characters": SENTENCE_15,
    "5 s": "駅前の新しい喫茶店に行きましょう、お茶とケーキがとても美しい。",
}
FRAMES_PER_PHONE = 6.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bert", type=Path, help="exported BERT (default: one with random weights is made and exported)")
    parser.add_argument("--peer-bert", type=Path, help="BERT that HayaKoe gets (default: ours)")
    parser.add_argument("--deberta", type=Path, help="the model that --bert was made from")
    parser.add_argument("--no-bert", action="store_true", help="measure the network alone")
    parser.add_argument("--hayakoe", type=Path, metavar="PYTHON")
    parser.add_argument("--sbv2", type=Path, metavar="PYTHON")
    parser.add_argument("--folder", type=Path, help="keep the exported voice here; used again when it is there")
    parser.add_argument("--no-torch", action="store_true", help="leave out torch eager")
    parser.add_argument("--side", choices=("ours", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.side:
        (serve_ours if arguments.side == "ours" else serve_torch)(arguments)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = (arguments.folder or Path(temporary) / "voice").absolute()
        make_models(arguments)
        peer = lay_out_for_hayakoe(arguments, Path(temporary)) if arguments.hayakoe else None
        rows = [row for threads in arguments.threads for row in compare(arguments, threads, peer)]
    result = {"machine": platform.processor() or platform.machine(), "size": arguments.size, "rows": rows}
    print(
        json.dumps(result, ensure_ascii=False) if arguments.json else "\n".join("  ".join(f"{k}={v}" for k, v in r.items()) for r in rows)
    )
    return 0


def lay_out_for_hayakoe(arguments: argparse.Namespace, temporary: Path) -> Path:
    """Make the folder that HayaKoe reads as a local source."""
    import onnx

    source = temporary / "hayakoe"
    speaker, bert, tokenizer = source / "onnx/speakers/random", source / "onnx/bert/q8", source / "bert/tokenizer"
    for folder in (speaker, bert, tokenizer):
        folder.mkdir(parents=True)
    for name in ("config.json", "style_vectors.npy"):
        shutil.copy(arguments.folder / name, speaker)
    for name in ("vocab.txt", "tokenizer_config.json", "config.json"):
        shutil.copy(arguments.deberta / name, tokenizer)
    (bert / "bert_q8.onnx").symlink_to((arguments.peer_bert or arguments.bert).absolute() / "model_int8.onnx")
    model = onnx.load(arguments.folder / "random.onnx")
    names = {"x_tst": "x", "x_tst_lengths": "x_lengths", "tones": "tone"}
    for entry in model.graph.input:
        entry.name = names.get(entry.name, entry.name)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
    onnx.save(model, speaker / "synthesizer.onnx")
    return source


def make_models(arguments: argparse.Namespace) -> None:
    """Make what is not there yet: the voice, and BERT unless one was given or none is wanted."""
    folder: Path = arguments.folder
    wants_bert = arguments.bert is None and not arguments.no_bert and arguments.size == "full"
    if wants_bert:
        arguments.deberta, arguments.bert = folder / "deberta", folder / "bert"
    needs_voice = not (folder / "config.json").is_file()
    needs_bert = wants_bert and not (folder / "bert/model_int8.onnx").is_file()
    if not needs_voice and not needs_bert:
        return  # without loading torch
    from voice_models import export_random_bert, export_random_voice

    if needs_voice:
        export_random_voice(arguments.size, folder, FRAMES_PER_PHONE)
    if needs_bert:
        export_random_bert(arguments.deberta, arguments.bert)


class Side:
    """A process that answers one request at a time."""

    def __init__(self, command: list[str], threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        bound = ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads])), *command]
        self._process = subprocess.Popen(bound, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"a side ended: {self._process.args}")

    def ask(self, **request: Any) -> dict[str, Any]:
        """Return the answer to one request."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def start_sides(arguments: argparse.Namespace, threads: int, peer: Path | None) -> dict[str, Side]:
    """Start a process for each side that was asked for."""
    here = [sys.executable, __file__, "--folder", str(arguments.folder), "--threads", str(threads)]
    here += [word for name in ("bert", "deberta") if (path := getattr(arguments, name)) for word in (f"--{name}", str(path))]
    sides = {"ours": Side([*here, "--side", "ours"], threads)}
    if not arguments.no_torch:
        sides["torch"] = Side([*here, "--side", "torch"], threads)
    if peer is not None:
        sides["hayakoe"] = Side(
            [str(arguments.hayakoe), str(Path(__file__).with_name("voice_hayakoe.py")), str(peer), str(threads)], threads
        )
    if arguments.sbv2:
        words = [str(Path(__file__).with_name("voice_sbv2.py")), str(arguments.folder), str(arguments.deberta), str(threads)]
        sides["sbv2"] = Side([str(arguments.sbv2), *words], threads)
    return sides


def compare(arguments: argparse.Namespace, threads: int, peer: Path | None) -> list[dict[str, Any]]:
    """Let all sides speak in turn and return a row a sentence."""
    sides = start_sides(arguments, threads, peer)
    rows: list[dict[str, Any]] = []
    for title, text in SENTENCES.items():
        best: dict[str, dict[str, float]] = {name: {} for name in sides}
        for _ in range(arguments.rounds + 1):
            for name, side in sides.items():
                for key, value in side.ask(text=text).items():
                    best[name][key] = min(value, best[name].get(key, math.inf))
        row: dict[str, Any] = {"threads": threads, "sentence": title, "audio_s": round(best["ours"]["audio_s"], 2)}
        for name, answer in best.items():
            row |= {f"{name}_rtf": round(answer["wall_s"] / answer["audio_s"], 3)}
            row |= {f"{name}_cpu_rtf": round(answer["cpu_s"] / answer["audio_s"], 3)}
            if "network_s" in answer:
                row |= {f"{name}_network_rtf": round(answer["network_s"] / answer["audio_s"], 3)}
        for name in sides:
            if name != "ours":
                row[f"against_{name}"] = round(row["ours_rtf"] / row[f"{name}_rtf"], 3)
                row[f"against_{name}_cpu"] = round(row["ours_cpu_rtf"] / row[f"{name}_cpu_rtf"], 3)
        rows.append(row)
        print(json.dumps(row, ensure_ascii=False), file=sys.stderr, flush=True)
    first = [sides["ours"].ask(first=SENTENCE_15)["first_s"] for _ in range(2 * arguments.rounds)]
    rows.append({"threads": threads, "sentence": "first sound", "first_sound_s": round(min(first), 3), **sides["ours"].ask(about=True)})
    for side in sides.values():
        side.close()
    return rows


def serve_ours(arguments: argparse.Namespace) -> None:
    """Speak through the runtime; no torch in this process."""
    from rplab.tts.onnx_engine import OnnxVoice, OnnxVoiceOptions
    from rplab.tts.runtime import FloatArray, NetworkInput, SplitVoice

    threads = arguments.threads[0]
    options = OnnxVoiceOptions(threads=threads, loudness_dbfs=None, sdp_ratio=0.0, noise_duration=0.0)
    voice = OnnxVoice(arguments.folder, bert=arguments.bert, options=options)
    model: Any = voice._model
    assert isinstance(model, SplitVoice)
    speak_whole, network_s = model.speak_whole, 0.0

    def timed(sentence: NetworkInput, request: Any) -> FloatArray:
        nonlocal network_s
        started = time.perf_counter()
        sound = speak_whole(sentence, request)
        network_s += time.perf_counter() - started
        return sound

    model.speak_whole = timed
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if voice._bert is not None:
            voice._bert._cache.clear()
        network_s, wall, cpu = 0.0, time.perf_counter(), time.process_time()
        if "first" in request:
            pieces = voice.stream(request["first"])
            next(iter(pieces))
            answer = {"first_s": time.perf_counter() - wall}
            for _ in pieces:
                pass
        elif "about" in request:
            answer = about_process() | {"pieces_difference": pieces_difference(voice)}
        else:
            sound = voice.synthesise(request["text"])
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            answer = {"wall_s": wall, "cpu_s": cpu, "network_s": network_s, "audio_s": len(sound) / voice.sample_rate}
        print(json.dumps(answer), flush=True)


def about_process() -> dict[str, Any]:
    """Return the memory of this process and whether torch is in it."""
    status = Path("/proc/self/status").read_text()
    values = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))}
    return {"rss_mib": values["VmRSS"], "peak_rss_mib": values["VmHWM"], "torch_loaded": "torch" in sys.modules}


def pieces_difference(voice: Any) -> float:
    """Return the largest difference of decoding in pieces to decoding at once."""
    from rplab.tts.frontend import normalise
    from rplab.tts.g2p import read_text
    from rplab.tts.runtime import prepare

    sentence, request = prepare(read_text(normalise(SENTENCES["5 s"]).text), None), voice._request("")
    z, speaker = voice._model.latent(sentence, request)
    whole = voice._model.decode(z, speaker, 0, z.shape[2])
    return float(np.abs(np.concatenate(list(voice._model.speak(sentence, request))) - whole).max())


def serve_torch(arguments: argparse.Namespace) -> None:
    """Speak with torch eager, weight norm in place as in training code; BERT through transformers when given."""
    import torch
    from transformers import AutoModel

    from rplab.tts.bert_vocab import BertVocabulary
    from rplab.tts.export_stage import load_generator
    from rplab.tts.frontend import normalise, split_sentences
    from rplab.tts.g2p import read_text
    from rplab.tts.model.hyper import from_family
    from rplab.tts.runtime import prepare

    torch.set_num_threads(arguments.threads[0])
    generator, _ = load_generator(arguments.folder, from_family(arguments.folder / "config.json"))
    bert = AutoModel.from_pretrained(arguments.deberta).eval() if arguments.deberta else None
    vocabulary = BertVocabulary(arguments.deberta / "vocab.txt") if arguments.deberta else None
    noise = torch.randn(1, generator.size.inter_channels, 4000) * 0.6
    style, speaker = torch.zeros(1, 256), torch.zeros(1, dtype=torch.long)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        wall, cpu, network_s, samples = time.perf_counter(), time.process_time(), 0.0, 0
        with torch.no_grad():
            for part in split_sentences(normalise(json.loads(line)["text"]).text):
                reading, features = read_text(part), None
                if bert is not None and vocabulary is not None:
                    ids = torch.from_numpy(vocabulary.ids(reading.text)[None])
                    features = bert(ids, torch.ones_like(ids), output_hidden_states=True).hidden_states[-3][0].numpy()
                sentence = prepare(reading, features)
                arrays = [torch.from_numpy(a) for a in (sentence.phones, sentence.tones, sentence.languages, sentence.bert)]
                started = time.perf_counter()
                zero = torch.zeros(1, 2, sentence.phones.shape[1])
                sound = generator.infer(*arrays, style, speaker, noise_duration=zero, noise_latent=noise, sdp_ratio=0.0)
                network_s += time.perf_counter() - started
                samples += int(sound.shape[-1]) if isinstance(sound, torch.Tensor) else int(sound[0].shape[-1])
        answer = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "network_s": network_s}
        print(json.dumps(answer | {"audio_s": samples / generator.size.audio.sample_rate}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
