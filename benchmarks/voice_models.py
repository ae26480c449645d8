"""The models of `benchmarks/voice.py`: a voice and a BERT of full size with random weights, exported as users export theirs."""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import DebertaV2Config, DebertaV2Model

from rplab.tts.export_bert import export_bert
from rplab.tts.export_onnx import export_voice
from rplab.tts.model.generator import Generator
from rplab.tts.model.hyper import VoiceConfigFile
from rplab.tts.model.layers import NormConv1d, NormConvTranspose1d
from rplab.tts.training_config import SIZES

VOCABULARY = 22012
"""Tokens of ku-nlp/deberta-v2-large-japanese-char-wwm, which the voice family uses."""
_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
_MARKS = "々〇ー、。…！？「」"
_RANGES = ((0x3041, 0x3097), (0x30A1, 0x30FF), (0x4E00, 0x9FFF), (0x21, 0x7F))


def export_random_voice(size: str, folder: Path, frames_per_phone: float) -> None:
    """Export a voice with random weights whose phones last so many frames."""
    torch.manual_seed(0)
    generator = Generator(replace(SIZES[size], num_speakers=1)).eval()
    with torch.no_grad():
        generator.dp.proj.weight.zero_()
        # half of all phones are blanks
        generator.dp.proj.bias.fill_(math.log(frames_per_phone / 2 - 0.5))
        for layer in generator.dec.modules():  # the training's start is nearly silent: a difference would not show
            if isinstance(layer, NormConv1d | NormConvTranspose1d):
                layer.init_normal(layer.weight_v[0].numel() ** -0.5)
    started = time.monotonic()
    config = VoiceConfigFile(generator.size, "random", {"one": 0}, {"Neutral": 0})
    styles = np.zeros((1, 256), dtype=np.float32)
    graphs = export_voice(generator, config, styles, folder, forms=("split", "mono"))
    worst = max(graph.max_difference for graph in graphs)
    print(f"exported in {time.monotonic() - started:.0f} s, largest difference to torch {worst:.1e}", file=sys.stderr)


def export_random_bert(source: Path, out: Path) -> None:
    """Write a Hugging Face folder with a random DeBERTa-v2 of the family's size, and export it."""
    torch.manual_seed(0)
    started = time.monotonic()
    config = DebertaV2Config(
        vocab_size=VOCABULARY,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        max_position_embeddings=512,
    )
    DebertaV2Model(config).save_pretrained(str(source))
    characters = itertools.chain(_MARKS, (chr(code) for first, end in _RANGES for code in range(first, end)))
    tokens = [*_SPECIAL, *dict.fromkeys(characters)][:VOCABULARY]
    tokens += [f"[unused{index}]" for index in range(VOCABULARY - len(tokens))]
    (source / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    words = {name.lower()[1:-1] + "_token": name for name in _SPECIAL}
    kinds = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "character"}
    settings = {"tokenizer_class": "BertJapaneseTokenizer", "do_lower_case": False, "do_word_tokenize": True, "do_subword_tokenize": True}
    (source / "tokenizer_config.json").write_text(json.dumps(settings | kinds | words), encoding="utf-8")
    export_bert(source, out, variants=("fp32", "int8"))
    print(f"BERT exported in {time.monotonic() - started:.0f} s", file=sys.stderr)
