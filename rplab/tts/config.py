"""Settings of the voice."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rplab.stage import StageConfig


class VoiceConfig(StageConfig):
    """Which voice speaks, and how."""

    engine: Literal["openjtalk"] = "openjtalk"
    """`openjtalk`: the embedded HTS voice, no model file needed."""
    speed: float = Field(default=1.0, ge=0.5, le=2.0)
    """Rate of speech; 1.0 is the voice's own."""
    pitch: float = Field(default=0.0, ge=-12.0, le=12.0)
    """Shift in semitones."""
    style: str = ""
    """Speaking style by name; empty is the voice's own. `openjtalk` knows happy, sad, angry, calm."""
