"""A profile with `data.shards`: parts in processes of their own, the same artefacts as without, the same keys."""

import json
import threading

import pytest

from rplab.backend.config import OpenAIConfig
from rplab.errors import ConfigError, StageInterrupted
from rplab.pipeline import find_node, make_request, run_pipeline
from rplab.profile import load_profile
from rplab.shards import hand_over_parts, run_parts, split_request
from rplab.stage import run_stage

SMALL = (
    "data.singleturn.target_rows=24",
    "data.singleturn.max_attempts=2",
    "data.singleturn.backend.kind=scripted",
    "data.singleturn.backend.p_error=0.15",
)


def _request(tmp_path, *overrides, stage="singleturn"):
    profile = load_profile("smoke", (*SMALL, *overrides))
    return make_request(find_node(stage), profile, {}, tmp_path)


def _files(artifact):
    return {path.name: path.read_bytes() for path in artifact.path.iterdir() if path.name not in ("manifest.json",) and path.is_file()}


def test_a_stage_made_in_parts_is_the_stage_made_at_once(tmp_path):
    whole = run_stage(*_stage(_request(tmp_path / "whole")))
    request = _request(tmp_path / "parts")
    parts = split_request(request, 2)
    seen = []

    made = run_parts(parts, lambda name, _: seen.append(name), None)
    hand_over_parts(made, request)
    joined = run_stage(*_stage(request))

    assert request.key == whole.artifact.key
    assert joined.artifact.digest == whole.artifact.digest
    assert _files(joined.artifact) == _files(whole.artifact)
    assert [part.label for part in parts] == ["singleturn_shard 1/2", "singleturn_shard 2/2"]
    assert split_request(request, 2) == []  # it is there
    assert sum(json.loads((part.path / "usage.json").read_text())["singleturn"]["answers"] for part in made) > 0


def _stage(request):
    return request.stage, request.config, request.inputs, request.store


def test_shards_change_no_key_and_share_the_budget(tmp_path):
    assert _request(tmp_path).key == _request(tmp_path, "data.shards=4").key
    request = _request(tmp_path)
    endpoint = OpenAIConfig(model="m", base_url="http://127.0.0.1:9/v1", budget_tokens=1000, budget_usd=2.0, price_input_usd=1)
    config = request.config.model_copy(update={"backend": endpoint})
    parts = split_request(type(request)(request.stage, config, {}, tmp_path), 4)
    assert [(part.config.backend.budget_tokens, part.config.backend.budget_usd) for part in parts] == [(250, 0.5)] * 4
    assert split_request(_request(tmp_path), 1) == []
    assert len({part.key for part in parts}) == 4


def test_a_part_that_fails_ends_the_run_with_its_own_message(tmp_path):
    request = _request(tmp_path, "data.singleturn.backend.p_error=0", "data.singleturn.genres=[없는 장르]")
    with pytest.raises(ConfigError, match="없는 장르"):
        run_parts(split_request(request, 2), lambda *_: None, None)


def test_a_stop_reaches_the_parts(tmp_path):
    request = _request(tmp_path, "data.singleturn.target_rows=4000", "data.singleturn.backend.latency_ms=200")
    stop = threading.Event()

    def ask_for_an_end(_name, _progress):
        stop.set()

    with pytest.raises(StageInterrupted):
        run_parts(split_request(request, 2), ask_for_an_end, stop)


def test_the_pipeline_makes_the_parts_when_the_profile_asks_for_them(tmp_path):
    profile = load_profile("smoke", (*SMALL, "data.shards=2"))

    outcome = next(run_pipeline(profile, tmp_path))

    assert outcome.name == "singleturn"
    assert len([path for path in (tmp_path / "singleturn_shard").iterdir() if not path.name.startswith(".")]) == 2
    assert outcome.run.manifest.stats["accepted"] == 24
