"""What a judge looks for, as data: flaws with id, version, severity and policy, and how a score comes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rplab.errors import ConfigError

RUBRICS = Path(__file__).with_name("rubrics")
MAX_SEVERITY = 5


class FlawKind(BaseModel):
    """One kind of flaw."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str = Field(pattern=r"[a-z][a-z0-9_]{1,30}")
    version: int = Field(ge=1)
    severity: Literal["fatal", "error", "warning"]
    """How much this kind matters in reports."""
    policy: Literal["drop", "score", "accept"]
    """drop: one grave flaw removes the row; score: it lowers the score; accept: it is written down."""
    ask: str
    """What the judge is told to look for."""


class Rubric(BaseModel):
    """A set of flaws and what follows from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    version: int = Field(ge=1)
    min_score: float = Field(ge=0, le=100)
    drop_from: int = Field(ge=1, le=MAX_SEVERITY)
    """Severity from which a flaw of policy `drop` removes the row."""
    turn_credit: float = Field(ge=0)
    """Severity that each reply may have for nothing (long conversations have more room for flaws)."""
    prompt: str
    flaws: tuple[FlawKind, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Rubric:
        ids = [flaw.id for flaw in self.flaws]
        if len(set(ids)) < len(ids):
            raise ValueError("two flaws have the same id")
        try:
            self.prompt.format(flaws="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"prompt: {error!r}; only {{flaws}} is filled in, write other braces twice") from None
        return self

    def kind(self, flaw_id: str) -> FlawKind | None:
        """Return the kind called `flaw_id`, or None."""
        return next((flaw for flaw in self.flaws if flaw.id == flaw_id), None)

    def instructions(self) -> str:
        """Return the prompt with the kinds filled in."""
        return self.prompt.format(flaws="\n".join(f"- {flaw.id}: {flaw.ask}" for flaw in self.flaws)).strip()

    def score(self, severities: Iterable[int], replies: int) -> float:
        """Return 0..100: CoSER's penalty score over the flaws that count."""
        return max(0.0, min(100.0, 100.0 - 5.0 * (sum(severities) - self.turn_credit * replies)))


def load_rubric(reference: str) -> Rubric:
    """Load a shipped rubric by name, or a YAML file.

    Raises:
        ConfigError: No such rubric, or a broken one.
    """
    path = _find(reference)
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Rubric.model_validate(data)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: no rubric that can be read ({str(error)[:200]})") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'rubric'}: {item['msg']}" for item in error.errors()[:5])
        raise ConfigError(f"{path}: {problems}. Correct the rubric; `rplab/annotate/rubrics/flaws.yaml` is an example") from None


def _find(reference: str) -> Path:
    path = Path(reference) if reference.endswith((".yaml", ".yml")) else RUBRICS / f"{reference}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(item.stem for item in RUBRICS.glob("*.yaml")))
        raise ConfigError(f"no rubric is called {reference!r}. Shipped ones: {known}; or give the path of a YAML file")
    return path


def rubric_digest(reference: str) -> str:
    """Return the sha256 of a rubric's file.

    Raises:
        ConfigError: No such rubric.
    """
    return hashlib.sha256(_find(reference).read_bytes()).hexdigest()
