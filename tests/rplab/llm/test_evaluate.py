"""Evaluation: numbers that mean what they say, gates that name what failed, the same bytes every time."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rplab.character import Register
from rplab.errors import DataError, StageInterrupted
from rplab.jsonl import write_rows
from rplab.llm.bootstrap import mean_interval, paired_gain
from rplab.llm.eval_config import DecodingConfig, EvalGates, EvaluateConfig
from rplab.llm.eval_metrics import failed_gates, judge, measure
from rplab.llm.evaluate import evaluate_models
from rplab.llm.generate import TextModel
from rplab.llm.nll import measure_nll
from rplab.llm.rewards import RewardContext
from rplab.llm.template_adoption import install_template
from rplab.stage import StageContext

CONFIG = EvaluateConfig(
    num_prompts=5, decoding=DecodingConfig(max_new_tokens=6), batch_size=3, bootstrap_samples=200, nll_rows=3, num_samples=2
)
SYSTEM = {"role": "system", "content": "당신은 하루다."}
GOOD = ['하루는 웃었다.\n"반가워."', '하루는 고개를 든다.\n"왔구나. 오늘은 조금 늦었네."', '하루는 손을 흔든다.\n"여기야, 여기!"']


def make_model(folder, seed):
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        GOOD, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    install_template(tokenizer)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, max_position_embeddings=192, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id, initializer_range=0.3,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluate")
    for seed, name in enumerate(("base", "sft", "grpo")):
        make_model(root / name / "model", seed)
    rows = [
        {
            "id": f"g-{number}",
            "prompt": "",
            "prompt_messages": [SYSTEM, {"role": "user", "content": f"안녕? {number}"}],
            "reference": GOOD[number % 3],
            "protagonist": "하루",
            "player": "카즈키",
            "register": "반말",
            "meta": {},
        }
        for number in range(8)
    ]
    views = root / "dataset" / "views"
    write_rows(views / "grpo" / "eval.jsonl", rows)
    write_rows(views / "grpo" / "train.jsonl", rows)
    dialogue = [*rows[0]["prompt_messages"], {"role": "assistant", "content": GOOD[0]}]
    write_rows(
        views / "sft2" / "eval.jsonl",
        [{"messages": [*dialogue, {"role": "user", "content": "응?"}, {"role": "assistant", "content": GOOD[2]}]}] * 2,
    )
    return {name: root / name for name in ("base", "sft", "grpo", "dataset")}


def run(config, inputs, root):
    for name in ("out", "resume"):
        (root / name).mkdir(parents=True, exist_ok=True)
    context = StageContext(root / "out", root / "resume")
    return evaluate_models(config, inputs, context), root / "out"


def test_three_random_models_are_compared_and_fail_the_gates(inputs, tmp_path):
    stats, out = run(CONFIG, inputs, tmp_path)

    evaluation = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert list(evaluation["models"]) == ["base", "sft", "grpo"]
    assert evaluation["passed"] is False
    assert {"gate", "value", "wanted", "why"} == set(evaluation["failed"][0])
    assert "grpo.format_rate" in stats["failed"]
    assert evaluation["models"]["sft"]["nll"]["turns"] == 4
    assert len(evaluation["models"]["sft"]["nll"]["per_turn"]) == 2
    assert len((out / "completions.jsonl").read_text(encoding="utf-8").splitlines()) == 15
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "| **mean reward** [95 %] |" in report
    assert "after GRPO" in report
    assert stats["prompts"] == 5


def test_same_models_give_the_same_bytes(inputs, tmp_path):
    _, first = run(CONFIG, inputs, tmp_path / "a")
    _, second = run(CONFIG, inputs, tmp_path / "b")

    for name in ("evaluation.json", "completions.jsonl", "report.md"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_too_few_prompts_are_all_used_and_reported(inputs, tmp_path):
    stats, out = run(CONFIG.model_copy(update={"num_prompts": 50}), {"grpo": inputs["grpo"], "dataset": inputs["dataset"]}, tmp_path)

    assert (stats["prompts"], stats["prompts_wanted"], stats["prompts_available"]) == (8, 50, 8)
    assert "only 8" in (out / "report.md").read_text(encoding="utf-8")


def test_stopped_run_keeps_finished_models(inputs, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "resume").mkdir()
    context = StageContext(tmp_path / "out", tmp_path / "resume", report=lambda p: context.stop.set() if "sft: 3 of" in p.message else None)

    with pytest.raises(StageInterrupted):
        evaluate_models(CONFIG, inputs, context)
    kept = [path.name for path in (tmp_path / "resume").iterdir()]
    _, resumed = run(CONFIG, inputs, tmp_path)
    _, whole = run(CONFIG, inputs, tmp_path / "whole")

    assert kept == ["base.json"]
    assert (resumed / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()


def test_long_prompts_lose_old_turns_and_are_counted(inputs, tmp_path):
    old = [{"role": "user", "content": "비가 와. " * 9}, {"role": "assistant", "content": "응. " * 20}]
    row = {
        "id": "long", "prompt_messages": [SYSTEM, *old, {"role": "user", "content": "안녕?"}], "reference": GOOD[0],
        "protagonist": "하루", "player": "카즈키", "register": "반말",
    }  # fmt: skip
    write_rows(tmp_path / "dataset" / "views" / "grpo" / "eval.jsonl", [row])

    stats, _ = run(CONFIG, {"base": inputs["base"], "dataset": tmp_path / "dataset"}, tmp_path / "run")

    assert stats["shortened"] == {"base": 1}


def test_no_prompts_is_a_data_error(inputs, tmp_path):
    (tmp_path / "views" / "grpo").mkdir(parents=True)
    (tmp_path / "views" / "grpo" / "eval.jsonl").write_text("")

    with pytest.raises(DataError, match="no held-out prompts"):
        run(CONFIG, {"base": inputs["base"], "dataset": tmp_path}, tmp_path / "run")


def test_loss_of_a_turn_is_what_the_model_says(inputs):
    model = TextModel.load(inputs["base"] / "model")
    messages = [SYSTEM, {"role": "user", "content": "안녕?"}, {"role": "assistant", "content": "응."}]
    prompt = model.encode(messages[:-1])
    reply = [*model.tokenizer("응.", add_special_tokens=False)["input_ids"], model.tokenizer.eos_token_id]

    logits = model.model(torch.tensor([prompt + reply])).logits[0].log_softmax(-1)
    wanted = -sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(reply)) / len(reply)

    assert measure_nll(model, [messages], 192)["mean"] == pytest.approx(wanted, abs=1e-4)


def judged(text, number=0, *, finished=True):
    context = RewardContext("하루", "카즈키", Register.CASUAL, "오늘 뭐 해?")
    return judge(str(number), text, finished=finished, num_tokens=9, context=context, reference="", config=EvaluateConfig())


def test_rates_count_replies():
    texts = [GOOD[0], GOOD[1], '하루는 웃었다.\n"반가워요."', "하루는 웃었다.", 'USER: 안녕\n"반가워."', ""]

    metrics = measure([judged(text, number, finished=number < 3) for number, text in enumerate(texts)], EvaluateConfig(), {})

    assert metrics.rates["format"] == pytest.approx(3 / 6)
    assert metrics.rates["register"] == pytest.approx(3 / 6)
    assert metrics.rates["name"] == pytest.approx(4 / 6)
    assert metrics.rates["leak"] == pytest.approx(1 / 6)
    assert metrics.rates["eos"] == pytest.approx(3 / 6)
    assert metrics.reward.low <= metrics.reward.mean <= metrics.reward.high


def test_good_model_passes_and_a_worse_one_after_grpo_does_not():
    good = measure([judged(text) for text in GOOD], EvaluateConfig(), {})
    bad = measure([judged(text) for text in (GOOD[0], "하루는 웃었다.", "응.")], EvaluateConfig(), {})

    assert failed_gates({"base": bad, "sft": good, "grpo": good}, EvalGates()) == []
    names = {gate["gate"] for gate in failed_gates({"sft": good, "grpo": bad}, EvalGates())}
    assert {"grpo.format_rate", "grpo.reward_gain"} <= names


def test_interval_holds_the_mean_and_narrows_with_more_values():
    few, many = mean_interval([0.0, 1.0] * 5, seed=1), mean_interval([0.0, 1.0] * 200, seed=1)

    assert few.low < few.mean == many.mean < few.high
    assert many.high - many.low < few.high - few.low
    assert mean_interval([0.0, 1.0] * 5, seed=1) == few
    assert paired_gain([0.1, 0.2], [0.2, 0.3], seed=1).low == pytest.approx(0.1)
