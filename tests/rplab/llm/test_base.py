"""The base stage: the same model every time, however often it is interrupted, or the user's own folder."""

import json
import shutil
from itertools import islice, repeat

import pytest
import torch

from rplab.errors import ConfigError, DataError, ModelError, StageInterrupted
from rplab.llm.attention import packed_forward
from rplab.llm.base import make_base
from rplab.llm.config import BaseConfig
from rplab.llm.corpus import SPOILERS, draw_rows, read_corpus
from rplab.llm.precision import load_model, load_tokenizer, model_folder
from rplab.llm.pretrain import pack_steps
from rplab.llm.template import IGNORED, Example


def digest_files(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())}


def test_the_base_is_a_complete_qwen3_that_learnt_its_corpus(tiny):
    config = json.loads((tiny / "model" / "config.json").read_text())
    metrics = [json.loads(line) for line in (tiny / "logs" / "metrics.jsonl").read_text().splitlines()]

    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert {path.name for path in (tiny / "model").iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    assert metrics[-1]["loss"] < 0.15 * metrics[0]["loss"]


def test_interrupted_base_is_the_same_bytes(stages, toy, base_settings):
    config = base_settings(max_steps=6, save_steps=2, batch_tokens=256, sequence_tokens=128)
    whole, stats = stages.run("whole", make_base, config, {"dataset": toy})

    with pytest.raises(StageInterrupted):
        stages.run("cut", make_base, config, {"dataset": toy}, stop_at=3)
    cut, again = stages.run("cut", make_base, config, {"dataset": toy})

    assert digest_files(whole) == digest_files(cut)
    assert stats == again


def test_a_damaged_checkpoint_is_passed_over(stages, toy, base_settings, caplog):
    config = base_settings(max_steps=6, save_steps=2, batch_tokens=256, sequence_tokens=128)
    whole, _ = stages.run("whole", make_base, config, {"dataset": toy})
    with pytest.raises(StageInterrupted):
        stages.run("cut", make_base, config, {"dataset": toy}, stop_at=5)
    state = stages.root / "cut.resume" / "checkpoints" / "checkpoint-5" / "state.pt"
    state.write_bytes(state.read_bytes()[:-100] + bytes(100))

    cut, _ = stages.run("cut", make_base, config, {"dataset": toy})

    assert digest_files(whole) == digest_files(cut)
    assert "damaged (state.pt)" in caplog.text


def test_most_replies_are_spoilt_in_every_named_way(toy):
    corpus = read_corpus(toy, 0.6, seed=3)

    total = sum(corpus.spoilt.values())
    assert 0.5 < 1 - corpus.spoilt["right"] / total < 0.7
    assert set(SPOILERS) <= set(corpus.spoilt)
    assert read_corpus(toy, 0.6, seed=3).dialogues == corpus.dialogues
    assert read_corpus(toy, 0.0, seed=3).spoilt.keys() == {"right"}


def test_a_longer_run_starts_with_the_rows_of_a_shorter_one():
    short = list(islice(draw_rows(5, 3, 0.3, seed=1), 10))

    assert list(islice(draw_rows(5, 3, 0.3, seed=1), 40))[:10] == short
    assert {kind for kind, _ in islice(draw_rows(5, 0, 0.3, seed=1), 20)} == {"chat"}


def test_rows_too_short_for_any_reply_are_named():
    system_only = Example([1, 2, 3, 4], [IGNORED, IGNORED, IGNORED, 4])

    assert len(pack_steps(repeat(system_only), 2, 8, 4)) == 2
    with pytest.raises(ConfigError, match="rows of 3 tokens"):
        pack_steps(repeat(system_only), 2, 8, 3)


def test_packed_dialogues_do_not_see_each_other(tiny):
    folder = model_folder(tiny)
    tokenizer, model = load_tokenizer(folder), load_model(folder, "fp32")
    texts = ["사야는 부두에서 고개를 든다.", "비가 오네. 같이 걸을래?", "雨が降るね。"]
    documents = [tokenizer(text)["input_ids"] for text in texts]
    row = pack_steps([Example(ids, ids) for ids in [*documents, documents[0]]], 1, sum(map(len, documents)), 64)[0]

    with torch.no_grad(), packed_forward():
        packed = model(input_ids=row.ids, position_ids=row.positions, cu_seq_lens_q=row.borders, use_cache=False).logits[0]
    with torch.no_grad():
        alone = torch.cat([model(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids in documents])

    assert torch.allclose(packed, alone, atol=1e-4)


def test_a_folder_of_the_user_becomes_the_base(stages, toy, tiny):
    source = stages.root / "mine"
    shutil.copytree(tiny / "model", source)
    template = (source / "chat_template.jinja").read_text()

    folder, stats = stages.run("base", make_base, BaseConfig(source=str(source)), {"dataset": toy})

    assert (folder / "model" / "model.safetensors").stat().st_ino == (source / "model.safetensors").stat().st_ino
    assert (source / "chat_template.jinja").read_text() == template
    assert "generation" in (folder / "model" / "chat_template.jinja").read_text()
    assert json.loads((folder / "model" / "generation_config.json").read_text())["eos_token_id"]
    assert stats["fingerprint"]


def test_a_template_that_hides_where_replies_end_is_refused(stages, toy, tiny):
    source = stages.root / "mine"
    shutil.copytree(tiny / "model", source)
    (source / "chat_template.jinja").write_text("{{ messages }}")

    with pytest.raises(ModelError, match=r"cannot be trained with.*generation"):
        stages.run("base", make_base, BaseConfig(source=str(source)), {"dataset": toy})


def test_an_incomplete_folder_of_the_user_is_named(stages, toy, tiny):
    source = stages.root / "mine"
    shutil.copytree(tiny / "model", source)
    (source / "tokenizer.json").unlink()

    with pytest.raises(ModelError, match=r"mine.*tokenizer\.json"):
        stages.run("base", make_base, BaseConfig(source=str(source)), {"dataset": toy})


def test_a_missing_view_is_named(stages, base_settings):
    with pytest.raises(DataError, match=r"grpo.*train\.jsonl"):
        stages.run("base", make_base, base_settings(max_steps=1), {"dataset": stages.root})
