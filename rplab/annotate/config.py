"""Settings of the stages that let a text model read finished rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rplab.annotate.rubric import rubric_digest
from rplab.backend.config import BackendConfig
from rplab.jsonl import JsonValue
from rplab.stage import RunOnly, StageConfig


class _AnnotationConfig(StageConfig):
    seed: int = 42
    """Root of every draw; equal seed and backend, equal result."""
    in_flight: Annotated[int, RunOnly()] = Field(default=64, ge=1, le=4096)
    """Items at work at once; changes nothing but the speed."""
    backend: BackendConfig | None = None
    """Which text model answers; better of another family than the one that wrote the rows."""
    max_attempts: int = Field(default=3, ge=1, le=10)
    """Attempts per item in all; each later one is told what was wrong."""


class JudgeConfig(_AnnotationConfig):
    """Stage `judge`: a text model lists the flaws of each conversation. Off while no backend is set."""

    rubric: str = "flaws"
    """What to look for: a shipped rubric's name or a YAML file."""
    min_score: float | None = Field(default=None, ge=0, le=100)
    """Conversations below it are left out; the rubric's own when None."""

    def outside(self) -> JsonValue:
        """Return the content of the rubric: when its file changes, rows are judged again."""
        return rubric_digest(self.rubric)


class TranslateConfig(_AnnotationConfig):
    """`rplab data translate`: lines of conversations into Japanese."""

    narration: bool = False
    """Also translate narration, not only speech."""
    players: bool = False
    """Also translate the player's turns."""
    glossary: dict[str, str] = Field(default_factory=dict)
    """Korean term -> how it must read in Japanese."""
