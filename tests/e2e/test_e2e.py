"""The pipeline under a real Prefect, as the README says: deploy, run, kill, retry, cancel, repair.

Everything is real: server, worker, command line, every stage on the tiny profile. One run goes through a SIGKILL in
the middle of the dialogues, a SIGKILL in the middle of training, a cancellation and a failure, and must end with the
bytes of a run that nothing happened to.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TINY = Path(__file__).parent / "tiny.yaml"
ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

_REFERENCE = """
import sys
from pathlib import Path
from rplab.pipeline import run_pipeline
from rplab.profile import load_profile
for outcome in run_pipeline(load_profile(sys.argv[1]), Path(sys.argv[2])):
    if outcome.name == "sft1":
        break
"""
"""The stages up to sft1, without Prefect and without anything happening to them."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "store"


def parameters(store: Path) -> dict[str, Any]:
    return {"profile": str(TINY), "store": str(store)}


def size_of(store: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in store.glob(pattern) if path.is_file())


def checkpoint(store: Path, stage: str) -> int:
    """Return the step of the newest checkpoint of an unfinished training stage; 0 without one."""
    found = store.glob(f"{stage}/.resume-*/checkpoints/checkpoint-*/complete.json")
    return max((int(path.parent.name.rpartition("-")[2]) for path in found), default=0)


def content(store: Path, stage: str) -> dict[str, bytes]:
    """Return every content file of a finished stage (not logs, not the manifest, which hold times)."""
    root = (store / "latest" / stage).resolve()
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "manifest.json" and not name.startswith("logs/")}


def test_bootstrap_is_idempotent(lab: Any) -> None:
    again = lab.run("python", "deployments/bootstrap.py")
    assert lab.bootstrap_output.count("created") == 3
    assert again.count("is there") == 3


def test_a_run_survives_kills_a_cancel_and_a_failure_with_equal_bytes(lab: Any, store: Path, tmp_path: Path) -> None:
    # given: the merge stage cannot write, since a file is where its folder should be
    store.mkdir()
    (store / "merge").write_text("in the way")
    run = lab.deployment_run("rp-full-pipeline", parameters(store))  # the literal short command

    # when the flow process is killed in the middle of the dialogues, a retry continues from the journal
    lab.wait_until(lambda: size_of(store, "dialogues/.resume-*/*") > 40_000, run=run)
    lab.kill_engine(run)
    assert not (store / "latest" / "dialogues").exists()
    lab.retry(run)

    # when it is killed in the middle of training, the training process sees it, saves and stops
    lab.wait_until(lambda: checkpoint(store, "sft1") >= 5, run=run)
    lab.kill_engine(run)
    lab.wait_until(lambda: training_processes(store) == [], 30)
    saved = checkpoint(store, "sft1")
    assert 5 <= saved < 100
    lab.retry(run)  # waits about a minute, until the server frees the GPU slot of the dead process

    # meanwhile the same stages are made in peace, in another store
    peace = tmp_path / "peace"
    subprocess.run([sys.executable, "-c", _REFERENCE, str(TINY), str(peace)], cwd=ROOT, env=lab.environment, check=True, timeout=240)

    # when it is cancelled in the middle of training, the checkpoint is saved before the process ends
    lab.wait_until(lambda: checkpoint(store, "sft2") >= 5, 200, run=run)
    lab.run("prefect", "flow-run", "cancel", run)
    assert lab.wait_for_end(run, 60) == "CANCELLED"
    lab.wait_until(lambda: training_processes(store) == [], 30)
    assert 5 <= checkpoint(store, "sft2") < 150

    # then the retry finishes the training, and fails where the folder cannot be made; the message says so
    lab.retry(run)
    assert lab.wait_for_end(run) == "FAILED"
    assert f"{store}/merge" in lab.get(f"/flow_runs/{run}")["state"]["message"]

    # when that is repaired, the retry completes the run; what was finished is cached
    (store / "merge").unlink()
    lab.retry(run)
    assert lab.wait_for_end(run) == "COMPLETED", lab.logs()
    cached = ["singleturn", "normalise", "scenarios", "dialogues", "dataset", "base", "sft1", "sft2"]
    made = ["merge", "grpo", "grpo_merge", "evaluate", "translator", "translator_eval"]
    made += ["voice_corpus", "voice_preprocess", "voice_train", "voice_export", "character"]
    assert lab.final_task_states(run, attempt=5) == {**dict.fromkeys(cached, "Cached"), **dict.fromkeys(made, "Completed")}

    # and nothing of all this is in the bytes
    for stage in ("dialogues", "dataset", "base", "sft1"):
        assert content(store, stage) == content(peace, stage), stage
    assert {"progress-dialogues", "progress-sft1", "report-sft1", "report-evaluate", "summary-tiny"} <= lab.artifacts(run).keys()


def test_a_second_run_is_cached(lab: Any, store: Path) -> None:
    run = lab.deployment_run("rp-full-pipeline", parameters(store))
    assert lab.wait_for_end(run, 90) == "COMPLETED"
    assert set(lab.final_task_states(run).values()) == {"Cached"}


def test_a_damaged_stage_alone_runs_again(lab: Any, store: Path) -> None:
    victim = store / "latest" / "scenarios" / "scenarios.jsonl"
    data = victim.read_bytes()
    victim.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])

    run = lab.deployment_run("rp-full-pipeline/rp-full-pipeline", parameters(store))

    assert lab.wait_for_end(run, 90) == "COMPLETED"
    states = lab.final_task_states(run)
    assert [name for name, state in states.items() if state != "Cached"] == ["scenarios"]
    assert victim.read_bytes() == data
    lab.wait_until(lambda: "scenarios.jsonl was changed" in lab.log_of(run), 30)  # the UI says why it ran


def test_wrong_parameters_end_with_a_message(lab: Any, store: Path) -> None:
    run = lab.deployment_run("rp-data", {"profile": "smok", "store": str(store)})
    assert lab.wait_for_end(run, 60) == "FAILED"
    assert "no profile is called 'smok'. Did you mean 'smoke'?" in lab.get(f"/flow_runs/{run}")["state"]["message"]
    shutil.rmtree(store)


def training_processes(store: Path) -> list[int]:
    """Return the training processes that work in a store."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"rplab.worker" in line and str(store).encode() in line:
            found.append(int(entry.name))
    return found
