"""A character for play tests: one tiny real model that has learnt one reply and its translation by heart."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rplab.character import load_card
from rplab.dialogue.pack import load_pack
from rplab.dialogue.singleturn_text import card_system_text
from rplab.llm.template_adoption import install_template
from rplab.translator.prompt import TranslationPrompt

REPLY = '사야는 창밖을 보다가 고개를 든다.\n"왔구나. 비가 와서 걱정했어."'
JAPANESE = {"왔구나.": "来たんだね。", "비가 와서 걱정했어.": "雨だから心配したよ。"}


def _load(name):
    """Import a module that lies beside the tests, once."""
    full = f"rplab_play_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


_load("fakes")  # tests import it as rplab_play_fakes


@pytest.fixture(scope="session")
def character_store(tmp_path_factory):
    """A store with a published character whose model answers anything with REPLY."""
    store = tmp_path_factory.mktemp("play") / "store"
    card = load_card("saya")
    rows = [[*_prompt(card, "안녕?"), {"role": "assistant", "content": REPLY}]]
    rows += [[*TranslationPrompt().messages(ko), {"role": "assistant", "content": ja}] for ko, ja in JAPANESE.items()]
    tokenizer, model = _learn(rows)
    for stage in ("grpo_merge", "translator"):
        folder = store / stage / "tiny" / "model"
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    TranslationPrompt().save(store / "translator" / "tiny" / "model")
    home = store / "character" / "tiny"
    home.mkdir(parents=True)
    character = {
        "card": card.model_dump(mode="json", by_alias=True),
        "rp_model": {"stage": "grpo_merge", "key": "tiny"},
        "translator": {"stage": "translator", "key": "tiny"},
    }
    (home / "character.json").write_text(json.dumps(character, ensure_ascii=False), encoding="utf-8")
    (store / "latest").mkdir()
    (store / "latest" / "character").symlink_to("../character/tiny")
    return store


def _prompt(card, text):
    system, greeting = card_system_text(card, load_pack("v7")), card.greeting.strip()
    return [{"role": "system", "content": system}, {"role": "assistant", "content": greeting}, {"role": "user", "content": text}]


def _learn(rows):
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator([message["content"] for row in rows for message in row] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    install_template(tokenizer)
    torch.manual_seed(1)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, max_position_embeddings=2048, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batches = [_labelled(tokenizer, row) for row in rows]
    for _ in range(80):
        loss = sum(model(input_ids=ids, labels=labels).loss for ids, labels in batches)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.02:
            break
    return tokenizer, model.eval()


def _labelled(tokenizer, row):
    ids = tokenizer(tokenizer.apply_chat_template(row, tokenize=False), add_special_tokens=False)["input_ids"]
    head = tokenizer(tokenizer.apply_chat_template(row[:-1], tokenize=False, add_generation_prompt=True), add_special_tokens=False)
    known = len(head["input_ids"])
    return torch.tensor([ids]), torch.tensor([[-100] * known + ids[known:]])
