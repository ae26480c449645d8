"""What Prefect is told about a stage: its key, its record, when to try again. No server needed."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.serializers import Serializer
from prefect.states import Failed
from pydantic import ValidationError

from rplab import errors
from rplab.artifact import Artifact, Damage
from rplab.errors import (
    BackendError,
    ConfigError,
    DataError,
    GateError,
    LabError,
    ModelError,
    RefusedError,
    StageInterrupted,
    StorageError,
    TrainingError,
)
from rplab.execute import Request
from rplab.stage import Stage, StageConfig, StageContext, Stats, run_stage, stage_key
from tasks.stage import ArtifactSerializer, StagePolicy, is_transient, run_stage_task, stage_task


class WordsConfig(StageConfig):
    words: int = 2


def write_words(config: WordsConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    (context.out / "words.txt").write_text("word " * config.words)
    return {"rows": config.words}


STAGE = Stage("words", 1, f"{__name__}:write_words", WordsConfig)


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.setattr(Stage, "load", lambda _: write_words)
    return run_stage(STAGE, WordsConfig(), {}, tmp_path / "store").artifact


def key_of(request: Request) -> str:
    return StagePolicy().compute_key(task_ctx=None, inputs={"request": request}, flow_parameters={"profile": "x"})  # type: ignore[arg-type]


def test_key_is_the_key_of_the_store(artifact: Artifact, tmp_path: Path) -> None:
    config = WordsConfig(words=5)
    request = Request(STAGE, config, {"before": artifact}, tmp_path)
    assert key_of(request) == f"words-{stage_key(STAGE, config, {'before': artifact})}"
    assert run_stage_task.cache_policy == StagePolicy()


def test_key_ignores_where_and_how_but_not_what(artifact: Artifact, tmp_path: Path) -> None:
    request = Request(STAGE, WordsConfig(), {"before": artifact}, tmp_path)
    moved = artifact.model_copy(update={"path": Path("/elsewhere")})
    other = artifact.model_copy(update={"digest": "0" * 64})
    assert key_of(request) == key_of(Request(STAGE, WordsConfig(), {"before": moved}, tmp_path / "x", force=True))
    assert key_of(request) != key_of(Request(STAGE, WordsConfig(), {"before": other}, tmp_path))
    assert key_of(request) != key_of(Request(STAGE, WordsConfig(words=3), {"before": artifact}, tmp_path))


def test_two_stages_with_equal_config_have_different_records(tmp_path: Path) -> None:
    twin = Stage("twin", 1, STAGE.entry, WordsConfig)
    assert key_of(Request(STAGE, WordsConfig(), {}, tmp_path)) != key_of(Request(twin, WordsConfig(), {}, tmp_path))


def test_serializer_gives_back_an_intact_artifact(artifact: Artifact) -> None:
    serializer = ArtifactSerializer()
    assert serializer.loads(serializer.dumps(artifact)) == artifact
    assert json.loads(serializer.dumps(artifact))["stage"] == "words"
    assert isinstance(Serializer(type="rplab-artifact"), ArtifactSerializer)


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "manifest"])
def test_serializer_refuses_damage(artifact: Artifact, harm: str) -> None:
    record = ArtifactSerializer().dumps(artifact)
    victim = artifact.path / ("manifest.json" if harm == "manifest" else "words.txt")
    if harm == "delete":
        victim.unlink()
    else:
        data = victim.read_bytes()
        victim.write_bytes(data[:-2] if harm == "truncate" else data.replace(b"w", b"v", 1))
    with pytest.raises(Damage):
        ArtifactSerializer().loads(record)


def test_serializer_refuses_broken_records_and_data(artifact: Artifact) -> None:
    with pytest.raises((ValidationError, ValueError)):
        ArtifactSerializer().loads(b'{"stage": "words"}')
    with pytest.raises(ValueError, match=r".+"):
        ArtifactSerializer().loads(ArtifactSerializer().dumps(artifact)[:20])
    with pytest.raises(TypeError, match="Artifact"):
        ArtifactSerializer().dumps({"rows": [1, 2, 3]})


def test_serializer_keeps_errors_as_what_they_were() -> None:
    serializer = ArtifactSerializer()
    problem = serializer.loads(serializer.dumps(DataError("broken", file="a.jsonl", line=4)))
    assert isinstance(problem, DataError)
    assert str(problem) == "a.jsonl:4: broken"
    assert problem.exit_code == 2
    assert type(serializer.loads(serializer.dumps(ZeroDivisionError("x")))) is LabError


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (BackendError("no answer"), True),
        (RefusedError("the budget leaves no room"), False),
        (LabError("sft1: the training process ended with code -11"), True),
        (LabError("sft1: the training process ended with code 1 ... torch.OutOfMemoryError: CUDA out of memory"), False),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (ConfigError("x"), False),
        (DataError("x"), False),
        (ModelError("x"), False),
        (GateError("x"), False),
        (TrainingError("x"), False),
        (StorageError("x"), False),
        (StageInterrupted("x"), False),
        (errors.ArtifactError("x"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, again: bool) -> None:
    assert is_transient(run_stage_task, TaskRun.model_construct(), Failed(data=error)) is again


def test_task_is_named_and_stored_with_its_stage(tmp_path: Path) -> None:
    stage = Stage("sft1", 1, STAGE.entry, WordsConfig, isolate=True, gpu=True)
    task = stage_task(Request(stage, WordsConfig(), {}, tmp_path / "store"))
    assert (task.name, task.tags, task.persist_result) == ("sft1", set(), True)
    assert task.result_storage == tmp_path / "store" / "prefect" / "results"
    assert not task.refresh_cache
    assert stage_task(Request(stage, WordsConfig(), {}, tmp_path, force=True)).refresh_cache is True
