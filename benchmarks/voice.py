"""How fast the voice is: full-size random weights, our ONNX runtime against torch eager, on this machine.

    python benchmarks/voice.py [--size full|small] [--threads 1 2] [--repeats 3] [--bert FOLDER] [--folder KEEP] [--json]

Reports, for each number of threads: the real-time factor (RTF) of torch eager and of the split ONNX form for a sentence
of about 5 s and one of about 15 s, the share of encoder, flow and decoder, the time to the first sound of a 15-character
sentence, the largest difference of decoding in pieces to decoding at once, and the memory of a process that only speaks.
Best of `--repeats`, wall and CPU time; noise is the same for both sides. With `--bert`, BERT time is included in the time
to the first sound and in the memory.

Random weights speak noise, so durations are set to 6 frames a phone (70 ms, as in speech).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rplab.tts.g2p import read_text
from rplab.tts.runtime import SpeechRequest, SplitVoice, prepare
from rplab.tts.voice_folder import find_voice

SENTENCE_15 = "明日の朝は早く起きてください."
SENTENCES = {
    "5 s": "駅前の新しい喫茶店に行きましょう,お茶とケーキがとても美しい.",
    "15 s": "駅前の新しい喫茶店に行きましょう,お茶とケーキがとても美しい." * 3,
}
FRAMES_PER_PHONE = 6.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bert", type=Path)
    parser.add_argument("--folder", type=Path, help="keep the exported voice here; used again when it is there")
    parser.add_argument("--no-torch", action="store_true", help="leave out torch eager")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory:
        return measure_memory(arguments.folder, arguments.bert)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "voice"
        if not (folder / "config.json").is_file():
            export_random_voice(arguments.size, folder)
        rows = [row for threads in arguments.threads for row in measure(folder, threads, arguments)]
        command = [sys.executable, __file__, "--memory", "--folder", str(folder)]
        if arguments.bert:
            command += ["--bert", str(arguments.bert)]
        memory = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    result = {"machine": platform.processor() or platform.machine(), "size": arguments.size, "rows": rows, **memory}
    print(json.dumps(result, ensure_ascii=False) if arguments.json else report(result))
    return 0


def export_random_voice(size: str, folder: Path) -> None:
    """Export a voice with random weights whose phones last `FRAMES_PER_PHONE` frames."""
    import torch

    from rplab.tts.export_onnx import export_voice
    from rplab.tts.model.generator import Generator
    from rplab.tts.model.hyper import VoiceConfigFile
    from rplab.tts.model.layers import NormConv1d, NormConvTranspose1d
    from rplab.tts.training_config import SIZES

    torch.manual_seed(0)
    generator = Generator(replace(SIZES[size], num_speakers=1)).eval()
    with torch.no_grad():
        generator.dp.proj.weight.zero_()
        # half of all phones are blanks
        generator.dp.proj.bias.fill_(math.log(FRAMES_PER_PHONE / 2 - 0.5))
        for layer in generator.dec.modules():  # the training's start is nearly silent: a difference would not show
            if isinstance(layer, NormConv1d | NormConvTranspose1d):
                layer.init_normal(layer.weight_v[0].numel() ** -0.5)
    started = time.monotonic()
    config = VoiceConfigFile(generator.size, "random", {"one": 0}, {"Neutral": 0})
    styles = np.zeros((1, 256), dtype=np.float32)
    graphs = export_voice(generator, config, styles, folder, forms=("split", "mono"))
    worst = max(graph.max_difference for graph in graphs)
    print(f"exported in {time.monotonic() - started:.0f} s, largest difference to torch {worst:.1e}", file=sys.stderr)


def best_of(repeats: int, call: Callable[[], Any]) -> tuple[float, float]:
    """Return the smallest wall and CPU seconds of a call."""
    call()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


def measure(folder: Path, threads: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    files = find_voice(folder)
    assert files.split is not None
    model = SplitVoice(files.split, files.config.size, threads=threads)
    request = SpeechRequest(files.styles[0], sdp_ratio=0.0, noise_duration=0.0)
    rate, hop = model.size.audio.sample_rate, model.size.audio.hop_length
    rows: list[dict[str, Any]] = []
    for name, text in SENTENCES.items():
        sentence = prepare(read_text(text), None)
        z, speaker = model.latent(sentence, request)
        seconds = z.shape[2] * hop / rate
        whole = model.decode(z, speaker, 0, z.shape[2])
        pieces = np.concatenate(list(model.speak(sentence, request)))
        latent = best_of(arguments.repeats, lambda s=sentence: model.latent(s, request))
        decode = best_of(arguments.repeats, lambda z=z, g=speaker: model.decode(z, g, 0, z.shape[2]))
        row: dict[str, Any] = {
            "threads": threads,
            "sentence": name,
            "audio_s": round(seconds, 2),
            "onnx_rtf": round((latent[0] + decode[0]) / seconds, 4),
            "onnx_cpu_rtf": round((latent[1] + decode[1]) / seconds, 4),
            "onnx_decoder_rtf": round(decode[0] / seconds, 4),
            "pieces_difference": float(np.abs(pieces - whole).max()),
            "rms": round(float(np.sqrt(np.mean(whole**2))), 4),
        }
        if not arguments.no_torch:
            torch_wall, torch_cpu = best_of(arguments.repeats, torch_call(folder, text, threads))
            row |= {"torch_rtf": round(torch_wall / seconds, 4), "torch_cpu_rtf": round(torch_cpu / seconds, 4)}
        rows.append(row)
    rows.append({"threads": threads, "sentence": "first sound", **first_sound(model, request, arguments, threads)})
    return rows


def torch_call(folder: Path, text: str, threads: int) -> Callable[[], Any]:
    """Return a call that speaks a sentence with torch eager, weight norm in place as in training code."""
    import torch

    from rplab.tts.export_stage import load_generator
    from rplab.tts.model.hyper import from_family

    torch.set_num_threads(threads)
    generator, _ = load_generator(folder, from_family(folder / "config.json"))
    sentence = prepare(read_text(text), None)
    arrays = [torch.from_numpy(a) for a in (sentence.phones, sentence.tones, sentence.languages, sentence.bert)]
    style, speaker = torch.zeros(1, 256), torch.zeros(1, dtype=torch.long)
    noise_duration = torch.zeros(1, 2, sentence.phones.shape[1])
    noise = torch.randn(1, generator.size.inter_channels, 4000) * 0.6
    return lambda: generator.infer(*arrays, style, speaker, noise_duration=noise_duration, noise_latent=noise, sdp_ratio=0.0)


def first_sound(model: SplitVoice, request: SpeechRequest, arguments: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Time from text to the first piece of a 15-character sentence, front end and BERT included."""
    from rplab.tts.bert import BertFeatures

    bert = BertFeatures(arguments.bert, threads=threads) if arguments.bert else None

    def call() -> None:
        if bert is not None:
            bert._cache.clear()
        reading = read_text(SENTENCE_15)
        next(iter(model.speak(prepare(reading, None if bert is None else bert(reading.text)), request)))

    wall, cpu = best_of(arguments.repeats, call)
    return {"first_sound_s": round(wall, 3), "first_sound_cpu_s": round(cpu, 3), "bert": None if bert is None else bert.variant}


def measure_memory(folder: Path, bert: Path | None) -> int:
    """Speak once in a process of its own and print its memory."""
    from rplab.tts.onnx_engine import OnnxVoice, OnnxVoiceOptions

    voice = OnnxVoice(folder, bert=bert, options=OnnxVoiceOptions(threads=1, loudness_dbfs=None, sdp_ratio=0.0))
    voice.synthesise(SENTENCE_15)
    status = Path("/proc/self/status").read_text()
    values = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))}
    print(
        json.dumps({"rss_mib": values["VmRSS"], "peak_rss_mib": values["VmHWM"], "bert": bert is not None, "torch": "torch" in sys.modules})
    )
    return 0


def report(result: dict[str, Any]) -> str:
    lines = [f"{result['size']} size, {result['machine']}"]
    for row in result["rows"]:
        lines.append("  ".join(f"{name}={value}" for name, value in row.items()))
    lines.append(f"memory of the runtime: {result['rss_mib']} MiB (peak {result['peak_rss_mib']} MiB), BERT {result['bert']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
