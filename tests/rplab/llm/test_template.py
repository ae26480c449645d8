"""The chat template: training and inference read the same text, and every turn teaches its own end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.errors import DataError, ModelError
from rplab.llm.rows import without_last_exchange, without_oldest_exchange
from rplab.llm.template import IGNORED, TURN_END, encode_completion, encode_dialogue, encode_prompt, render
from rplab.llm.template_adoption import install_template
from rplab.llm.tokenizer import train_tokenizer

REPLY = '사야는 고개를 든다.\n"왔구나. 기다렸어."'
TEXTS = [REPLY, "비가 오네. 같이 걸을래?", "雨が降るね。一緒に歩く？", "「사야」\n말투: 반말"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 400, 1024)


def dialogue(turns):
    messages = [{"role": "system", "content": "「사야」\n말투: 반말"}]
    for turn in range(turns):
        messages += [{"role": "user", "content": f"비가 오네. {turn}번째야."}, {"role": "assistant", "content": f"{REPLY} {turn}"}]
    return messages


@pytest.mark.parametrize("turns", range(1, 7))
def test_training_and_inference_read_the_same(tokenizer, turns):
    messages = dialogue(turns)
    example = encode_dialogue(tokenizer, messages)

    for index in (i for i, message in enumerate(messages) if message["role"] == "assistant"):
        prompt = render(tokenizer, messages[:index], reply_follows=True)
        assert render(tokenizer, messages).startswith(prompt + messages[index]["content"] + TURN_END)
        ids = encode_prompt(tokenizer, messages[:index])
        assert example.input_ids[: len(ids)] == ids
        assert example.labels[len(ids) - 1] == IGNORED
        assert example.labels[len(ids)] == example.input_ids[len(ids)]


@pytest.mark.parametrize("turns", range(1, 7))
def test_every_reply_is_learnt_with_its_end_and_nothing_else(tokenizer, turns):
    example = encode_dialogue(tokenizer, dialogue(turns))

    learnt = tokenizer.decode([label for label in example.labels if label != IGNORED])

    assert learnt == "".join(f"{REPLY} {turn}{TURN_END}" for turn in range(turns))
    assert sum(label == tokenizer.eos_token_id for label in example.labels) == turns


@given(reply=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40).map(str.strip).filter(bool))
@settings(max_examples=60, deadline=None)
def test_any_reply_is_learnt_whole(tokenizer, reply):
    messages = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": reply}]
    example = encode_dialogue(tokenizer, messages)

    prompt = encode_prompt(tokenizer, messages[:1])
    learnt = [label for label in example.labels if label != IGNORED]

    assert example.input_ids[: len(prompt)] == prompt
    assert tokenizer.decode(learnt) == tokenizer.decode(tokenizer(reply + TURN_END)["input_ids"])
    assert learnt[-1] == tokenizer.eos_token_id


def test_completion_and_its_end_are_learnt(tokenizer):
    example = encode_completion(tokenizer, "비가 오네.\n", "雨が降るね。")

    assert example.labels[-1] == example.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode([label for label in example.labels[:-1] if label != IGNORED]) == "雨が降るね。"


@pytest.mark.parametrize("message", [{"role": "tool", "content": "x"}, {"role": "user", "content": ["x"]}])
def test_what_the_template_does_not_know_is_an_error(tokenizer, message):
    with pytest.raises(DataError, match=r"unknown role|must be text"):
        render(tokenizer, [message])


def test_end_of_turn_is_not_the_padding(tokenizer):
    assert tokenizer.eos_token == TURN_END
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_a_template_without_marks_is_refused_with_the_remedy(tokenizer):
    class Foreign:
        eos_token = None
        name_or_path = "models/foreign"
        chat_template = None

        def get_vocab(self):
            return {"<s>": 0}

    with pytest.raises(ModelError, match="generation"):
        install_template(Foreign())


def test_tokenizer_is_the_same_every_time(tokenizer):
    again = train_tokenizer(TEXTS, 400, 1024)

    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_dialogues_are_shortened_by_whole_exchanges():
    messages = dialogue(3)

    assert without_last_exchange(messages) == dialogue(2)
    assert without_last_exchange(dialogue(1)) == []
    prompt = messages[:-1]
    assert without_oldest_exchange(prompt) == [messages[0], *messages[3:-1]]
    assert without_oldest_exchange([messages[0], messages[1]]) == []
