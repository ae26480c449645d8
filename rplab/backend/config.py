"""Settings of the text-model backends; `kind` says which one.

What a model answers depends on the model and on how it is asked; those settings are part of a stage's key. Speed,
patience and money are not: fields marked `RunOnly` may be changed between two runs (a larger budget, a longer
deadline), and the second goes on where the first stopped. No secret is ever part of a config: `api_key_env` is the
name of an environment variable.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, JsonValue, field_validator

from rplab.stage import RunOnly, StageConfig

Share = Annotated[float, Field(ge=0, le=1)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
OPENAI_URL = "https://api.openai.com/v1"


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


class EndpointConfig(StageConfig):
    """What every OpenAI-compatible endpoint needs to know."""

    model_config = ConfigDict(hide_input_in_errors=True)  # somebody may have typed a key into the wrong field

    model: str = Field(min_length=1)
    """Model name as the server knows it."""
    api: Literal["chat", "responses"] = "chat"
    """`chat`: /chat/completions, which every server has. `responses`: /responses."""
    reasoning: bool | None = None
    """Whether the model thinks before it answers: no sampling controls, a larger budget. None = by its name."""
    effort: Effort | None = None
    """How long a reasoning model thinks; its own default when None."""
    reasoning_tokens: int = Field(default=4096, ge=0, le=200_000)
    """Tokens that a reasoning model gets on top of the answer's; four times as many when it came back empty."""
    structured: Literal["json_schema", "json_object", "off"] = "json_schema"
    """How JSON answers are asked for; steps down by itself when the server refuses one."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Sent with every request as it is, for example {"chat_template_kwargs": {"enable_thinking": false}}."""
    api_key_env: Annotated[str | None, RunOnly()] = None
    """NAME of the environment variable with the key. None = OPENAI_API_KEY for api.openai.com, no key elsewhere."""
    max_open: Annotated[int, RunOnly()] = Field(default=1024, ge=1, le=8192)
    """Most requests open at once; below it the limit is learned."""
    timeout_s: Annotated[float, RunOnly()] = Field(default=120.0, gt=0, le=7200)
    """One try may take this long."""
    deadline_s: Annotated[float, RunOnly()] = Field(default=900.0, gt=0, le=86_400)
    """One request with all its tries may take this long."""
    max_retries: Annotated[int, RunOnly()] = Field(default=6, ge=0, le=100)
    """Tries after the first one when the server fails, times out or hangs up; waiting after a 429 is not counted."""
    budget_usd: Annotated[float | None, RunOnly()] = Field(default=None, gt=0)
    """Stop before more than this is spent, answers of earlier runs of the same stage included."""
    budget_tokens: Annotated[int | None, RunOnly()] = Field(default=None, ge=1)
    """The same in tokens, prompts and answers together; needs no price."""
    price_input_usd: Annotated[float | None, RunOnly()] = Field(default=None, ge=0)
    """USD per million prompt tokens; None = from `rplab/backend/prices.yaml`."""
    price_output_usd: Annotated[float | None, RunOnly()] = Field(default=None, ge=0)
    """USD per million completion tokens."""

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", value):
            raise ValueError("must be the NAME of an environment variable, such as OPENAI_API_KEY; the key itself never goes into a config")
        return value


class OpenAIConfig(EndpointConfig):
    """Any OpenAI-compatible endpoint: OpenAI, `vllm serve`, SGLang, llama.cpp, `transformers serve`."""

    kind: Literal["openai"] = "openai"
    base_url: str = OPENAI_URL
    """Address up to and including /v1."""

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must look like http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password or query; a key goes into an environment variable (api_key_env)")
        return value.rstrip("/")


class EmbeddingsConfig(StageConfig):
    """An embeddings endpoint."""

    model: str = Field(min_length=1)
    """Model name as the server knows it."""
    base_url: str = OPENAI_URL
    """Address up to and including /v1."""
    api_key_env: Annotated[str | None, RunOnly()] = None
    """NAME of the environment variable with the key. None = OPENAI_API_KEY for api.openai.com, no key elsewhere."""
    in_flight: Annotated[int, RunOnly()] = Field(default=4, ge=1, le=64)
    """Requests open at once, each with up to 64 texts."""
    timeout_s: Annotated[float, RunOnly()] = Field(default=120.0, gt=0, le=3600)
    """One try may take this long."""

    def endpoint(self) -> OpenAIConfig:
        """Return the settings of the endpoint itself (and check them)."""
        return OpenAIConfig(model=self.model, base_url=self.base_url, api_key_env=self.api_key_env, timeout_s=self.timeout_s)


class SpawnConfig(EndpointConfig):
    """A server started for the run on loopback and ended with it; then like `openai`."""

    kind: Literal["spawn"] = "spawn"
    command: tuple[str, ...] = Field(default=("vllm", "serve", "{model}", "--port", "{port}", "--host", "127.0.0.1"), min_length=1)
    """The server's command line; {model} and {port} are filled in. No shell reads it."""
    start_timeout_s: Annotated[float, RunOnly()] = Field(default=900.0, gt=0, le=7200)
    """Time for the server to load its model."""

    @field_validator("command")
    @classmethod
    def _has_a_port(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not any("{port}" in part for part in value):
            raise ValueError("must contain {port}: the lab picks a free one")
        return value


class TransformersConfig(StageConfig):
    """A local model inside this process: no server, any machine; slower than a server on a GPU."""

    kind: Literal["transformers"] = "transformers"
    model: str = Field(min_length=1)
    """Folder of the model."""
    precision: Literal["auto", "fp32", "bf16", "nf4"] = "auto"
    """auto = bf16 on a GPU, fp32 on a CPU. nf4 = 4-bit weights, a quarter of the memory."""
    structured: Literal["constrained", "prompt"] = "constrained"
    """Where JSON is asked for: allow only tokens that some answer of the schema goes on with, or leave it to the prompt."""
    batch_size: Annotated[int, RunOnly()] = Field(default=16, ge=1, le=1024)
    """Most requests decoded together; halved when memory does not suffice."""
    max_batch_tokens: Annotated[int, RunOnly()] = Field(default=32_768, ge=64)
    """Most tokens (prompts padded to the longest, and their answers) in a batch."""
    gather_ms: Annotated[float, RunOnly()] = Field(default=20.0, ge=0, le=10_000)
    """How long a batch waits for more requests."""


BackendConfig: TypeAlias = Annotated[ScriptedConfig | OpenAIConfig | TransformersConfig | SpawnConfig, Field(discriminator="kind")]
"""Every backend's settings."""
