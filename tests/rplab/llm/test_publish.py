"""What passed is published by reference; what did not is refused with every reason."""

import json

import pytest

from rplab.character import load_card
from rplab.errors import ArtifactError, ConfigError, GateError
from rplab.llm.eval_config import PublishConfig
from rplab.llm.publish import publish_character
from rplab.stage import StageContext

CONFIG = PublishConfig(card=load_card("saya"))


def evaluation(failed=()):
    models = {name: {"reward": {"mean": value}, "rates": {"format": 0.9, "eos": 1.0}} for name, value in (("sft", 0.8), ("grpo", 0.9))}
    return {"passed": not failed, "failed": list(failed), "models": models}


def translator_evaluation(failed=()):
    return {"passed": not failed, "failed": list(failed), "chrfpp": 71.5, "stop_rate": 1.0, "hangul_rate": 0.0}


@pytest.fixture
def store(tmp_path):
    inputs = {}
    for name, stage in (
        ("model", "grpo_merge"),
        ("translator", "translator"),
        ("evaluate", "evaluate"),
        ("translator_eval", "translator_eval"),
    ):
        inputs[name] = tmp_path / "store" / stage / f"key-{name}"
        (inputs[name] / "model").mkdir(parents=True)
        (inputs[name] / "model" / "config.json").write_text("{}")
    (inputs["evaluate"] / "evaluation.json").write_text(json.dumps(evaluation()))
    (inputs["translator_eval"] / "evaluation.json").write_text(json.dumps(translator_evaluation()))
    return inputs


@pytest.fixture
def context(tmp_path):
    for name in ("out", "resume"):
        (tmp_path / name).mkdir()
    return StageContext(tmp_path / "out", tmp_path / "resume")


def test_character_names_models_by_stage_and_key(store, context):
    stats = publish_character(CONFIG, store, context)

    character = json.loads((context.out / "character.json").read_text(encoding="utf-8"))
    assert character["rp_model"] == {"stage": "grpo_merge", "key": "key-model"}
    assert character["translator"] == {"stage": "translator", "key": "key-translator"}
    assert character["card"]["name"] == "사야"
    assert character["card"]["register"] == "반말"
    assert character["gates"]["translator_eval"]["chrfpp"] == 71.5
    assert stats["rp_model"] == "grpo_merge/key-model"
    assert "71.5" in (context.out / "report.md").read_text(encoding="utf-8")


def test_refusal_lists_every_failed_gate_with_value_and_wanted(store, context):
    slow = {"gate": "grpo.eos_rate", "value": 0.4, "wanted": ">= 0.9", "why": "it must stop"}
    wrong = {"gate": "translator.chrfpp", "value": 31.2, "wanted": ">= 60", "why": "it must fit"}
    (store["evaluate"] / "evaluation.json").write_text(json.dumps(evaluation([slow])))
    (store["translator_eval"] / "evaluation.json").write_text(json.dumps(translator_evaluation([wrong])))

    with pytest.raises(GateError) as caught:
        publish_character(CONFIG, store, context)

    message = str(caught.value)
    assert "2 gates failed" in message
    assert "grpo.eos_rate is 0.4, wanted >= 0.9" in message
    assert "translator.chrfpp is 31.2, wanted >= 60" in message
    assert "llm.evaluate.gates" in message
    assert not list(context.out.iterdir())


def test_missing_evaluation_model_and_card_are_named(store, context):
    with pytest.raises(ConfigError, match="no card"):
        publish_character(PublishConfig(), store, context)
    (store["model"] / "model" / "config.json").unlink()
    with pytest.raises(ArtifactError, match="no model"):
        publish_character(CONFIG, store, context)
    (store["evaluate"] / "evaluation.json").write_text("not json")
    with pytest.raises(ArtifactError, match="no evaluation"):
        publish_character(CONFIG, store, context)
