"""Tiny random models of other families than Qwen3, with tokenizers and chat templates laid out like theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
)

TEXTS = [
    '사야는 고개를 든다.\n"왔구나. 기다렸어."',
    "비가 오네. 같이 걸을래?",
    "雨が降るね。一緒に歩く？",
    "「사야」\n말투: 반말",
    "### System:\n### User:\n### Assistant:\nuser model assistant system",
] * 3
SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}  # fmt: skip
LLAMA3_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
MISTRAL_V3 = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}"
    "{%- else %}{%- set loop_messages = messages %}{%- endif %}{{- bos_token }}{%- for message in loop_messages %}"
    "{%- if message['role'] == 'user' %}{%- if loop.last and system_message is defined %}"
    "{{- '[INST] ' + system_message + '\\n\\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] + eos_token }}"
    "{%- else %}{{- raise_exception('Only user and assistant roles are supported') }}{%- endif %}{%- endfor %}"
)
"""Puts the system text into the last message of the player, wherever that is."""
FAMILIES = ("llama3", "llama3_base", "mistral", "gemma2", "gemma3", "phi3", "neox", "gpt2")


def published_template(name: str) -> str:
    """A template as its makers published it; the TRL wheel ships them (Apache-2.0)."""
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def byte_level(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def sentencepiece_like(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    first = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=900, special_tokens=first, show_progress=False))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in [*first[:3], *special]])
    return with_bos(tokenizer, "<s>")


def with_bos(tokenizer: Tokenizer, token: str) -> Tokenizer:
    special = [(token, tokenizer.token_to_id(token))]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A $B", special_tokens=special)
    return tokenizer


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    table: dict[str, tuple[Any, dict[str, str], str | None]] = {
        "llama3": (byte_level(LLAMA3_TOKENS), {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}, "llama3_2"),
        "llama3_base": (
            with_bos(byte_level(LLAMA3_TOKENS), "<|begin_of_text|>"),
            {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
            None,
        ),
        "mistral": (sentencepiece_like(["[INST]", "[/INST]"]), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, MISTRAL_V3),
        "gemma2": (
            byte_level(["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]),
            {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
            "gemma",
        ),
        "phi3": (
            byte_level(["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]),
            {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
            "phi3",
        ),
        "neox": (byte_level(["<|endoftext|>", "<|padding|>"]), {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}, None),
        "gpt2": (byte_level(["<|endoftext|>"]), {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}, None),
    }
    table["gemma3"] = (*table["gemma2"][:2], "gemma3")
    inner, tokens, template = table[family]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **tokens)
    if template is not None:
        tokenizer.chat_template = template if "{" in template else published_template(template)
    return tokenizer


def make_model(family: str, vocabulary: int) -> Any:
    torch.manual_seed(0)
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    if family.startswith("llama3"):
        return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, tie_word_embeddings=family == "llama3_base", **SHAPE, **ends))
    if family == "mistral":
        return MistralForCausalLM(MistralConfig(vocab_size=vocabulary, sliding_window=32, **SHAPE, **ends))
    kinds = ["sliding_attention", "full_attention"]
    if family == "gemma2":  # with bent scores, in attention (low enough to show) and in the head
        bent = {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 16}
        return Gemma2ForCausalLM(
            Gemma2Config(vocab_size=vocabulary, head_dim=16, sliding_window=32, layer_types=kinds, **bent, **SHAPE, **ends)
        )
    if family == "gemma3":
        return Gemma3ForCausalLM(
            Gemma3TextConfig(vocab_size=vocabulary, head_dim=16, sliding_window=32, layer_types=kinds, **SHAPE, **ends)
        )
    if family == "phi3":
        return Phi3ForCausalLM(Phi3Config(vocab_size=vocabulary, **SHAPE, **ends))
    if family == "neox":
        shape = {key: value for key, value in SHAPE.items() if key != "num_key_value_heads"}
        return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=vocabulary, **shape, **ends))
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, n_embd=64, n_layer=2, n_head=4, n_positions=2048, **ends))


def write_family(family: str, folder: Path) -> Path:
    """Write a model folder as it would come from elsewhere."""
    tokenizer = make_tokenizer(family)
    make_model(family, -(-len(tokenizer) // 64) * 64).to(torch.bfloat16).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder
