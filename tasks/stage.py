"""How a stage becomes a Prefect task: the one place that knows cache policy, serialiser, retries and the GPU lock.

The key that Prefect caches by is `rplab.stage.stage_key`, the same that names the directory in the store, so the UI
says "Cached" exactly when `rplab run` would. The result is a reference (`Artifact`) as JSON; loading it verifies the
files, and a load that fails is a miss to Prefect, so a damaged artefact is made again. The store stays the truth: when
Prefect's database or result records are gone, the task finds the artefact in the store and reports "Cached" as well.

Tasks are called directly, not submitted (but for the parts of a sharded run): Prefect raises its termination signal in
the main thread only, and `rplab.execute` turns it into SIGTERM for the training process, which saves a checkpoint.

To add a task for a new stage: nothing. Add the stage to `rplab/pipeline.py` and name it in a flow.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import Task, get_client, task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.exceptions import ObjectNotFound
from prefect.serializers import Serializer
from prefect.settings import get_current_settings
from prefect.states import Completed
from prefect.utilities.annotations import NotSet
from pydantic import Field

from rplab import errors
from rplab.artifact import Artifact, verify
from rplab.errors import BackendError, LabError, RefusedError
from rplab.execute import Request, execute
from tasks.watch import ProgressArtifact, publish_report

logger = logging.getLogger(__name__)

RETRIES = 2
RETRY_DELAYS_S = [5.0, 30.0]

_LASTING_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}
"""Errors of the operating system that do not go away by trying again."""


@dataclass
class StagePolicy(CachePolicy):
    """Caches by the key of the stage run and nothing else (no run id, no source lines, no paths)."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002 - the signature is Prefect's
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> str:
        """Return `<stage>-<key>`, which is also the name of the record file."""
        return record_name(inputs["request"])


def record_name(request: Request) -> str:
    """Return the name of the record that Prefect keeps of a stage run."""
    return f"{request.stage.name}-{request.key}"


def results_directory(store: Path) -> Path:
    """Return where Prefect keeps its records: inside the store, so that both move and go together."""
    return store.absolute() / "prefect" / "results"


class ArtifactSerializer(Serializer):
    """Writes an `Artifact` as JSON; reading it back verifies the files that it points to.

    The type is fixed: unlike Prefect's own JSON serialiser it imports nothing that a record names. Exceptions, which
    Prefect stores too, are kept as type and message and come back as the `LabError` they were.
    """

    type: Literal["rplab-artifact"] = Field(default="rplab-artifact", frozen=True)  # pyright: ignore[reportIncompatibleVariableOverride]

    def dumps(self, obj: Any) -> bytes:
        """Return a reference or an exception as JSON.

        Raises:
            TypeError: Anything else: data does not belong into Prefect.
        """
        if isinstance(obj, Artifact):
            return obj.model_dump_json().encode()
        if isinstance(obj, BaseException):
            return json.dumps({"error": {"type": type(obj).__name__, "message": str(obj)}}, ensure_ascii=False).encode()
        raise TypeError(f"a stage task returns an Artifact, not {type(obj).__name__}")

    def loads(self, blob: bytes) -> Any:
        """Return the reference when its files are as they were made, or the exception that was stored.

        Raises:
            Damage: A file is missing or differs. Prefect takes that as "not cached".
            ValidationError: The record is damaged or of another version.
        """
        body = json.loads(blob)
        if isinstance(body, dict) and "error" in body:
            kind = getattr(errors, str(body["error"]["type"]), LabError)
            problem = LabError.__new__(kind if isinstance(kind, type) and issubclass(kind, LabError) else LabError)
            Exception.__init__(problem, body["error"]["message"])
            return problem
        artifact = Artifact.model_validate(body)
        verify(artifact.path)
        return artifact


def is_transient(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Say whether trying again can help: a backend that did not answer, a process that died, a passing system error."""
    error = state.data
    if isinstance(error, BackendError):
        return not isinstance(error, RefusedError)
    if isinstance(error, LabError):
        # Exactly LabError is what `execute` raises for a process that died. Out of memory stays out of memory.
        return type(error) is LabError and "OutOfMemory" not in str(error)
    return isinstance(error, OSError) and error.errno not in _LASTING_ERRNOS


def gpu_limit_name() -> str:
    """Return the name of this machine's accelerator limit, which `deployments/bootstrap.py` creates."""
    return f"gpu:{socket.gethostname()}"


@contextmanager
def gpu_slot(request: Request) -> Generator[None]:
    """Hold this machine's accelerator slot while a training stage runs.

    Without a server (`PREFECT_API_URL` unset) there is no lock: leases of slots live in the server, so the private
    one of a single run could neither see other runs nor free the slot of a killed one. The same when the server has
    no such limit: waiting for a slot that nobody created would be an error. Two runs of the *same* stage exclude each
    other in any case (`run_stage` locks the key).
    """
    name = gpu_limit_name()
    if not request.stage.gpu or not get_current_settings().api.url or not _limit_exists(name):
        yield
        return
    # strict: a limit that vanished is an error, not "no limit". The lease is short so that the slot of a killed run
    # comes back within about a minute; a server that is away for a moment must not kill hours of training.
    with concurrency(name, strict=True, lease_duration=60, raise_on_lease_renewal_failure=False):
        yield


def _limit_exists(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            logger.warning("the server has no limit %s; run `python deployments/bootstrap.py` so that runs share the GPU in turn", name)
            return False
    return True


@task(
    name="stage",
    task_run_name="{request.label} {request.key:.8}",
    cache_policy=StagePolicy(),
    result_serializer=ArtifactSerializer(),
    persist_result=True,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=is_transient,
)
def run_stage_task(request: Request) -> State[Artifact]:
    """Run one stage and return a completed state with the reference of its artefact.

    A state, since only it can carry the word "Cached" for an artefact that was in the store all along.
    """
    with gpu_slot(request), ProgressArtifact(request.label) as progress:
        run = execute(request, progress)
    publish_report(run)
    if run.cached:
        return Completed(name="Cached", message="found in the store", data=run.artifact)
    return Completed(message=f"made in {run.manifest.wall_s:g} s", data=run.artifact)


def stage_task(request: Request) -> Task[[Request], State[Artifact]]:
    """Return the task that runs a request: named after its stage, with its records in the request's store.

    It carries no tags: Prefect asks the server for a concurrency slot per tag, which took 0.3-2 s a task (measured).
    """
    return run_stage_task.with_options(
        name=request.stage.name,
        result_storage=results_directory(request.store),  # pyright: ignore[reportArgumentType] - Prefect takes a Path, its hint does not say so
        refresh_cache=True if request.force else NotSet,
    )


def run_parts_as_tasks(parts: Sequence[Request]) -> list[Artifact]:
    """Run the parts of a stage as mapped tasks, at once, and return their artefacts in order.

    These may run in threads: each part is a process of its own that ends by itself when this one does, and its answers
    are on file, so nothing is lost when Prefect's termination signal does not reach the thread.

    Raises:
        LabError: What the first failing part found wrong.
    """
    futures = stage_task(parts[0]).map(list(parts))
    artifacts: list[Artifact] = futures.result()  # pyright: ignore[reportAssignmentType]
    return artifacts


def run_as_task(request: Request) -> tuple[Artifact, bool]:
    """Run a request as a task of the current flow run; return its artefact and whether it was cached.

    Raises:
        LabError: What the stage found wrong.
    """
    state: State[Artifact] = stage_task(request)(request, return_state=True)  # pyright: ignore[reportCallIssue, reportAssignmentType]
    artifact = state.result()
    return artifact, state.name == "Cached"
