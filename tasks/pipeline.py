"""Walks the table of `rplab/pipeline.py` with tasks: what a flow holds on to while it runs."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from prefect import get_run_logger
from prefect.context import FlowRunContext

from rplab.artifact import Artifact, read_manifest
from rplab.dialogue.shard import parse_shard
from rplab.errors import ConfigError
from rplab.execute import Request
from rplab.pipeline import Node, Outcome, find_node, make_request, needed_by
from rplab.profile import load_profile
from rplab.report import evaluation_table, headline, stage_line
from rplab.shards import hand_over_parts, split_request
from rplab.stage import StageRun, lookup, point_latest
from tasks.stage import run_as_task, run_parts_as_tasks
from tasks.watch import CONSOLE, artifact_key, leave_markdown, render_table


class PipelineRun:
    """One run of a pipeline: makes stages as tasks, in order, and remembers what was made."""

    def __init__(self, profile: str, overrides: Sequence[str], store: str, force: Sequence[str]) -> None:
        """Load the profile.

        Args:
            profile: Name of a shipped profile, or path of a YAML file.
            overrides: Changes of single values, `key.path=value`.
            store: Directory of the artefacts.
            force: Names of stages that run even when the store has them.

        Raises:
            ConfigError: Whatever is wrong with the profile, or a name that is no stage.
        """
        _show_library_log()
        self.profile = load_profile(profile, overrides)
        self.store = Path(store)
        self.outcomes: list[Outcome] = []
        self._forced = {find_node(name).name for name in force}
        self._made: dict[str, Artifact] = {}

    def make(self, *names: str) -> None:
        """Make stages and, before them, whatever they need that this run has not made yet.

        Raises:
            LabError: The first stage that fails.
        """
        for name in names:
            for node in needed_by(name, self.profile):
                if node.name not in self._made:
                    self._make(node)

    def make_part(self, name: str, shard: str) -> None:
        """Make one part of a generation stage and, before it, what the stage needs.

        Raises:
            ConfigError: No such stage or part.
            LabError: What the stage found wrong.
        """
        try:
            part = parse_shard(shard)
        except ValueError as error:
            raise ConfigError(f"shard: {error}") from None
        for node in needed_by(name, self.profile)[:-1]:
            self._make(node)
        parts = split_request(make_request(find_node(name), self.profile, self._made, self.store), part.of)
        if parts:
            (artifact,) = run_parts_as_tasks([parts[part.number - 1]])
            self._made[parts[part.number - 1].label] = artifact

    def _make(self, node: Node) -> None:
        request = make_request(node, self.profile, self._made, self.store)
        if node.name in self._forced and not _made_by_this_flow_run(request):
            request = make_request(node, self.profile, self._made, self.store, force=True)
        started = time.monotonic()
        if parts := split_request(request, self.profile.data.shards):
            hand_over_parts(run_parts_as_tasks(parts), request)
        artifact, cached = run_as_task(request)
        point_latest(self.store, artifact.stage, artifact.key)  # a task that Prefect found cached did not run, so nobody did
        outcome = Outcome(node.name, StageRun(artifact, read_manifest(artifact.path), cached), time.monotonic() - started)
        self._made[node.name] = artifact
        self.outcomes.append(outcome)
        get_run_logger().info(stage_line(outcome, self.store))
        if console := CONSOLE.get():
            console.line(stage_line(outcome, self.store))

    def finish(self) -> dict[str, str]:
        """Leave the summary in Prefect's artefacts; return stage name -> directory.

        The summary has a line per stage and, when something was evaluated, the evaluation table.
        """
        evaluation = evaluation_table(self.store) if {"evaluate", "translator_eval"} & self._made.keys() else ""
        parts = [f"# {self.profile.name}", self.profile.description, _stage_table(self.outcomes)]
        if evaluation:
            parts += ["## Evaluation", f"```text\n{evaluation}\n```"]
        leave_markdown(artifact_key("summary", self.profile.name), "\n\n".join(parts), "what this run made")
        if evaluation and (console := CONSOLE.get()):
            console.line(evaluation)
        return {name: str(artifact.path) for name, artifact in self._made.items()}


def _stage_table(outcomes: Sequence[Outcome]) -> str:
    rows = [
        (
            outcome.name,
            "cached" if outcome.run.cached else f"{outcome.wall_s:.1f} s",
            headline(outcome.run.manifest.stats),
            f"`{outcome.run.artifact.path}`",
        )
        for outcome in outcomes
    ]
    return render_table(("stage", "time", "made", "where"), rows)


def _made_by_this_flow_run(request: Request) -> bool:
    """Say whether an earlier attempt of this flow run made the artefact: a retry must not force it a second time."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.run_count <= 1 or context.flow_run.created is None:
        return False
    found = lookup(request.stage.name, request.key, request.store)
    return found is not None and datetime.datetime.fromisoformat(found[1].started_utc) >= context.flow_run.created


def _show_library_log() -> None:
    """Let the library log as much as Prefect does; Prefect takes `rplab`'s records but leaves its level at warnings."""
    library = logging.getLogger("rplab")
    if library.level == logging.NOTSET:
        library.setLevel(logging.getLogger("prefect").getEffectiveLevel())
