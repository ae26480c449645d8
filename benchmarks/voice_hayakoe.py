"""HayaKoe's side of `benchmarks/voice.py`: run by the Python of a virtual environment with `pip install hayakoe`.

    VENV/bin/python benchmarks/voice_hayakoe.py SOURCE

SOURCE holds `bert/tokenizer/`, `onnx/bert/q8/bert_q8.onnx` and `onnx/speakers/random/`, as its documentation describes for a
local source. Answers one JSON line a request on standard input, like the other sides. HayaKoe is AGPL-3.0: nothing of it is
used here but its public interface, and nothing of ours depends on it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from hayakoe import TTS  # pyright: ignore[reportMissingImports]


def main() -> None:
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
