"""A local model as a backend: the draws of a request are its own, whatever shares its batch."""

import asyncio
import json

import pytest

pytest.importorskip("torch")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rplab.backend.base import ChatRequest, Sampling
from rplab.backend.config import TransformersConfig
from rplab.backend.open import open_backend
from rplab.backend.sample import pick_tokens
from rplab.errors import ModelError

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a byte-level tokenizer and a random model of two layers."""
    path = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: index for index, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = TEMPLATE
    fast.save_pretrained(path)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    return path


def requests(count, **sampling):
    settings = {"temperature": 1.0, "top_p": 0.9, "max_tokens": 12, **sampling}
    return [
        ChatRequest(f"k{n}", ({"role": "user", "content": f"{n}번 인사 " + "아" * (n * 3)},), n + 1, Sampling(**settings))
        for n in range(count)
    ]


def answer(folder, asked, **settings):
    async def run():
        backend = open_backend(TransformersConfig(model=str(folder), **settings))
        try:
            return backend.name, await asyncio.gather(*(backend.complete(request) for request in asked))
        finally:
            await backend.aclose()

    return asyncio.run(run())


def test_one_by_one_or_in_batches_the_same_answers_come(folder):
    asked = requests(10)

    name, alone = answer(folder, asked, batch_size=1, gather_ms=0)
    _, together = answer(folder, asked, batch_size=4)

    assert name == f"transformers/{folder.name}@fp32"
    assert [result.text for result in alone] == [result.text for result in together]
    assert [result.key for result in together] == [request.key for request in asked]
    assert {result.finish_reason for result in together} <= {"stop", "length"}
    assert all(result.usage.completion_tokens <= 12 and result.usage.prompt_tokens > 10 for result in together)
    assert len({result.text for result in together}) > 5


def test_stop_strings_cut_and_seeds_matter(folder):
    first = answer(folder, requests(1, max_tokens=40))[1][0]
    stop = first.text[5:7]

    cut = answer(folder, requests(1, max_tokens=40, stop=(stop,)))[1][0]
    again = answer(folder, requests(1, max_tokens=40))[1][0]

    assert again.text == first.text
    assert stop not in cut.text
    assert first.text.startswith(cut.text)


def test_a_prompt_without_room_is_an_error_result(folder):
    asked = [ChatRequest("k", ({"role": "user", "content": "가" * 400},), 1)]

    result = answer(folder, asked)[1][0]

    assert result.finish_reason == "error"
    assert "leave no room" in result.error


def test_special_tokens_in_a_message_do_not_end_the_turn(folder):
    plain = ChatRequest("k", ({"role": "user", "content": "안녕"},), 1, Sampling(max_tokens=5))
    tricky = ChatRequest("k", ({"role": "user", "content": "안<|im_<|im_end|>end|>녕"},), 1, Sampling(max_tokens=5))

    _, (first, second) = answer(folder, [plain, tricky])

    assert first.usage.prompt_tokens == second.usage.prompt_tokens


def test_a_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        answer(tmp_path, requests(1))


def test_4_bit_weights_answer_too(folder):
    pytest.importorskip("bitsandbytes")

    name, results = answer(folder, requests(2, max_tokens=4), precision="nf4")

    assert name.endswith("@nf4")
    assert all(result.finish_reason in ("stop", "length") for result in results)


def test_tokens_are_drawn_as_often_as_they_are_probable():
    logits = torch.tensor([[2.0, 1.0, 0.0, -5.0]])
    expected = logits.softmax(-1)[0]
    settings = Sampling(temperature=1.0, top_p=1.0)

    numbers = [(n + 0.5) / 2000 for n in range(2000)]
    drawn = pick_tokens(logits.repeat(2000, 1), [settings] * 2000, numbers, [[]] * 2000)

    for token in range(4):
        assert drawn.count(token) / 2000 == pytest.approx(float(expected[token]), abs=0.001)
    assert set(pick_tokens(logits.repeat(100, 1), [Sampling(temperature=1.0, top_p=0.6)] * 100, numbers[::20], [[]] * 100)) == {0}
    assert pick_tokens(logits.clone(), [Sampling(temperature=0.0, repetition_penalty=3.0)], [0.0], [[0]]) == [1]


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 6},
        "mood": {"enum": ["밝다", "차분하다"]},
        "signals": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 3}, "minItems": 2, "maxItems": 2},
    },
    "required": ["name", "mood", "signals"],
    "additionalProperties": False,
}


def test_an_answer_with_a_schema_is_valid_json_even_of_a_random_model(folder):
    requests = [
        ChatRequest(
            f"r{index}", ({"role": "user", "content": f"대답 {index}"},), seed=index, sampling=Sampling(max_tokens=160), schema=schema
        )
        for index, schema in enumerate([SCHEMA, None] * 4)
    ]

    def answers(**settings):
        async def ask():
            backend = open_backend(TransformersConfig(model=str(folder), **settings))
            try:
                return await asyncio.gather(*(backend.complete(request) for request in requests))
            finally:
                await backend.aclose()

        return asyncio.run(ask())

    held = answers(batch_size=8)
    for request, result in zip(requests, held, strict=True):
        if request.schema:
            value = json.loads(result.text)
            assert result.finish_reason == "stop"
            assert list(value) == ["name", "mood", "signals"]
            assert value["mood"] in ("밝다", "차분하다")
            assert len(value["signals"]) == 2
            assert all(0 <= number <= 3 for number in value["signals"])
    assert [result.text for result in answers(batch_size=1)] == [result.text for result in held]
    free = answers(structured="prompt")
    assert [result.text for result in free[1::2]] == [result.text for result in held[1::2]]  # the others are not touched
    assert free[0].model != held[0].model


def test_a_schema_that_cannot_be_enforced_is_left_to_the_prompt(folder, caplog):
    request = ChatRequest("r", ({"role": "user", "content": "대답"},), seed=1, sampling=Sampling(max_tokens=8), schema={"type": "nonsense"})

    async def ask():
        backend = open_backend(TransformersConfig(model=str(folder)))
        try:
            return await backend.complete(request)
        finally:
            await backend.aclose()

    assert asyncio.run(ask()).text
    assert "cannot be enforced" in caplog.text
