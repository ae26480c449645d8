"""Any local Hugging Face folder can be the base: other families' templates, end tokens, layers and caches."""

import json
import sys
from pathlib import Path

import pytest
import torch

from rplab.errors import ModelError
from rplab.llm.template import IGNORED, encode_dialogue, encode_prompt, render
from rplab.llm.template_adoption import install_template

sys.path.insert(0, str(Path(__file__).parents[2] / "assets"))
from model_families import FAMILIES, make_tokenizer, write_family

REPLY = '사야는 고개를 든다.\n"왔구나. 기다렸어."'
ENDS = {
    "llama3": "<|eot_id|>", "llama3_base": "<|end_of_text|>", "mistral": "</s>", "gemma2": "<end_of_turn>", "gemma3": "<end_of_turn>",
    "phi3": "<|end|>", "neox": "<|endoftext|>", "gpt2": "<|endoftext|>",
}  # fmt: skip


def dialogue(turns):
    messages = [{"role": "system", "content": "「사야」\n말투: 반말"}, {"role": "system", "content": "규칙은 둘."}]
    for turn in range(turns):
        messages += [{"role": "user", "content": f"비가 오네. {turn}번째야."}, {"role": "assistant", "content": f"{REPLY} {turn}"}]
    return messages


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    tokenizer = make_tokenizer(request.param)
    install_template(tokenizer)
    return request.param, tokenizer


@pytest.mark.parametrize("turns", [1, 2, 6])
def test_training_and_inference_read_the_same(family, turns):
    name, tokenizer = family
    messages = dialogue(turns)
    example = encode_dialogue(tokenizer, messages)

    for index in (i for i, message in enumerate(messages) if message["role"] == "assistant"):
        prompt = encode_prompt(tokenizer, messages[:index])
        assert example.input_ids[: len(prompt)] == prompt
        assert example.labels[len(prompt) - 1] == IGNORED
        assert example.labels[len(prompt)] != IGNORED
    learnt = [label for label in example.labels if label != IGNORED]
    assert sum(label == tokenizer.eos_token_id for label in learnt) == turns
    said = "".join(f"{REPLY} {turn}{ENDS[name]}" for turn in range(turns))
    assert "".join(tokenizer.decode(learnt).split()) == "".join(said.split())


def test_the_system_texts_and_the_end_of_turn_survive(family):
    name, tokenizer = family

    text = render(tokenizer, dialogue(1))

    assert "말투: 반말" in text
    assert "규칙은 둘." in text
    assert tokenizer.eos_token == ENDS[name]
    assert tokenizer.pad_token is not None


def test_taking_over_twice_changes_nothing(family):
    _, tokenizer = family
    before = (tokenizer.chat_template, tokenizer.eos_token, tokenizer.pad_token)

    install_template(tokenizer)

    assert (tokenizer.chat_template, tokenizer.eos_token, tokenizer.pad_token) == before


def test_rows_that_a_template_refuses_are_dropped_and_counted(tmp_path):
    from rplab.llm.rows import check_dialogue, load_rows, without_last_exchange

    tokenizer = make_tokenizer("gemma3")
    install_template(tokenizer)
    twice = [{"role": "user", "content": "안녕"}, {"role": "user", "content": "거기?"}, {"role": "assistant", "content": REPLY}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in (dialogue(1), twice)), encoding="utf-8")

    loaded = load_rows(path, check_dialogue, lambda messages, _: encode_dialogue(tokenizer, messages), without_last_exchange)

    assert len(loaded.rows) == 1
    assert loaded.tally.dropped == {"template": 1}


def test_todays_date_stays_out_of_the_prompt():
    tokenizer = make_tokenizer("llama3")
    install_template(tokenizer)

    assert "Today Date: 26 Jul 2024" in render(tokenizer, dialogue(1))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "never learn to stop"),
        ("{{ messages[-1].content }}<|eot_id|>", "reply"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content | upper }}<|eot_id|>{% endfor %}", "control token|leaves out|does not write"),
    ],
)
def test_a_template_that_hides_the_replies_is_refused(template, message):
    tokenizer = make_tokenizer("llama3")
    tokenizer.chat_template = template

    with pytest.raises(ModelError, match=message) as caught:
        install_template(tokenizer)
    assert "{% generation %}" in str(caught.value)


def test_marks_that_leave_out_the_end_of_turn_are_not_used():
    tokenizer = make_tokenizer("llama3")
    marked = (
        "{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    )
    tokenizer.chat_template = marked

    install_template(tokenizer)

    example = encode_dialogue(tokenizer, dialogue(2))
    assert sum(label == tokenizer.eos_token_id for label in example.labels) == 2


def test_a_tokenizer_of_another_model_is_named(tmp_path):
    from rplab.llm.precision import load_tokenizer

    folder = write_family("gpt2", tmp_path / "gpt2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))

    with pytest.raises(ModelError, match=r"embedding rows.*do not belong together"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "mistral"])
def test_packed_dialogues_and_single_ones_read_as_the_makers_own_attention_does(name, tmp_path):
    from transformers import AutoModelForCausalLM

    from rplab.llm.attention import packed_forward
    from rplab.llm.precision import load_model

    folder = write_family(name, tmp_path / name)
    ours = load_model(folder, "fp32", "sdpa" if name == "gemma2" else "varlen")
    theirs = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="eager")
    dialogues = [torch.randint(5, 250, (1, length), generator=torch.Generator().manual_seed(length)) for length in (50, 37)]
    borders = torch.tensor([0, 50, 87], dtype=torch.int32)
    places = torch.cat([torch.arange(50), torch.arange(37)])[None]

    with torch.no_grad():
        wanted = [theirs(ids, use_cache=False).logits[0] for ids in dialogues]
        with packed_forward():
            packed = ours(
                torch.cat(dialogues, dim=1), position_ids=places, cu_seq_lens_q=borders, cu_seq_lens_k=borders, max_length_q=50,
                max_length_k=50, use_cache=False,
            ).logits[0]  # fmt: skip
        alone = [ours(ids, use_cache=False).logits[0] for ids in dialogues]
        padded = ours(
            torch.cat([torch.zeros(1, 13, dtype=torch.long), dialogues[1]], dim=1),
            attention_mask=torch.tensor([[0] * 13 + [1] * 37]), position_ids=torch.tensor([[0] * 13 + list(range(37))]), use_cache=False,
        ).logits[0, 13:]  # fmt: skip

    assert torch.allclose(packed, torch.cat(wanted), atol=1e-4)
    assert torch.allclose(torch.cat(alone), torch.cat(wanted), atol=1e-4)
    assert torch.allclose(padded, wanted[1], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "gemma2", "gemma3", "neox"])
def test_another_family_goes_through_the_whole_chain(name, stages, toy, tmp_path):
    from rplab.llm.base import make_base
    from rplab.llm.config import BaseConfig, GrpoConfig, MergeConfig, SftConfig
    from rplab.llm.eval_config import DecodingConfig
    from rplab.llm.generate import TextModel
    from rplab.llm.grpo import train_grpo
    from rplab.llm.merge import merge_adapter
    from rplab.llm.sft import train_sft

    torch.set_num_threads(1)
    source = write_family(name, tmp_path / name)
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0}
    sft_config = SftConfig.model_validate({
        "lora": lora, "max_length": 512, "max_steps": 4, "eval_rows": 4, "accumulation_steps": 1, "optimiser": {"learning_rate": 3e-3},
    })  # fmt: skip
    grpo_config = GrpoConfig.model_validate({
        "lora": lora, "max_steps": 1, "prompts_per_step": 2, "num_generations": 2, "micro_batch": 4, "max_prompt_tokens": 900,
        "max_completion_tokens": 8, "probes": 2,
    })  # fmt: skip

    base, _ = stages.run("base", make_base, BaseConfig(source=str(source)), {"dataset": toy})
    sft, trained = stages.run("sft1", train_sft, sft_config, {"base": base, "dataset": toy})
    merged, parity = stages.run("merge", merge_adapter, MergeConfig(min_top1=0.95), {"base": base, "adapter": sft})
    grpo, _ = stages.run("grpo", train_grpo, grpo_config, {"model": merged, "dataset": toy})
    final, _ = stages.run("grpo_merge", merge_adapter, MergeConfig(min_top1=0.95), {"base": merged, "adapter": grpo})

    assert trained["eval_loss_after"] < trained["eval_loss_before"]
    assert parity["passed"]
    model = TextModel.load(final / "model")
    greedy = DecodingConfig(max_new_tokens=40)
    talk = dialogue(1)[:3]
    first = "".join(model.stream(talk, greedy))
    talk += [{"role": "assistant", "content": first or "…"}, {"role": "user", "content": "비가 오네."}]
    again = "".join(model.stream(talk, greedy))  # goes on from the cache of the first reply, past a sliding window
    assert again == "".join(TextModel.load(final / "model").stream(talk, greedy))
