"""The base model: a tiny real Qwen3 made from the dataset, or a Hugging Face folder that the user brings.

The tiny one has Qwen3's architecture (grouped-query attention, query/key norms, tied embeddings), a byte-level BPE laid
out like Qwen's, and our chat template; it is pretrained long enough to write Korean. With it the whole chain, the
checks included, runs in minutes on a CPU. Everything after this stage treats both kinds alike.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from rplab.llm.attention import VARLEN
from rplab.llm.config import BaseConfig, TinyModel
from rplab.llm.corpus import Corpus, draw_rows, read_corpus
from rplab.llm.lineage import model_fingerprint
from rplab.llm.precision import ending_config, load_tokenizer, model_folder, quiet_libraries, save_tokenizer
from rplab.llm.pretrain import Packed, pack_steps, pretrain
from rplab.llm.template import IGNORED, Example, end_id, pad_id, render
from rplab.llm.tokenizer import train_tokenizer
from rplab.stage import StageContext, Stats

logger = logging.getLogger(__name__)

_ROUND_VOCABULARY = 64
"""Embedding rows are a multiple of this, as matrix units like it."""


def make_base(config: BaseConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Make the base model.

    Args:
        config: Settings; `source` takes a folder instead of making one.
        inputs: `dataset`.
        context: Writes model/ (Hugging Face folder) and logs/metrics.jsonl.

    Raises:
        ModelError: `source` is no complete model folder, or its template cannot be trained with.
        DataError: A view of the dataset is missing or broken.
        TrainingError: Pretraining diverged.
        StageInterrupted: Stopped on request, after a checkpoint.
    """
    quiet_libraries()
    if config.source is not None:
        return _take_source(Path(config.source).expanduser(), context)
    return _make_tiny(config, inputs["dataset"], context)


def _take_source(source: Path, context: StageContext) -> Stats:
    """Put a user's model folder into the artefact: linked where the file system can, and with a template we can train with."""
    folder = model_folder(source)
    tokenizer = load_tokenizer(folder)
    target = context.out / "model"
    target.mkdir()
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix in {".json", ".safetensors", ".txt", ".model"})
    for number, name in enumerate(names, start=1):
        context.progress(number, len(names), f"base: {name}")
        link_or_copy(folder / name, target / name)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json"):
        (target / name).unlink(missing_ok=True)
    save_tokenizer(tokenizer, target)
    ending_config(tokenizer, folder).save_pretrained(str(target))
    return {"source": str(source), "fingerprint": model_fingerprint(target), "vocabulary": len(tokenizer)}


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` (hard link), or a copy where links cannot go."""
    real = source.resolve()  # the hub's cache holds symbolic links
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _make_tiny(config: BaseConfig, dataset: Path, context: StageContext) -> Stats:
    settings = config.pretrain
    corpus = read_corpus(dataset, settings.wrong_share, config.seed)
    context.progress(0, settings.max_steps, "base: training the tokenizer")
    tokenizer = train_tokenizer(corpus.texts(), config.model.vocab_size, config.model.max_positions)
    model = build_model(config.model, tokenizer, config.seed)
    rows = _pack_corpus(corpus, tokenizer, config)
    losses = pretrain(model, rows, settings, context)

    model.to(torch.bfloat16).save_pretrained(str(context.out / "model"))  # type: ignore[arg-type]
    save_tokenizer(tokenizer, context.out / "model")
    tail = losses[-min(20, len(losses)) :]
    return {
        "source": None,
        "fingerprint": model_fingerprint(context.out / "model"),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "dialogues": len(corpus.dialogues),
        "translation_pairs": len(corpus.pairs),
        "replies": dict(sorted(corpus.spoilt.items())),
        "steps": len(losses),
        "tokens": sum(row.ids.shape[1] for row in rows),
        "loss_first": round(losses[0], 4),
        "loss_last": round(sum(tail) / len(tail), 4),
    }


def build_model(shape: TinyModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen3ForCausalLM:
    """Build a Qwen3 with random float32 weights; the same seed gives the same weights."""
    vocabulary = -(-len(tokenizer) // _ROUND_VOCABULARY) * _ROUND_VOCABULARY
    settings = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        eos_token_id=end_id(tokenizer),
        pad_token_id=pad_id(tokenizer),
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(settings).float()
    model.set_attn_implementation(VARLEN)
    model.generation_config = ending_config(tokenizer, None)
    return model


def _pack_corpus(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, config: BaseConfig) -> list[Packed]:
    settings = config.pretrain
    end = pad_id(tokenizer)  # <|endoftext|> ends every document
    encoded: dict[tuple[str, int], Example] = {}

    def encode(kind: str, index: int) -> Example:
        if (kind, index) not in encoded:
            dialogue = corpus.dialogues[index] if kind == "chat" else None
            ids = [*_ids(tokenizer, render(tokenizer, dialogue) if dialogue else "\n".join(corpus.pairs[index])), end]
            # System texts are long and alike: after one in eight the rest teaches nothing new
            skipped = (
                len(_ids(tokenizer, render(tokenizer, dialogue[:1]))) if dialogue and index % 8 and dialogue[0]["role"] == "system" else 0
            )
            encoded[kind, index] = Example(ids, [*([IGNORED] * skipped), *ids[skipped:]])
        return encoded[kind, index]

    drawn = draw_rows(len(corpus.dialogues), len(corpus.pairs), settings.translation_share, config.seed)
    return pack_steps((encode(kind, index) for kind, index in drawn), settings.max_steps, settings.batch_tokens, settings.sequence_tokens)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
    return list(ids)
