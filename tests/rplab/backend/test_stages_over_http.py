"""The generation stages through HTTP: whatever the server does, the same rows, each counted, nothing asked twice."""

import importlib.util
import json
import random
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from rplab.backend.dialect import Dialect
from rplab.errors import BackendError

HERE = Path(__file__).parent
SCRIPT = HERE / "stage_over_http.py"


@contextmanager
def mock_process(*options):
    """Run the mock server in its own process and return its address."""
    server = subprocess.Popen([sys.executable, str(HERE / "mock_server.py"), *options], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    finally:
        server.kill()
        server.wait()


def stats_of(url):
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answer:
        return json.load(answer)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*.jsonl"))}


@pytest.fixture
def stages(monkeypatch):
    """Return the module that runs stages, with slots on the wire."""
    spec = importlib.util.spec_from_file_location("rplab_stage_over_http", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(Dialect, "body", module.body_with_slots)
    return module


def test_faults_of_the_server_cost_no_row_and_leave_no_trace(stages, tmp_path):
    with mock_process() as url:
        calm = stages.run(url, tmp_path / "calm", 24, 6)
    with mock_process("--p429", "0.05", "--p429-bare", "0.03", "--p500", "0.05", "--p-disconnect", "0.03", "--p-garbage", "0.03") as url:
        stormy = stages.run(url, tmp_path / "stormy", 24, 6)

    assert calm == stormy
    assert files_of(tmp_path / "calm") == files_of(tmp_path / "stormy")
    assert calm["singleturn"]["accepted"] == 24
    assert calm["scenarios"]["accepted"] == 6
    for stats in calm.values():
        assert stats["planned"] == stats["accepted"] + sum(stats["rejected"].values()) + sum(stats["failed"].values())


def test_bad_answers_are_counted_and_never_kept(stages, tmp_path):
    with mock_process("--p-empty", "0.1", "--p-broken-json", "0.1", "--p-refused", "0.05", "--p-cut", "0.1") as url:
        stats = stages.run(url, tmp_path, 50, 0)["singleturn"]

    rows = [json.loads(line) for line in (tmp_path / "singleturn" / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == stats["accepted"] == 50
    assert all(row["user"].strip() and row["assistant_raw"].strip() for row in rows)
    assert {"empty_answer", "no_json", "content_filter", "cut_by_length"} <= set(stats["refused_attempts"])


def test_killed_at_any_moment_it_goes_on_and_asks_little_twice(tmp_path):
    arguments = ["120", "0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with mock_process("--latency-ms", "30") as url:
        subprocess.run([sys.executable, str(SCRIPT), url, str(whole), *arguments], check=True, stdout=subprocess.DEVNULL)
        needed = stats_of(url)["distinct"]
    moments = random.Random(5)
    kills = 0
    with mock_process("--latency-ms", "30", "--p429", "0.05") as url:
        for share in sorted(moments.uniform(0.05, 0.9) for _ in range(2)):
            run = subprocess.Popen([sys.executable, str(SCRIPT), url, str(killed), *arguments], stdout=subprocess.DEVNULL)
            while stats_of(url)["distinct"] < share * needed and run.poll() is None:
                time.sleep(0.01)
            run.kill()
            kills += run.wait() == -9
        last = subprocess.run([sys.executable, str(SCRIPT), url, str(killed), *arguments], check=True, stdout=subprocess.PIPE)
        seen = stats_of(url)

    assert kills == 2
    assert files_of(whole) == files_of(killed)
    assert seen["distinct"] == needed
    assert seen["twice"] <= kills * 16  # in flight at the most
    for stats in json.loads(last.stdout).values():
        assert stats["planned"] == stats["accepted"] + sum(stats["rejected"].values()) + sum(stats["failed"].values())


def test_a_run_that_met_its_budget_goes_on_with_a_larger_one(stages, tmp_path):
    prices = {"price_input_usd": 1.0, "price_output_usd": 1.0}
    with mock_process() as url:
        stages.run(url, tmp_path / "whole", 60, 0)
        used = stats_of(url)["answered"]
    with mock_process() as url:
        with pytest.raises(BackendError, match="budget of"):
            stages.run(url, tmp_path / "poor", 60, 0, budget_usd=0.004, **prices)
        first = stats_of(url)["answered"]
        with pytest.raises(BackendError, match="budget of"):  # what was spent before counts
            stages.run(url, tmp_path / "poor", 60, 0, budget_usd=0.004, **prices)
        assert 0 < first == stats_of(url)["answered"] < used
        stages.run(url, tmp_path / "poor", 60, 0, budget_usd=9.0, **prices)
        assert stats_of(url)["answered"] == used

    assert files_of(tmp_path / "whole") == files_of(tmp_path / "poor")
    usage = json.loads((tmp_path / "poor" / "singleturn" / "logs" / "usage.json").read_text())
    assert usage["spent_usd"] > 0.004
