"""The translator is trained, merged, and usable from its folder alone; a stopped run ends with the same bytes."""

import itertools
import json
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rplab.artifact import content_digest, list_files
from rplab.errors import DataError, StageInterrupted
from rplab.jsonl import write_rows
from rplab.llm.config import LoraSettings, OptimiserSettings
from rplab.llm.template import IGNORED
from rplab.llm.template_adoption import install_template
from rplab.stage import StageContext
from rplab.translator.config import TranslatorConfig, TranslatorEvalConfig, TranslatorGates
from rplab.translator.evaluate import evaluate_translator
from rplab.translator.prompt import TranslationPrompt
from rplab.translator.train import load_pairs, pack_pairs, train_translator

PLACES = [("항구에서", "港で"), ("서점에서", "本屋で"), ("정원에서", "庭で"), ("시장에서", "市場で")]
DEEDS = [("책을 읽어", "本を読む"), ("차를 마셔", "茶を飲む"), ("노래를 불러", "歌を歌う"), ("별을 봐", "星を見る")]
POLITE = {"本を読む": "本を読みます", "茶を飲む": "茶を飲みます", "歌を歌う": "歌を歌います", "星を見る": "星を見ます"}
PAIRS = [(f"{p} {d}.", f"{pj}{dj}。") for p, pj in PLACES for d, dj in DEEDS]
PAIRS += [(f"{p} {d}요.", f"{pj}{POLITE[dj]}。") for p, pj in PLACES for d, dj in DEEDS]
CONFIG = TranslatorConfig(
    precision="fp32", lora=LoraSettings(rank=8, alpha=16), max_length=256, rows_per_step=2, accumulation_steps=1, max_steps=6, save_steps=2,
    eval_rows=4, optimiser=OptimiserSettings(learning_rate=3e-3),
)  # fmt: skip


def make_tokenizer(folder):
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [text for pair in PAIRS for text in pair]
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    install_template(tokenizer)
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_view(dataset, side, pairs):
    write_rows(dataset / "views" / "translation" / f"{side}.jsonl", [{"instruction": "", "input": ko, "output": ja} for ko, ja in pairs])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("translator")
    tokenizer = make_tokenizer(root / "base" / "model")
    torch.manual_seed(5)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, max_position_embeddings=256, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(root / "base" / "model")
    write_view(root / "dataset", "train", [*PAIRS[:28], ("응.", "응。"), ("응.", "  "), ("abc", "えー。")])
    write_view(root / "dataset", "eval", PAIRS[28:])
    return {"base": root / "base", "dataset": root / "dataset"}


def make_context(root, report=lambda _: None):
    for name in ("out", "resume"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return StageContext(root / "out", root / "resume", report)


@pytest.fixture(scope="module", params=["lora", "full"])
def config(request):
    return CONFIG.model_copy(update={"method": request.param})


@pytest.fixture(scope="module")
def trained(inputs, config, tmp_path_factory):
    context = make_context(tmp_path_factory.mktemp("trained"))
    return context.out, train_translator(config, inputs, context)


def test_training_learns_and_counts_what_it_drops(trained):
    _, stats = trained

    assert stats["train_pairs"] == {"read": 31, "kept": 28, "dropped": {"empty": 1, "hangul_in_japanese": 1, "no_korean": 1}}
    assert stats["eval_loss_after"] < stats["eval_loss_before"]
    assert stats["steps"] == 6


def test_answer_is_learnt_with_its_end_of_turn_and_the_prompt_is_not(inputs, tmp_path):
    tokenizer = make_tokenizer(tmp_path)

    example = load_pairs(inputs["dataset"] / "views" / "translation" / "train.jsonl", tokenizer, TranslationPrompt(), 256).examples[0]

    learnt = [label for label in example.labels if label != IGNORED]
    assert learnt[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(learnt[:-1]) == PAIRS[0][1]
    inference = tokenizer.apply_chat_template(TranslationPrompt().messages(PAIRS[0][0]), add_generation_prompt=True)["input_ids"]
    assert example.input_ids[: len(inference)] == inference


def test_folder_alone_translates_and_evaluation_reports(trained, inputs, tmp_path):
    shutil.copytree(trained[0], tmp_path / "moved")
    for name in ("out", "resume"):
        (tmp_path / name).mkdir()
    gates = TranslatorGates(min_chrfpp=99)

    stats = evaluate_translator(
        TranslatorEvalConfig(gates=gates, max_new_tokens=24, bootstrap_samples=100, num_shipped=6),
        {"translator": tmp_path / "moved", "dataset": inputs["dataset"]},
        StageContext(tmp_path / "out", tmp_path / "resume"),
    )

    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert stats["pairs"] == evaluation["pairs"] == 4
    assert evaluation["passed"] is False
    assert evaluation["failed"][0]["gate"] == "translator.chrfpp"
    assert evaluation["failed"][0]["wanted"] == ">= 99"
    assert len((tmp_path / "out" / "translations.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    assert evaluation["shipped"]["lines"] == 6
    assert len((tmp_path / "out" / "shipped.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    assert "Shipped set (6 lines" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "200 pairs were wanted" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_stopped_training_goes_on_to_the_same_bytes(trained, config, inputs, tmp_path):
    def stop_at_third(progress):
        if progress.done == 3:
            stopped.stop.set()

    stopped = make_context(tmp_path, stop_at_third)
    with pytest.raises(StageInterrupted):
        train_translator(config, inputs, stopped)
    train_translator(config, inputs, make_context(tmp_path))

    assert content_digest(list_files(tmp_path / "out")) == content_digest(list_files(trained[0]))


KILLED = """
import json, os, signal, sys
from pathlib import Path
from rplab.stage import StageContext
from rplab.translator.config import TranslatorConfig
from rplab.translator.train import train_translator

spec = json.loads(sys.argv[1])
die = lambda progress: os.kill(os.getpid(), signal.SIGKILL) if progress.done == spec["kill_at"] else None
context = StageContext(Path(spec["out"]), Path(spec["resume"]), die)
train_translator(TranslatorConfig.model_validate(spec["config"]), {name: Path(path) for name, path in spec["inputs"].items()}, context)
"""


@pytest.mark.slow
def test_killed_training_goes_on_to_the_same_bytes(trained, config, inputs, tmp_path):
    context = make_context(tmp_path)
    spec = {
        "out": str(context.out), "resume": str(context.resume), "config": config.model_dump(mode="json"), "kill_at": 5,
        "inputs": {name: str(path) for name, path in inputs.items()},
    }  # fmt: skip

    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(spec)], check=False)
    checkpoints = sorted(path.name for path in (context.resume / "checkpoints").iterdir())
    train_translator(config, inputs, context)

    assert killed.returncode == -signal.SIGKILL
    assert "checkpoint-4" in checkpoints
    assert content_digest(list_files(context.out)) == content_digest(list_files(trained[0]))


def test_packed_rows_hold_whole_pairs_and_every_pair(inputs, tmp_path):
    examples = load_pairs(
        inputs["dataset"] / "views" / "translation" / "train.jsonl", make_tokenizer(tmp_path), TranslationPrompt(), 256
    ).examples

    rows = pack_pairs(examples, CONFIG.model_copy(update={"max_steps": None, "epochs": 3}))

    tokens = sum(len(example.input_ids) for example in examples)
    assert len(rows) == round(3 * tokens / 512)
    assert all(row.ids.shape[1] <= 512 for row in rows)
    starts = {tuple(row.ids[0, a:b].tolist()) for row in rows for a, b in itertools.pairwise(row.borders.tolist())}
    assert starts == {tuple(example.input_ids) for example in examples}


def test_view_without_usable_pairs_is_an_error(tmp_path):
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    write_view(tmp_path, "train", [("응.", "응。")])

    with pytest.raises(DataError, match=r"no usable pair \(hangul_in_japanese 1\)"):
        load_pairs(tmp_path / "views" / "translation" / "train.jsonl", tokenizer, TranslationPrompt(), 256)
    write_rows(tmp_path / "bad.jsonl", [{"input": "응."}])
    with pytest.raises(DataError, match=r"bad\.jsonl:1: input and output"):
        load_pairs(tmp_path / "bad.jsonl", tokenizer, TranslationPrompt(), 256)
