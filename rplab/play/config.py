"""Settings of a play session."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from rplab.play.memory_config import MemoryConfig
from rplab.stage import StageConfig
from rplab.tts.config import VoiceConfig


class ReplySampling(StageConfig):
    """How the reply is drawn."""

    max_new_tokens: int = Field(default=200, ge=1, le=4096)
    temperature: float = Field(default=0.75, ge=0.0, le=2.0)
    """0 is greedy."""
    top_p: float = Field(default=0.9, gt=0.0, le=1.0)
    top_k: int = Field(default=50, ge=0)
    """0 keeps every token."""
    repetition_penalty: float = Field(default=1.05, ge=1.0, le=2.0)


class EndpointConfig(StageConfig):
    """A model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, SGLang, OpenAI). The key comes from the environment only."""

    url: str
    """Base address, for example http://127.0.0.1:8000/v1."""
    model: str = ""
    """Name on the server; empty takes the first that it offers."""
    api_key_env: str | None = None
    """Environment variable that holds the key; by itself OPENAI_API_KEY goes to OpenAI only."""
    context_tokens: int = Field(default=8192, ge=256)
    """Most tokens of prompt and reply, used where the server does not say (`max_model_len`)."""
    connect_timeout_s: float = Field(default=5.0, gt=0.0)
    """Longest wait for the connection, seconds."""
    first_piece_timeout_s: float = Field(default=60.0, gt=0.0)
    """Longest wait for the first piece of text, seconds."""
    piece_timeout_s: float = Field(default=20.0, gt=0.0)
    """Longest wait between two pieces, seconds."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    """Sent along with every request, for example {"chat_template_kwargs": {"enable_thinking": false}}."""


class PlayConfig(StageConfig):
    """What happens between Enter and the first sound."""

    seed: int = 42
    """Root of the draws; a turn and its regenerations each draw their own."""
    max_history_turns: int = Field(default=8, ge=0, le=200)
    """Exchanges that the model sees again; the oldest third goes at once, so that the cached prefix stays valid longer."""
    sampling: ReplySampling = ReplySampling()
    memory: MemoryConfig = MemoryConfig()
    voice: VoiceConfig = VoiceConfig()
    llm: EndpointConfig | None = None
    """Who writes the replies; None is the character's own model in this process."""
    emotion: bool = True
    """The narration chooses the speaking style; a style set in `voice.style` stays whatever it says."""
    keep: Literal["heard", "shown"] = "heard"
    """What the model remembers of a reply that was interrupted: what was heard, or all that was shown."""
    pace: Literal["fast", "read"] = "fast"
    """`read` holds the voice back until the narration before it can have been read."""
    translate: bool = True
    """False: Korean only, without subtitles and speech."""
    speak: bool = True
    """False: subtitles only, no sound."""
    sink: Literal["auto", "sounddevice", "miniaudio", "ffplay", "wav", "null"] = "auto"
    """Where sound goes; `auto` takes the first of sounddevice, miniaudio, ffplay, wav that works and says which."""
    device: str = ""
    """Output device of `sounddevice` or `miniaudio`: part of its name or its number; empty is the system's default."""
    first_clause_chars: int = Field(default=0, ge=0, le=60)
    """Above 0, the first sentence may be cut at a comma after so many characters: sooner sound, poorer translation."""
    sentence_pause_s: float = Field(default=0.25, ge=0.0, le=2.0)
    """Silence between two spoken sentences, seconds."""
    max_buffered_s: float = Field(default=12.0, ge=1.0, le=120.0)
    """Most sound that waits to be played, seconds; the voice pauses there."""
    reply_timeout_s: float = Field(default=120.0, gt=0.0)
    """Longest wait for one piece of text before the model counts as dead, seconds (the first piece reads the prompt)."""
    translate_timeout_s: float = Field(default=60.0, gt=0.0)
    """Longest wait for a translation, seconds."""
    prefill: bool = True
    """After the audio, read the prompt of the next turn as far as it is known."""
    sink_timeout_s: float = Field(default=4.0, gt=0.0)
    """A device that plays nothing for so long although sound waits counts as gone, seconds."""
    voice_timeout_s: float = Field(default=60.0, gt=0.0)
    """Longest wait for one piece of sound, time in the buffer included, seconds."""
