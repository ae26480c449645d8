"""HayaKoe's side of `benchmarks/voice.py`: run by the Python of a virtual environment with `pip install hayakoe`.

    VENV/bin/python benchmarks/voice_hayakoe.py SOURCE THREADS

SOURCE holds `bert/tokenizer/`, `onnx/bert/q8/bert_q8.onnx` and `onnx/speakers/random/`, as its documentation describes for a
local source. Answers one JSON line a request on standard input, like the other sides. HayaKoe is AGPL-3.0: nothing of it is
used here but its public interface, and nothing of ours depends on it. Its sessions get the number of threads that ours get:
left alone, onnxruntime takes all cores of the machine, also those that the process was not given.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import onnxruntime
from hayakoe import TTS  # pyright: ignore[reportMissingImports]


class Session(onnxruntime.InferenceSession):
    """A session with a given number of threads."""

    def __init__(self, path: Any, sess_options: Any = None, *arguments: Any, **options: Any) -> None:
        sess_options = sess_options or onnxruntime.SessionOptions()
        sess_options.intra_op_num_threads = int(sys.argv[2])
        super().__init__(path, sess_options, *arguments, **options)


def main() -> None:
    onnxruntime.InferenceSession = Session
    source = f"file://{Path(sys.argv[1]).absolute()}"
    engine = TTS(device="cpu", cache_dir=Path(sys.argv[1]) / "cache", bert_source=source).load("random", source=source).prepare()
    speaker = engine.speakers["random"]
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        audio = speaker.generate(json.loads(line)["text"], sdp_ratio=0.0, noise_w=0.0)
        answer = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "audio_s": len(audio.data) / audio.sr}
        print(json.dumps(answer), flush=True)


main()
