"""What a person sees of a running task: a progress artefact, and a Markdown report when it is done."""

from __future__ import annotations

import contextvars
import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from rplab.artifact import Manifest
from rplab.jsonl import canonical
from rplab.stage import Progress, StageRun

logger = logging.getLogger(__name__)

UPDATE_INTERVAL_S = 1.0
REPORT = "report.md"
_REPORT_LIMIT = 200_000
"""Characters of a stage's report that go to Prefect's database; the whole report is in the store."""


@dataclass(frozen=True)
class Console:
    """Where a flow that runs as a script shows itself."""

    progress: Callable[[str, Progress], None]
    """Takes a stage's name and how far it is; called often."""
    line: Callable[[str], None]
    """Takes a line that stays."""


CONSOLE: ContextVar[Console | None] = ContextVar("console", default=None)
"""Set by `tasks/script.py`; nobody watches a console on a worker."""


def artifact_key(kind: str, name: str) -> str:
    """Return a key that Prefect accepts: lower-case letters, digits and dashes."""
    return f"{kind}-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-') or 'unnamed'}"


class ProgressArtifact:
    """Shows the progress of a stage in the UI, at most once a second, from a thread of its own.

    The stage only leaves its latest numbers here. A slow or absent server therefore never slows a stage down, and
    never fails it.
    """

    def __init__(self, stage_name: str) -> None:
        self._stage_name = stage_name
        self._latest: Progress | None = None
        self._shown: Progress | None = None
        self._artifact_id: UUID | None = None
        self._done = threading.Event()
        self._console = CONSOLE.get()
        context = contextvars.copy_context()  # the artefact belongs to the task run, which Prefect finds in the context
        self._thread = threading.Thread(target=context.run, args=(self._follow,), daemon=True, name=f"progress-{stage_name}")

    def __enter__(self) -> ProgressArtifact:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join(timeout=5)

    def __call__(self, progress: Progress) -> None:
        """Take the latest progress."""
        self._latest = progress
        if self._console:
            self._console.progress(self._stage_name, progress)

    def _follow(self) -> None:
        while not self._done.wait(UPDATE_INTERVAL_S):
            self._show()
        self._show()

    def _show(self) -> None:
        progress = self._latest
        if progress is None or progress is self._shown:
            return
        self._shown = progress
        percent = max(0.0, min(100.0, 100.0 * progress.done / progress.total)) if progress.total > 0 else 0.0
        text = f"{self._stage_name}: {progress.done:g} / {progress.total:g} {progress.message}".rstrip()
        try:
            if self._artifact_id is None:
                key = artifact_key("progress", self._stage_name)
                self._artifact_id = create_progress_artifact(progress=percent, key=key, description=text, _sync=True)  # pyright: ignore[reportCallIssue]
            else:
                update_progress_artifact(self._artifact_id, progress=percent, description=text, _sync=True)  # pyright: ignore[reportCallIssue]
        except (httpx.HTTPError, PrefectException, OSError) as error:
            logger.debug("%s: progress not shown: %s", self._stage_name, error)


def publish_report(run: StageRun) -> None:
    """Leave the Markdown report of a finished stage in the run's artefacts."""
    leave_markdown(artifact_key("report", run.manifest.stage), render_report(run), f"{run.manifest.stage} {run.manifest.key}")


def leave_markdown(key: str, markdown: str, description: str) -> None:
    """Leave a Markdown artefact; a server that is away costs the artefact, not the run."""
    try:
        create_markdown_artifact(key=key, markdown=markdown, description=description, _sync=True)  # pyright: ignore[reportCallIssue]
    except (httpx.HTTPError, PrefectException, OSError) as error:
        logger.warning("%s could not be shown in Prefect: %s", key, error)


def render_report(run: StageRun) -> str:
    """Return a stage's own `report.md`, or a table of what it counted, followed by where it is and what it was made from."""
    manifest = run.manifest
    own = run.artifact.path / REPORT
    if own.is_file():
        text = own.read_text(encoding="utf-8")
        body = text if len(text) <= _REPORT_LIMIT else f"{text[:_REPORT_LIMIT]}\n\n… the whole report: `{own}`"
    else:
        body = f"# {manifest.stage}\n\n{render_table(('what', 'value'), _flatten(manifest.stats))}"
    return f"{body}\n\n{_origin(run, manifest)}\n"


def _origin(run: StageRun, manifest: Manifest) -> str:
    sources = [(name, entry.stage, f"`{entry.key}`") for name, entry in sorted(manifest.inputs.items())]
    lines = [
        "## Where it is and what it was made from",
        "",
        f"`{run.artifact.path}`  ",
        f"key `{manifest.key}`, made in {manifest.wall_s:g} s on {manifest.started_utc[:19]} UTC, code {manifest.commit or 'no checkout'}",
        "",
        render_table(("input", "stage", "key"), sources) if sources else "It needs no other stage.",
        "",
        f"See `rplab store show {manifest.stage}/{manifest.key}` for files, settings and package versions.",
    ]
    return "\n".join(lines)


def _flatten(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested counts as `(dotted name, text)`."""
    if isinstance(value, dict):
        return [row for name, inner in value.items() for row in _flatten(inner, f"{path}.{name}" if path else str(name))]
    text = value if isinstance(value, str) else canonical(value)
    return [(path, text)]


def render_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
