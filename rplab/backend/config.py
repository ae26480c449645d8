"""Settings of the text-model backends; `kind` says which one."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from rplab.stage import StageConfig

Share = Annotated[float, Field(ge=0, le=1)]


class ScriptedConfig(StageConfig):
    """The embedded grammar. The fault switches are for tests; each is a chance per request, drawn from its seed."""

    kind: Literal["scripted"] = "scripted"
    latency_ms: float = Field(default=0.0, ge=0, le=60_000)
    """Time that every answer takes."""
    p_error: Share = 0.0
    """The answer is an error."""
    p_empty: Share = 0.0
    """The answer is empty."""
    p_truncated: Share = 0.0
    """The answer is cut (`finish_reason` "length")."""
    p_broken_json: Share = 0.0
    """JSON answers do not parse."""
    p_wrong_format: Share = 0.0
    """Line break and quotes are missing."""
    p_script_leak: Share = 0.0
    """One Korean syllable is a Chinese character."""


BackendConfig: TypeAlias = ScriptedConfig
"""Every backend's settings. A new backend joins as `Annotated[ScriptedConfig | OpenAIConfig, Field(discriminator="kind")]`."""
