# ruff: noqa: ARG005 - what is done between two turns has one signature
"""What a model has read once is not read again, and never changes what it says."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rplab.llm.eval_config import DecodingConfig
from rplab.llm.generate import TextModel
from rplab.llm.template_adoption import install_template

SYSTEM = {"role": "system", "content": "너는 사야다. 숲속 서점에서 카즈키와 이야기한다. 짧게 답한다. " * 4}
ASK = [{"role": "system", "content": "대화에서 기억할 것을 적는다. " * 6}, {"role": "user", "content": "비가 왔다."}]
DECODING = DecodingConfig(max_new_tokens=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("cache")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator([SYSTEM["content"], ASK[0]["content"]], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    install_template(tokenizer)
    tokenizer.save_pretrained(target)
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, max_position_embeddings=4096, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id, initializer_range=0.3,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(target)
    return target


def conversation(model, turns, between=lambda model, messages: None):
    """Hold a conversation; returns the replies and how many prompt tokens each turn read."""
    messages, replies, read = [SYSTEM], [], []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"{turn}번째로 하는 말이야."})
        replies.append("".join(model.stream(messages, DECODING)))
        read.append(model.num_read)
        messages.append({"role": "assistant", "content": replies[-1]})
        between(model, messages)
    return replies, read


def test_turn_20_reads_hardly_more_than_turn_2_and_says_the_same(folder):
    model = TextModel.load(folder)
    replies, read = conversation(model, 20)

    fresh, _ = conversation(model, 20, between=lambda model, messages: setattr(model, "_caches", type(model._caches)(model.model.config)))
    assert replies == fresh
    assert read[19] <= 1.3 * read[1]


def test_reading_ahead_leaves_only_what_the_player_types(folder):
    _, plain = conversation(TextModel.load(folder), 5)
    replies, read = conversation(
        TextModel.load(folder), 5, between=lambda model, messages: model.read_ahead([*messages, {"role": "user", "content": ""}])
    )

    assert replies == conversation(TextModel.load(folder), 5)[0]
    assert max(read[1:]) < min(plain[1:])


def test_question_beside_the_conversation_costs_it_nothing(folder):
    def ask(model, messages):
        list(model.stream(ASK, DECODING))

    replies, read = conversation(TextModel.load(folder), 6, between=ask)

    assert (replies, read) == conversation(TextModel.load(folder), 6)


def test_prompt_that_leaves_the_conversation_early_does_not_cost_its_cache(folder):
    model = TextModel.load(folder)
    _, read = conversation(model, 6, between=lambda model, messages: list(model.stream([SYSTEM, *ASK[1:]], DECODING)))

    assert read[2:] == conversation(TextModel.load(folder), 6)[1][2:]  # of a short one, reading again costs less than a copy


def test_reading_ahead_stops_between_blocks(folder):
    model = TextModel.load(folder)
    looks = []
    num_read = model.read_ahead([SYSTEM], cancelled=lambda: len(looks) >= 1 or looks.append(1))

    assert 0 < num_read <= 128
    assert "".join(model.stream([SYSTEM, ASK[1]], DECODING)) == "".join(TextModel.load(folder).stream([SYSTEM, ASK[1]], DECODING))
