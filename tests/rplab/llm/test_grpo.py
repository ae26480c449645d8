"""GRPO: rewards rise, prompts are bounded, a collapse is an error, and a killed run ends with the same bytes."""

import json
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest
from pydantic import ValidationError

from rplab.character import Register
from rplab.errors import ConfigError, DataError, ModelError, TrainingError
from rplab.llm.callbacks import CollapseDetector
from rplab.llm.config import GrpoConfig, RelevanceSettings
from rplab.llm.grpo import load_prompts, reward_functions, reward_stats, train_grpo
from rplab.llm.grpo_start import choose_start
from rplab.llm.precision import load_tokenizer, model_folder
from rplab.llm.relevance import make_relevance
from rplab.llm.rewards import TERMS, RewardContext
from rplab.llm.rows import view_path
from rplab.llm.samples import SampleFile

ENTRY = "rplab.llm.grpo:train_grpo"
SMALL = {
    "lora": {"rank": 16, "alpha": 32, "dropout": 0.0}, "prompts_per_step": 4, "num_generations": 8, "micro_batch": 32,
    "max_prompt_tokens": 300, "max_completion_tokens": 48, "optimiser": {"learning_rate": 5e-3}, "beta": 0.002,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return load_tokenizer(model_folder(tiny))


def context(**changes):
    return RewardContext("사야", "카즈키", Register.CASUAL, "비가 오네. 같이 걸을래?", **({"min_chars": 10, "max_chars": 60} | changes))


@pytest.mark.slow
def test_grpo_raises_the_reward_of_an_untuned_base(stages, toy, tiny):
    # a slow warm-up leaves the first ten steps close to the untuned policy
    changes = {"max_steps": 70, "save_steps": 100, "optimiser": {"learning_rate": 5e-3, "warmup": 0.3}, "beta": 0.0005}
    config = GrpoConfig.model_validate({**SMALL, **changes})

    folder, stats = stages.run("grpo", train_grpo, config, {"model": tiny, "dataset": toy})

    assert stats["reward_gain"] >= 0.15
    assert stats["reward_gain_interval"][0] > 0
    assert set(stats["terms"]) == set(TERMS)
    samples = [json.loads(line) for line in (folder / "completions.jsonl").read_text().splitlines()]
    assert len(samples) == config.logged_completions
    assert samples[-1]["step"] == 70
    assert json.loads((folder / "adapter" / "lineage.json").read_text())["precision"] == "bf16"


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes(stages, toy, merged):
    config = GrpoConfig.model_validate({**SMALL, "max_steps": 5, "save_steps": 2, "max_completion_tokens": 24})
    inputs = {"model": merged[0], "dataset": toy}
    whole, _ = stages.run("whole", train_grpo, config, inputs)

    killed = stages.run_killed("killed", ENTRY, config, inputs, kill_at=3)

    for name in (
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "adapter/lineage.json",
        "completions.jsonl",
        "probe.jsonl",
    ):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_long_prompts_lose_their_oldest_exchanges_and_are_counted(tokenizer, tmp_path):
    system = {"role": "system", "content": "「사야」"}
    talk = [
        m for i in range(9) for m in ({"role": "user", "content": f"비가 오네 {i}"}, {"role": "assistant", "content": "사야는 웃는다."})
    ]
    last = {"role": "user", "content": "같이 걸을래?"}
    columns = {"protagonist": "사야", "player": "카즈키", "register": "반말", "reference": '사야는 웃는다.\n"응."'}
    path = view_path(tmp_path, "grpo", "train")
    path.parent.mkdir(parents=True)
    rows = [
        {"prompt_messages": [system, *talk, last], **columns},
        {"prompt_messages": [system, last], **columns},
        {"prompt_messages": [system, {"role": "user", "content": "비" * 400}], **columns},
        {"prompt_messages": [system, last, {"role": "assistant", "content": "x"}], **columns},
        {"prompt_messages": [system, last], **columns, "register": "정중"},
        {"prompt": "USER: 안녕", **columns},
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    loaded = load_prompts(path, tokenizer, GrpoConfig(max_prompt_tokens=120))

    assert loaded.tally.as_stats() == {
        "read": 6, "kept": 2, "shortened": 1, "dropped": {"no_columns": 1, "no_messages": 1, "no_prompt": 1, "too_long": 1},
    }  # fmt: skip
    shortened = loaded.rows[0].messages
    assert shortened[0] == system
    assert shortened[-1] == last
    assert shortened[1]["role"] == "user"
    assert loaded.rows[0].context.max_chars == len(columns["reference"])


def test_rewards_see_special_tokens_and_the_speech_level(tokenizer, stages):
    config = GrpoConfig()
    functions = {f.__name__: f for f in reward_functions(config, tokenizer, SampleFile(stages.context("x"), 0, 1))}
    replies = ['사야는 고개를 든다.\n"기다렸어."', '사야는 고개를 든다.<|im_start|>\n"기다렸어."', '사야는 고개를 든다.\n"기다렸어요."']
    ids = [[*tokenizer(reply)["input_ids"], tokenizer.eos_token_id] for reply in replies]
    columns = [json.loads(json.dumps(asdict(context())))] * 3

    class State:
        global_step = 0

    scores = {name: function(completion_ids=ids, context=columns, trainer_state=State()) for name, function in functions.items()}

    assert scores["format"][0] == 1.0
    assert scores["role"][0] > scores["role"][1]
    assert scores["character"][0] > scores["character"][2]


@pytest.mark.parametrize(
    ("logs", "match"),
    [
        ({"frac_reward_zero_std": 1.0, "completions/clipped_ratio": 0.0, "reward": 0.5}, "earned the same"),
        ({"frac_reward_zero_std": 0.0, "completions/clipped_ratio": 1.0, "reward": 0.5}, "cut off at max_completion_tokens"),
    ],
)
def test_a_collapse_ends_the_run_with_the_reason(logs, match):
    detector = CollapseDetector(patience=3)

    class State:
        global_step = 7

    healthy = {"frac_reward_zero_std": 0.2, "completions/clipped_ratio": 0.1, "reward": 0.5}
    for row in (logs, logs, healthy, logs, logs):
        detector.on_log(None, State(), None, row)
    with pytest.raises(TrainingError, match=match):
        detector.on_log(None, State(), None, logs)


def test_reward_stats_compare_the_first_and_the_last_steps():
    def step(reward):
        terms = {f"rewards/{name}/mean": reward for name in TERMS}
        rest = {"completions/clipped_ratio": 0.0, "completions/mean_length": 20.0, "frac_reward_zero_std": 0.0, "entropy": 1.0}
        return {"reward": reward, **terms, **rest}

    stats = reward_stats([step(0.5 + index / 100) for index in range(40)], seed=1)

    assert stats["reward_first"] == pytest.approx(0.545)
    assert stats["reward_gain"] == pytest.approx(0.3)
    assert stats["reward_gain_interval"][0] < 0.3 < stats["reward_gain_interval"][1]
    assert stats["kl_last"] is None


@pytest.mark.parametrize(
    "settings", [{"micro_batch": 7}, {"length_band": (50, 20)}, {"temperature": 0.7}, {"num_generations": 1}, {"max_prompt_length": 5}]
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ValidationError):
        GrpoConfig.model_validate(settings)


def test_a_missing_model_is_named(stages, toy):
    with pytest.raises(ModelError, match="nowhere"):
        stages.run("x", train_grpo, GrpoConfig(), {"model": stages.root / "nowhere", "dataset": toy})


def test_a_missing_view_is_named(stages, tiny):
    with pytest.raises(DataError, match="grpo"):
        stages.run("x", train_grpo, GrpoConfig(), {"model": tiny, "dataset": stages.root})


@pytest.mark.slow
def test_a_small_card_goes_on_with_the_adapter_of_stage_2(stages, toy, tiny, tuned, merged, monkeypatch, caplog):
    from rplab.llm import grpo_start
    from rplab.llm.config import MergeConfig
    from rplab.llm.lineage import read_lineage
    from rplab.llm.merge import merge_adapter

    caplog.set_level("INFO")
    monkeypatch.setattr(grpo_start, "free_memory", lambda: (1 << 20, "a small card"))
    config = GrpoConfig.model_validate({**SMALL, "max_steps": 2, "max_completion_tokens": 16, "beta": 0.01})
    inputs = {"model": merged[0], "dataset": toy, "base": tiny, "adapter": tuned[0]}

    folder, stats = stages.run("grpo", train_grpo, config, inputs)

    assert stats["start"] == "adapter"
    assert "going on with the adapter of stage 2" in caplog.text
    lineage, before = read_lineage(folder / "adapter"), read_lineage(tuned[0] / "adapter")
    assert (lineage.base, lineage.precision) == (before.base, "nf4")
    assert lineage.parent
    stages.run("grpo_merge", merge_adapter, MergeConfig(), {"base": merged[0], "other_base": tiny, "adapter": folder})


def test_where_to_start_says_what_is_missing(stages, toy, tiny, tuned, merged):
    with pytest.raises(ConfigError, match="needs --adapter and --base"):
        choose_start(GrpoConfig(start="adapter", precision="nf4"), {"model": merged[0], "dataset": toy})
    with pytest.raises(ModelError, match="trained on another base"):
        choose_start(GrpoConfig(start="adapter", precision="nf4"), {"base": merged[0], "adapter": tuned[0]})
    assert choose_start(GrpoConfig(), {"model": merged[0]}).kind == "merged"


class Endpoint(BaseHTTPRequestHandler):
    """Speaks enough of OpenAI's protocol: a text's embedding is its letters, a judge likes every reply with a question."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/embeddings"):
            vectors = [[float(text.count(letter)) for letter in "가나다라비우산오네요사과"] for text in body["input"]]
            data = {
                "object": "list",
                "model": "m",
                "data": [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)],
            }
        else:
            content = "점수: 8" if "?" in body["messages"][0]["content"].split("대답:")[-1] else "2"
            data = {
                "id": "1", "object": "chat.completion", "created": 0, "model": "m",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
            }  # fmt: skip
        answer = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_relevance_is_asked_of_an_endpoint(endpoint, tokenizer, stages):
    user = "비가 오네"
    replies = ["우산 가져가요, 비 오네", "사과", user]
    embedding = make_relevance(RelevanceSettings(kind="embedding", base_url=endpoint, model="m"))([user] * 3, replies)
    judge = make_relevance(RelevanceSettings(kind="judge", base_url=endpoint, model="m"))([user] * 2, ["왜 그래?", "응."])

    assert embedding[0] > 0.8
    assert embedding[1:] == [0.0, 0.0]
    assert judge == [0.8, 0.2]
    settings = {"kind": "judge", "base_url": endpoint, "model": "m"}
    config = GrpoConfig.model_validate({"relevance": settings})
    functions = reward_functions(config, tokenizer, SampleFile(stages.context("x"), 0, 1))
    assert [function.__name__ for function in functions] == [*TERMS, "relevance"]


def test_an_endpoint_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("rplab.llm.relevance.OpenAI", lambda **options: openai.OpenAI(**{**options, "max_retries": 0}))
    ask = make_relevance(RelevanceSettings(kind="embedding", base_url="http://127.0.0.1:9/v1", model="m"))

    with pytest.raises(TrainingError, match=r"127\.0\.0\.1:9/v1 does not answer"):
        ask(["a"], ["b"])
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        make_relevance(RelevanceSettings(kind="judge", base_url="http://x", model="m", api_key_env="NO_SUCH_KEY"))
