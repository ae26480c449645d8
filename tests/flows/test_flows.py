"""The flows walk the real table of stages in an order that works; the stages themselves are imitated here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import rplab.pipeline
from flows.data import data
from flows.full import full
from flows.rp_model import rp_model
from flows.translator import translator
from flows.voice import voice
from rplab.errors import ConfigError, DataError
from rplab.pipeline import NODES
from rplab.stage import Stage
from tasks.script import run_as_script

pytestmark = pytest.mark.usefixtures("prefect_server", "imitated")

ALL = [node.name for node in NODES]


class Lab:
    """A store, and what was really run in it."""

    def __init__(self, root: Path) -> None:
        self.store = str(root / "store")
        self.calls_file, self.faults_file = root / "calls.txt", root / "faults.txt"
        self.calls_file.write_text("")
        self.faults_file.write_text("")

    def calls(self) -> list[str]:
        """Return the stages that ran since the last look."""
        names = self.calls_file.read_text().split()
        self.calls_file.write_text("")
        return names


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    found = Lab(tmp_path)
    monkeypatch.setenv("RPLAB_TEST_CALLS", str(found.calls_file))
    monkeypatch.setenv("RPLAB_TEST_FAULTS", str(found.faults_file))
    return found


@pytest.fixture
def imitated(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from rplab_fake_stages import ImitateConfig

    def imitate(node: rplab.pipeline.Node) -> rplab.pipeline.Node:
        stage = Stage(node.name, 1, "rplab_fake_stages:imitate", ImitateConfig, gpu=node.stage.gpu)
        return dataclasses.replace(node, stage=stage, config=lambda profile: ImitateConfig(name=node.name, style=profile.description))

    monkeypatch.setattr(rplab.pipeline, "NODES", tuple(imitate(node) for node in NODES))


def test_full_makes_every_stage_once_and_then_everything_is_cached(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_as_script(full, ["--store", lab.store]) == 0
    assert sorted(lab.calls()) == sorted(ALL)
    first = capsys.readouterr()
    assert [line.split()[0] for line in first.out.splitlines()[: len(ALL)]] == ALL
    assert "chrF++ 71.5 on 12 held-out pairs" in first.out
    assert first.err == ""

    assert run_as_script(full, ["--store", lab.store]) == 0
    assert lab.calls() == []
    lines = capsys.readouterr().out.splitlines()[: len(ALL)]
    assert [line.split()[1] for line in lines] == ["cached"] * len(ALL)


def test_the_other_flows_share_the_store(lab: Lab) -> None:
    data(store=lab.store)
    assert lab.calls() == ["singleturn", "normalise", "scenarios", "dialogues", "judge", "dataset"]
    rp_model(store=lab.store)
    assert lab.calls() == ["base", "sft1", "sft2", "merge", "grpo", "grpo_merge", "evaluate"]
    made = translator(store=lab.store)
    assert lab.calls() == ["translator", "translator_eval"]
    assert set(made) == {"singleturn", "normalise", "scenarios", "dialogues", "judge", "dataset", "base", "translator", "translator_eval"}
    voice(store=lab.store)
    assert lab.calls() == ["voice_corpus", "voice_preprocess", "voice_train", "voice_export"]
    full(store=lab.store)
    assert lab.calls() == ["character"]


def test_translator_flow_makes_what_it_needs(lab: Lab) -> None:
    translator(store=lab.store)
    assert lab.calls()[-3:] == ["base", "translator", "translator_eval"]


def test_changed_profile_and_going_back(lab: Lab) -> None:
    data(store=lab.store)
    before = (Path(lab.store) / "latest" / "dataset").resolve()
    lab.calls()
    data(store=lab.store, overrides=["description=other"])
    assert len(lab.calls()) == 6

    data(store=lab.store)

    assert lab.calls() == []
    assert (Path(lab.store) / "latest" / "dataset").resolve() == before


def test_force_runs_that_stage_only(lab: Lab) -> None:
    data(store=lab.store)
    lab.calls()
    data(store=lab.store, force=["scenarios"])
    assert lab.calls() == ["scenarios"]


def test_retry_does_not_force_a_second_time(lab: Lab) -> None:
    data(store=lab.store)
    lab.calls()
    lab.faults_file.write_text("normalise:data")

    data.with_options(retries=1)(store=lab.store, force=["singleturn", "normalise"])

    assert lab.calls() == ["singleturn", "normalise", "normalise"]


def test_wrong_names_are_the_users_errors(lab: Lab) -> None:
    with pytest.raises(ConfigError, match="no stage is called 'sft9'"):
        data(store=lab.store, force=["sft9"])
    with pytest.raises(ConfigError, match="no profile is called 'smok'"):
        data(store=lab.store, profile="smok")


def test_failing_stage_gives_its_message_and_exit_code_only(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.faults_file.write_text("dialogues:data")

    assert run_as_script(data, ["--store", lab.store]) == 2

    seen = capsys.readouterr()
    assert seen.err == "rplab: rows.jsonl:3: broken row\n"
    assert [line.split()[0] for line in seen.out.splitlines()] == ["singleturn", "normalise", "scenarios"]
    lab.faults_file.write_text("dialogues:data")
    with pytest.raises(DataError):  # the flow itself raises what the stage raised
        data(store=lab.store)


def test_summary_is_left_in_prefect(lab: Lab) -> None:
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    full(store=lab.store)

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["summary-smoke"])))
    newest = str(max(found, key=lambda item: str(item.created)).data)
    assert all(f"| {name} | " in newest for name in ALL)
    assert "chrF++ 71.5" in newest
