"""A profile: the settings of a whole run, one YAML file a size, one section per stage.

The file is validated as a whole when it is loaded; an unknown key is an error that names the file, the key and the
nearest valid one. `--set data.dialogues.count=500` changes single values. The resolved profile is what stages are
keyed by and what the Prefect UI shows as a form.

To add a setting: add the field to the stage's config in `<package>/config.py`; it is then valid in every profile.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from rplab.annotate.config import JudgeConfig
from rplab.character import Card, load_card, parse_card, read_yaml
from rplab.dataset.config import DatasetConfig, NormaliseConfig
from rplab.dialogue.config import DialoguesConfig, ScenariosConfig, SingleturnConfig
from rplab.errors import ConfigError
from rplab.execute import Machine
from rplab.llm.config import BaseConfig, GrpoConfig, MergeConfig, SftConfig
from rplab.llm.eval_config import EvaluateConfig, PublishConfig
from rplab.play.config import PlayConfig
from rplab.stage import RunOnly, StageConfig
from rplab.translator.config import TranslatorConfig, TranslatorEvalConfig
from rplab.tts.training_config import VoiceCorpusConfig, VoiceExportConfig, VoicePreprocessConfig, VoiceTrainConfig

_Config = TypeVar("_Config", bound=StageConfig)

PROFILES = Path(__file__).parent.parent / "deployments" / "profiles"
"""The shipped profiles (the project is installed editable, from a checkout)."""


class DataSection(StageConfig):
    """Stages of the data half."""

    singleturn: SingleturnConfig = Field(default_factory=SingleturnConfig)
    normalise: NormaliseConfig = Field(default_factory=NormaliseConfig)
    scenarios: ScenariosConfig = Field(default_factory=ScenariosConfig)
    dialogues: DialoguesConfig = Field(default_factory=DialoguesConfig)
    judge: JudgeConfig | None = None
    """A text model that reads the dialogues before they become data; without this section nobody does."""
    dataset: DatasetConfig = Field(default_factory=DatasetConfig)
    shards: Annotated[int, RunOnly()] = Field(default=1, ge=1, le=64)
    """Processes that generate at once, each its own part of the items; changes nothing but the speed."""


class LlmSection(StageConfig):
    """Stages of the language models."""

    base: BaseConfig = Field(default_factory=BaseConfig)
    sft1: SftConfig = Field(default_factory=lambda: SftConfig(view="sft1"))
    sft2: SftConfig = Field(default_factory=lambda: SftConfig(view="sft2"))
    merge: MergeConfig = Field(default_factory=MergeConfig)
    grpo: GrpoConfig = Field(default_factory=GrpoConfig)
    grpo_merge: MergeConfig = Field(default_factory=MergeConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    translator: TranslatorConfig = Field(default_factory=TranslatorConfig)
    translator_eval: TranslatorEvalConfig = Field(default_factory=TranslatorEvalConfig)
    character: PublishConfig = Field(default_factory=PublishConfig)

    @field_validator("sft1", "sft2", mode="before")
    @classmethod
    def _view_of_the_stage(cls, value: Any, info: ValidationInfo) -> Any:
        """A stage learns the view of its own name unless the profile says otherwise."""
        return {"view": info.field_name, **value} if isinstance(value, dict) else value


class VoiceSection(StageConfig):
    """Stages of the voice."""

    corpus: VoiceCorpusConfig = Field(default_factory=VoiceCorpusConfig)
    preprocess: VoicePreprocessConfig = Field(default_factory=VoicePreprocessConfig)
    train: VoiceTrainConfig = Field(default_factory=VoiceTrainConfig)
    export: VoiceExportConfig = Field(default_factory=VoiceExportConfig)


class Profile(StageConfig):
    """Everything that a run needs to know."""

    name: str
    """What the run is called in the UI."""
    description: str = ""
    seed: int = 42
    """Root of every random number of the run."""
    pack: str = "v7"
    """Dialogue recipe: a folder of `rplab/dialogue/packs`."""
    card: Card
    """The character that is made."""
    data: DataSection = Field(default_factory=DataSection)
    llm: LlmSection = Field(default_factory=LlmSection)
    voice: VoiceSection | None = None
    """A voice of the character's own; without this section none is trained and play speaks with the voice that `play` names."""
    play: PlayConfig = Field(default_factory=PlayConfig)
    machine: Machine = Machine()
    """How to use this machine; changes no result and no key."""

    def with_shared(self, section: _Config) -> _Config:
        """Return a stage's config with seed, pack, card and play filled in where the section does not set them."""
        play = self.play.model_dump(mode="json", exclude_unset=True)
        shared: dict[str, Any] = {"seed": self.seed, "pack": self.pack, "card": self.card, "play": play}
        fields = type(section).model_fields
        missing = {name: value for name, value in shared.items() if name in fields and name not in section.model_fields_set}
        return section.model_copy(update=missing)


def load_profile(reference: str, overrides: Sequence[str] = ()) -> Profile:
    """Load a profile by name (`smoke`) or path, with `key.path=value` overrides.

    Raises:
        ConfigError: No such profile, bad YAML, unknown or wrong keys (with file, key and the nearest valid key).
    """
    path = _profile_path(reference)
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a profile is a mapping of sections, this is a {type(data).__name__}")
    for override in overrides:
        _apply_override(data, override)
    data.setdefault("name", path.stem)
    return build_profile(data, path)


def build_profile(data: dict[str, Any], path: Path) -> Profile:
    """Validate a profile that was read from `path`; a card given by name or path is loaded."""
    card = data.get("card", "saya")
    if isinstance(card, str):
        data = {**data, "card": load_card(card, base=path.parent if not Path(card).exists() else None)}
    elif isinstance(card, dict):
        data = {**data, "card": parse_card(card, path)}
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        problems = [_explain(item) for item in error.errors()]
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems)) from None


def _profile_path(reference: str) -> Path:
    if reference.endswith((".yaml", ".yml")):
        return Path(reference)
    for folder in (Path("deployments") / "profiles", PROFILES):
        if (path := folder / f"{reference}.yaml").is_file():
            return path
    names = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    near = difflib.get_close_matches(reference, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"no profile is called {reference!r}.{hint} Shipped profiles: {', '.join(names)}; or give the path of a YAML file")


def _apply_override(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override}: write key.path=value, for example data.dialogues.turns=4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *parents, last = path.split(".")
    node = data
    for name in parents:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {name} is a single value, not a section")
        node = child
    node[last] = value


def _explain(item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        names = _fields_at(Profile, location[:-1])
        deeper = {
            name: f"{parent}.{name}" for parent in names for name in _fields_at(Profile, [*location[:-1], parent]) if name not in names
        }
        near = difflib.get_close_matches(location[-1], [*names, *deeper], n=1, cutoff=0.5)
        near = [deeper.get(name, name) for name in near]
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys there: {', '.join(names)}"
        return f"unknown key {key}; {hint}"
    if item["type"] == "missing":
        return f"{key} is missing; add it"
    return f"{key}: {item['msg']} (given: {item['input']!r})"


def _fields_at(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the valid keys of the section at `location` (union tags in it are passed over)."""
    models: list[type[BaseModel]] = [model]
    for name in location:
        inner = [found for m in models if name in m.model_fields for found in _models_in(m.model_fields[name].annotation)]
        models = inner or models
    return sorted({info.alias or name for m in models for name, info in m.model_fields.items()})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, tuple, list):
        return [found for part in typing.get_args(annotation) for found in _models_in(part)]
    return []
