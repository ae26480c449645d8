"""The pipeline: every stage once, in the order in which it is told, and what each is made from.

    card + pack --> singleturn -> normalise --+
             `----> scenarios  -> dialogues --+-> dataset --> base -> sft1 -> sft2 -> merge -> grpo -> grpo_merge -> evaluate --+
                                                   `-------> (base) -> translator -> translator_eval --------------------------+-> character
    recordings --> voice_corpus -> voice_preprocess -> voice_train -> voice_export --------------------------------------------'

This table is the only wiring; `rplab run` and the Prefect flows both walk it.

A profile without the section `voice` has no voice stages, and its character none of its own.

To add a stage: add its config to `rplab/profile.py` and a `Node` here, after everything it is made from.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rplab.annotate.config import JudgeConfig
from rplab.artifact import Artifact
from rplab.dataset.config import DatasetConfig, NormaliseConfig
from rplab.dialogue.config import DialoguesConfig, ScenariosConfig, SingleturnConfig
from rplab.errors import ConfigError
from rplab.execute import Request, execute
from rplab.llm.config import BaseConfig, GrpoConfig, MergeConfig, SftConfig
from rplab.llm.eval_config import EvaluateConfig, PublishConfig
from rplab.profile import Profile
from rplab.shards import hand_over_parts, run_parts, split_request
from rplab.stage import Progress, Stage, StageConfig, StageRun, lookup, stage_key
from rplab.translator.config import TranslatorConfig, TranslatorEvalConfig
from rplab.tts.training_config import VoiceCorpusConfig, VoiceExportConfig, VoicePreprocessConfig, VoiceTrainConfig

DEFAULT_STORE = Path("store")


@dataclass(frozen=True)
class Node:
    """A stage in its place."""

    stage: Stage
    config: Callable[[Profile], StageConfig | None]
    """Picks the stage's section of a profile; None: the profile does without the stage."""
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    """Input name of the stage function -> name of the stage that makes it."""

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name


def _train(name: str, entry: str, config_type: type[StageConfig], version: int = 1) -> Stage:
    """A stage that loads torch: in a process of its own, one at a time on the accelerator."""
    return Stage(name, version, entry, config_type, isolate=True, gpu=True)


DATA = (
    Node(
        Stage("singleturn", 3, "rplab.dialogue.singleturn:generate_singleturn", SingleturnConfig),
        lambda p: p.data.singleturn,
    ),
    Node(
        Stage("normalise", 1, "rplab.dataset.normalise:normalise_rows", NormaliseConfig),
        lambda p: p.data.normalise,
        {"rows": "singleturn"},
    ),
    Node(
        Stage("scenarios", 3, "rplab.dialogue.scenario:generate_scenarios", ScenariosConfig),
        lambda p: p.data.scenarios,
    ),
    Node(
        Stage("dialogues", 3, "rplab.dialogue.generate:generate_dialogues", DialoguesConfig),
        lambda p: p.data.dialogues,
        {"scenarios": "scenarios"},
    ),
    Node(
        Stage("judge", 1, "rplab.annotate.judge:judge_rows", JudgeConfig),
        lambda p: p.data.judge,
        {"rows": "dialogues"},
    ),
    Node(
        Stage("dataset", 2, "rplab.dataset.build:build_dataset", DatasetConfig),
        lambda p: p.data.dataset,
        {"singleturn": "normalise", "rows": "singleturn", "dialogues": "dialogues", "judged": "judge"},
    ),
)
"""From a card to data sets."""

RP_MODEL = (
    Node(_train("base", "rplab.llm.base:make_base", BaseConfig), lambda p: p.llm.base, {"dataset": "dataset"}),
    Node(_train("sft1", "rplab.llm.sft:train_sft", SftConfig), lambda p: p.llm.sft1, {"base": "base", "dataset": "dataset"}),
    Node(
        _train("sft2", "rplab.llm.sft:train_sft", SftConfig),
        lambda p: p.llm.sft2,
        {"base": "base", "dataset": "dataset", "adapter": "sft1"},
    ),
    Node(_train("merge", "rplab.llm.merge:merge_adapter", MergeConfig, 3), lambda p: p.llm.merge, {"base": "base", "adapter": "sft2"}),
    Node(
        _train("grpo", "rplab.llm.grpo:train_grpo", GrpoConfig, 3),
        lambda p: p.llm.grpo,
        {"model": "merge", "dataset": "dataset", "base": "base", "adapter": "sft2"},
    ),
    Node(
        _train("grpo_merge", "rplab.llm.merge:merge_adapter", MergeConfig, 3),
        lambda p: p.llm.grpo_merge,
        {"base": "merge", "adapter": "grpo", "other_base": "base"},
    ),
    Node(
        _train("evaluate", "rplab.llm.evaluate:evaluate_models", EvaluateConfig, 3),
        lambda p: p.llm.evaluate,
        {"base": "base", "sft": "merge", "grpo": "grpo_merge", "dataset": "dataset"},
    ),
)
"""From data sets to an evaluated role-play model."""

TRANSLATOR = (
    Node(
        _train("translator", "rplab.translator.train:train_translator", TranslatorConfig),
        lambda p: p.llm.translator,
        {"base": "base", "dataset": "dataset"},
    ),
    Node(
        _train("translator_eval", "rplab.translator.evaluate:evaluate_translator", TranslatorEvalConfig, 2),
        lambda p: p.llm.translator_eval,
        {"translator": "translator", "dataset": "dataset"},
    ),
)
"""From data sets to an evaluated KO->JA translator."""

VOICE = (
    Node(Stage("voice_corpus", 2, "rplab.tts.corpus:make_corpus", VoiceCorpusConfig), lambda p: p.voice and p.voice.corpus),
    Node(
        Stage("voice_preprocess", 3, "rplab.tts.preprocess:preprocess_voice", VoicePreprocessConfig),
        lambda p: p.voice and p.voice.preprocess,
        {"recordings": "voice_corpus"},
    ),
    Node(
        _train("voice_train", "rplab.tts.train:train_voice", VoiceTrainConfig, version=3),
        lambda p: p.voice and p.voice.train,
        {"data": "voice_preprocess"},
    ),
    Node(
        Stage("voice_export", 3, "rplab.tts.export_stage:export_trained", VoiceExportConfig, isolate=True),
        lambda p: p.voice and p.voice.export,
        {"train": "voice_train"},
    ),
)
"""From recordings to a voice that speaks without torch."""

PUBLISH = (
    Node(
        Stage("character", 3, "rplab.llm.publish:publish_character", PublishConfig),
        lambda p: p.llm.character,
        {
            "model": "grpo_merge",
            "translator": "translator",
            "evaluate": "evaluate",
            "translator_eval": "translator_eval",
            "voice": "voice_export",
        },
    ),
)
"""A character that play can load, if every gate passed."""

NODES = (*DATA, *RP_MODEL, *TRANSLATOR, *VOICE, *PUBLISH)


@dataclass(frozen=True)
class Outcome:
    """One finished stage of a pipeline run."""

    name: str
    run: StageRun
    wall_s: float


def stage_names() -> list[str]:
    """Return the stages in order."""
    return [node.name for node in NODES]


def find_node(name: str) -> Node:
    """Return the node of a stage.

    Raises:
        ConfigError: No such stage.
    """
    for node in NODES:
        if node.name == name:
            return node
    raise ConfigError(f"no stage is called {name!r}. Stages: {', '.join(stage_names())}")


def make_request(node: Node, profile: Profile, made: Mapping[str, Artifact], store: Path, *, force: bool = False) -> Request:
    """Return the request that runs a node, given the artefacts made so far.

    Raises:
        ConfigError: The profile does without the stage.
    """
    config = node.config(profile)
    if config is None:
        raise ConfigError(f"profile {profile.name!r} has no settings for {node.name}. Add the section `{node.name.split('_')[0]}` to it")
    wanted = {upstream.name for upstream in nodes_of(profile)}
    return Request(
        stage=node.stage,
        config=profile.with_shared(config),
        inputs={name: made[upstream] for name, upstream in node.inputs.items() if upstream in wanted},
        store=store,
        force=force,
        machine=profile.machine,
    )


def nodes_of(profile: Profile) -> list[Node]:
    """Return the stages that a profile has, in order."""
    return [node for node in NODES if node.config(profile) is not None]


def needed_by(name: str, profile: Profile | None = None) -> list[Node]:
    """Return the stage called `name` and everything it is made from, in order; with a profile, only what that has beside it."""
    wanted = {find_node(name).name}
    for node in reversed(NODES):
        if node.name in wanted:
            wanted |= set(node.inputs.values())
    return [node for node in NODES if node.name in wanted and (profile is None or node.name == name or node.config(profile) is not None)]


def dependants(name: str) -> set[str]:
    """Return the stage called `name` and everything that is made from it."""
    found = {find_node(name).name}
    for node in NODES:
        if found & set(node.inputs.values()):
            found.add(node.name)
    return found


def run_pipeline(
    profile: Profile,
    store: Path,
    *,
    only: str | None = None,
    forced: Collection[str] = (),
    report: Callable[[str, Progress], None] = lambda name, progress: None,  # noqa: ARG005
    stop: threading.Event | None = None,
) -> Iterator[Outcome]:
    """Run the stages of a profile in order and yield each when it is done.

    Args:
        profile: The settings.
        store: Root of the store.
        only: Run this stage alone; what it is made from must be in the store.
        forced: Stages that run even when the store has them.
        report: Receives stage name and progress.
        stop: Set it to ask for an early end.

    Raises:
        ConfigError: `only` or `forced` names no stage, or an input of `only` is not in the store.
        LabError: The first stage that fails.
    """
    for name in forced:
        find_node(name)
    made: dict[str, Artifact] = {}
    for node in needed_by(only, profile) if only else nodes_of(profile):
        request = make_request(node, profile, made, store, force=node.name in forced)
        if only and node.name != only:
            made[node.name] = _must_exist(request, only)
            continue
        started = time.monotonic()
        if parts := split_request(request, profile.data.shards):
            hand_over_parts(run_parts(parts, report, stop), request)
        run = execute(request, lambda progress, name=node.name: report(name, progress), stop)
        made[node.name] = run.artifact
        yield Outcome(node.name, run, time.monotonic() - started)


def _must_exist(request: Request, wanted: str) -> Artifact:
    found = lookup(request.stage.name, stage_key(request.stage, request.config, request.inputs), request.store)
    if found is None:
        raise ConfigError(
            f"--only {wanted}: its input {request.stage.name!r} is not in {request.store} for this profile. "
            f"Run without --only once, or run --only {request.stage.name} first"
        )
    return found[0]
