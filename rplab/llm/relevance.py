"""Optional reward: does the reply answer what was said? Asked of an embedding model or a judge behind an endpoint.

Off unless the profile gives `relevance`. The endpoint speaks the OpenAI protocol (vLLM, llama.cpp, Ollama, a hosted
one); its key is read from the environment variable that the settings name, and is never stored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from openai import OpenAI, OpenAIError

from rplab.errors import ConfigError, TrainingError
from rplab.llm.config import RelevanceSettings

Relevance = Callable[[Sequence[str], Sequence[str]], list[float]]
"""(what was said, replies) -> 0..1 each."""

_QUESTION = (
    "다음은 역할극의 한 장면이다. 상대의 말에 대한 대답이 말과 이어지고 내용이 있는지 0에서 10까지의 정수 하나로만 답하라.\n\n"
    "상대의 말:\n{user}\n\n대답:\n{reply}\n\n점수:"
)
_SCORE = re.compile(r"\d+(?:\.\d+)?")
_NO_LIKENESS, _FULL_LIKENESS = 0.1, 0.5
"""Cosines between which the reward rises: the predecessor's lowest and highest step (spec/predecessor-models.md 1.4)."""
_COPY = 0.95
"""A reply this close to the player's line is the line itself and earns nothing."""


def make_relevance(settings: RelevanceSettings) -> Relevance:
    """Return the reward of an endpoint.

    Raises:
        ConfigError: The variable with the key is not set.
    """
    key = os.environ.get(settings.api_key_env, "") if settings.api_key_env else "none"
    if not key:
        raise ConfigError(f"relevance: the environment variable {settings.api_key_env} is not set. Set it, or leave api_key_env empty")
    client = OpenAI(base_url=settings.base_url, api_key=key, timeout=settings.timeout_s, max_retries=4)

    def ask(users: Sequence[str], replies: Sequence[str]) -> list[float]:
        try:
            return (
                _by_embedding(client, settings, users, replies)
                if settings.kind == "embedding"
                else _by_judge(client, settings, users, replies)
            )
        except OpenAIError as error:
            raise TrainingError(
                f"relevance: {settings.base_url} does not answer ({error}). Start it, check model {settings.model!r}, or remove "
                "`relevance` from the profile; the last checkpoint is kept"
            ) from error

    return ask


def _by_embedding(client: OpenAI, settings: RelevanceSettings, users: Sequence[str], replies: Sequence[str]) -> list[float]:
    texts = list(dict.fromkeys([*users, *replies]))
    data = client.embeddings.create(model=settings.model, input=texts).data
    vectors: dict[str, Any] = {text: np.asarray(item.embedding, dtype=np.float64) for text, item in zip(texts, data, strict=True)}
    return [likeness_reward(_cosine(vectors[user], vectors[reply])) for user, reply in zip(users, replies, strict=True)]


def likeness_reward(cosine: float) -> float:
    """Turn a cosine into 0..1: rising from unrelated to related, nothing for a copy."""
    if cosine >= _COPY:
        return 0.0
    return float(min(1.0, max(0.0, (cosine - _NO_LIKENESS) / (_FULL_LIKENESS - _NO_LIKENESS))))


def _cosine(first: Any, second: Any) -> float:
    return float(first @ second / max(1e-12, float(np.linalg.norm(first) * np.linalg.norm(second))))


def _by_judge(client: OpenAI, settings: RelevanceSettings, users: Sequence[str], replies: Sequence[str]) -> list[float]:
    def one(pair: tuple[str, str]) -> float:
        question = _QUESTION.format(user=pair[0], reply=pair[1])
        answer = client.chat.completions.create(
            model=settings.model, messages=[{"role": "user", "content": question}], temperature=0.0, max_tokens=8
        )
        found = _SCORE.search(answer.choices[0].message.content or "")
        return min(10.0, float(found.group())) / 10 if found else 0.0

    with ThreadPoolExecutor(settings.concurrency) as pool:
        return list(pool.map(one, zip(users, replies, strict=True)))
