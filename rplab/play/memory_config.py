"""Settings of what play remembers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rplab.stage import StageConfig


class EmbeddingConfig(StageConfig):
    """An OpenAI-compatible endpoint for embeddings; the key comes from RPLAB_EMBEDDINGS_KEY."""

    url: str = Field(pattern=r"^https?://\S+$")
    """Up to and without `/embeddings`, for example http://127.0.0.1:8080/v1."""
    model: str = Field(min_length=1)
    timeout_s: float = Field(default=0.3, gt=0.0, le=10.0)
    """Longest wait while the player waits; after it the words alone decide."""


class MemoryConfig(StageConfig):
    """What is remembered beyond the window of the conversation, and how many tokens it may take."""

    enabled: bool = True
    """False: no long-term memory and no summary; the window and the lorebook stay."""
    extract: Literal["auto", "model", "rules"] = "auto"
    """Who finds what is worth remembering: the text model, or rules; `auto` asks the model until it shows that it cannot."""
    min_score: float = Field(default=0.5, ge=0.0, le=1.0)
    """Candidates from this score on are remembered. The predecessor's 0.65 was hardly ever reached: a new preference with
    confidence 0.8 and impact 0.5 scores 0.55."""
    max_slots: int = Field(default=8, ge=0, le=64)
    """Most memories told to the model at once."""
    max_recalled_turns: int = Field(default=2, ge=0, le=16)
    """Most turns from before the window told again because they fit what was just said."""
    memory_tokens: int = Field(default=320, ge=0)
    """Of memories and recalled turns."""
    lore_tokens: int = Field(default=400, ge=0)
    lore_depth: int = Field(default=4, ge=0, le=100)
    """Messages, the newest included, in which the keys of the lorebook are looked for; an entry may say otherwise."""
    summary_tokens: int = Field(default=320, ge=0)
    """Of the summary of what lies before the window; 0: no summary."""
    embeddings: EmbeddingConfig | None = None
    """None: retrieval by words alone."""
