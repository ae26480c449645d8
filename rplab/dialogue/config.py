"""Settings of the dialogue stages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from rplab.backend.config import BackendConfig, ScriptedConfig
from rplab.character import Card
from rplab.dialogue.shard import parse_shard
from rplab.stage import RunOnly, StageConfig


class _GenerationConfig(StageConfig):
    seed: int = 42
    """Root of every draw; equal seed and backend, equal rows."""
    pack: str = "v7"
    """Dialogue recipe: a shipped pack's name or a pack folder."""
    in_flight: Annotated[int, RunOnly()] = Field(default=128, ge=1, le=4096)
    """Items at work at once; changes nothing but the speed."""
    backend: BackendConfig = Field(default_factory=ScriptedConfig)
    """Which text model answers."""
    shard: str | None = None
    """Do only a part of the items, `2/4` = the second of four, and leave its answers for a merging run; None: all of them."""

    @field_validator("shard")
    @classmethod
    def _is_a_shard(cls, value: str | None) -> str | None:
        return None if value is None else str(parse_shard(value))

    def key_fields(self) -> dict[str, Any]:
        """Return what enters the key; runs that are no shards have the key they always had."""
        fields = super().key_fields()
        if self.shard is None:
            del fields["shard"]
        return fields


class SingleturnConfig(_GenerationConfig):
    """Stage `singleturn`: one-exchange rows."""

    card: Card | None = None
    """The character to be made; takes `card_share` of the rows, the pack's cast the others."""
    target_rows: int = Field(default=12_000, ge=1)
    """Accepted rows wanted."""
    card_share: float = Field(default=0.5, ge=0, le=1)
    """Share of rows with the card's character as protagonist."""
    card_situation_share: float = Field(default=0.25, ge=0, le=1)
    """Share of the card's rows that take place in the card's own situation and world."""
    max_attempts: int = Field(default=6, ge=1, le=40)
    """Attempts per row in all; each later one is told what was wrong."""
    max_overshoot: float = Field(default=1.0, ge=0)
    """Rows planned beyond the target, as a multiple of it, before the run gives up."""
    genres: tuple[str, ...] | None = None
    """Only these genres; all of the pack when None."""


class ScenariosConfig(_GenerationConfig):
    """Stage `scenarios`: where dialogues start."""

    card: Card | None = None
    count: int = Field(default=1_300, ge=1)
    """Accepted scenarios wanted."""
    card_share: float = Field(default=0.5, ge=0, le=1)
    """Share of scenarios with the card's character as protagonist."""
    max_overshoot: float = Field(default=1.0, ge=0)
    """Scenarios planned beyond the count, as a multiple of it, before the run gives up."""
    genres: tuple[str, ...] | None = None


class DialoguesConfig(_GenerationConfig):
    """Stage `dialogues`: turn by turn from every scenario."""

    turns: int | None = Field(default=None, ge=1, le=64)
    """Exchanges per dialogue; the pack's own number when None."""
    signals: Literal["plan", "judge"] = "plan"
    """`plan`: the seeded planner moves the signals, no evaluator calls. `judge`: a model reads them off each exchange."""
