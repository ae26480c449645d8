"""Torch eager as users of the family run it, for `benchmarks/voice.py`: `pip install style-bert-vits2-mk[torch]`.

    VENV/bin/python benchmarks/voice_sbv2.py VOICE DEBERTA THREADS

VOICE holds `config.json`, `style_vectors.npy` and one `.safetensors`; DEBERTA is the Hugging Face folder of BERT. The package
is AGPL-3.0: only its public interface is called, and nothing of ours depends on it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from style_bert_vits2.constants import Languages  # pyright: ignore[reportMissingImports]
from style_bert_vits2.nlp import bert_models  # pyright: ignore[reportMissingImports]
from style_bert_vits2.tts_model import TTSModel  # pyright: ignore[reportMissingImports]


def main() -> None:
    voice = Path(sys.argv[1])
    torch.set_num_threads(int(sys.argv[3]))
    bert_models.load_tokenizer(Languages.JP, sys.argv[2])
    bert_models.load_model(Languages.JP, sys.argv[2])
    weights = next(voice.glob("*.safetensors"))
    model = TTSModel(weights, voice / "config.json", voice / "style_vectors.npy", device="cpu")
    model.load()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        rate, sound = model.infer(json.loads(line)["text"], sdp_ratio=0.0, noise_w=0.0)
        answer = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "audio_s": len(sound) / rate}
        print(json.dumps(answer), flush=True)


main()
