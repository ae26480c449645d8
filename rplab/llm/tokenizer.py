"""A byte-level BPE tokenizer laid out like Qwen's, trained on the dataset's own Korean and Japanese.

Same pre-tokeniser, same normalisation and the same special tokens after the vocabulary as Qwen2/Qwen3 tokenizers, so
that code and templates made for Qwen3 hold for the tiny model too. Training is deterministic: merges depend on counts,
and ties are broken by token number.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

from rplab.llm.template import END_OF_TEXT, TURN_END, TURN_START
from rplab.llm.template_adoption import install_template

logger = logging.getLogger(__name__)

SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)

_PIECES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Qwen2 cuts text before merging (its tokenizer.json)."""


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_positions: int) -> PreTrainedTokenizerBase:
    """Train a tokenizer.

    Args:
        texts: What it should write shortly.
        vocab_size: Most tokens, special ones included; fewer when the texts have fewer different pieces. The 256 bytes
            are always in, so any text can be written.
        max_positions: Longest sequence the model takes.
    """
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    if bpe.get_vocab_size() < vocab_size - len(SPECIAL_TOKENS):
        logger.warning("the texts give only %d of %d tokens; the vocabulary is that small", bpe.get_vocab_size(), vocab_size)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer = Qwen2Tokenizer(tokenizer_object=bpe, eos_token=TURN_END, pad_token=END_OF_TEXT, model_max_length=max_positions)
    install_template(tokenizer)
    return tokenizer
