"""Requests as an OpenAI-compatible endpoint wants them, and its answers read back.

Servers differ in what they accept, so a dialect learns: when a server refuses a parameter (HTTP 400 naming it), the
parameter is left out from then on, and JSON answers step down from a strict schema to a loose one, to any JSON object,
to the prompt alone. Whatever is asked for, the caller checks the answer itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from rplab.backend.base import ChatRequest, ChatResult, Usage
from rplab.backend.config import EndpointConfig

logger = logging.getLogger(__name__)

Finish = Literal["stop", "length", "content_filter", "error"]

_REASONING = re.compile(r"(?:[\w.-]+/)?(?:o\d|gpt-5)(?!.*-chat)")
_THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
_SCHEMA_WORDS = ("response_format", "json_schema", "json_object", "text.format", "schema", "grammar", "structured")
_LADDER = ("strict", "json_schema", "json_object", "off")
_DROPPABLE = ("repetition_penalty", "temperature", "top_p", "seed", "stop", "reasoning_effort", "reasoning", "store")
_BUDGETS = ("max_completion_tokens", "max_tokens")
BOOST = 4
_SEED_MASK = 0x7FFF_FFFF
"""Some servers read seeds as 32-bit numbers."""


class Dialect:
    """How one endpoint is talked to."""

    def __init__(self, config: EndpointConfig, base_url: str) -> None:
        """Start with everything the API documents; refusals narrow it."""
        host = urlsplit(base_url).hostname or ""
        official = host == "openai.com" or host.endswith((".openai.com", ".openai.azure.com"))
        self._config = config
        self.path = "/chat/completions" if config.api == "chat" else "/responses"
        self.reasoning = config.reasoning if config.reasoning is not None else bool(_REASONING.match(config.model))
        self._budget = "max_output_tokens" if config.api == "responses" else _BUDGETS[0] if official or self.reasoning else _BUDGETS[1]
        self._level = _LADDER.index("strict" if config.structured == "json_schema" else config.structured)
        self._left_out: set[str] = {"repetition_penalty"} if official else set()

    def body(self, request: ChatRequest, *, boost: bool = False) -> dict[str, Any]:
        """Return the JSON body of a request; `boost` gives a reasoning model more room."""
        config, sampling = self._config, request.sampling
        chat = config.api == "chat"
        body: dict[str, Any] = {"model": config.model, "messages" if chat else "input": request.messages}
        thinking = config.reasoning_tokens * (BOOST if boost else 1) if self.reasoning else 0
        body[self._budget] = sampling.max_tokens + thinking
        if not self.reasoning:
            body["temperature"], body["top_p"] = sampling.temperature, sampling.top_p
            if chat:
                body["seed"] = request.seed & _SEED_MASK
                if sampling.stop:
                    body["stop"] = sampling.stop[:4]
                if sampling.repetition_penalty != 1.0:
                    body["repetition_penalty"] = sampling.repetition_penalty
        if not chat:
            body["store"] = False
        if config.effort is not None:
            body |= {"reasoning_effort": config.effort} if chat else {"reasoning": {"effort": config.effort}}
        if request.schema is not None and (shape := self._answer_shape(request.schema)):
            body |= {"response_format": shape} if chat else {"text": {"format": shape.get("json_schema", {}) | {"type": shape["type"]}}}
        for name in self._left_out:
            body.pop(name, None)
        return body | config.extra_body

    def _answer_shape(self, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        level = _LADDER[self._level]
        if level == "off":
            return None
        if level == "json_object":
            return {"type": "json_object"}
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": level == "strict"}}

    def adapt(self, message: str, parameter: str, body: Mapping[str, Any]) -> bool:
        """Learn from a refused request (HTTP 400 or 422).

        Args:
            message: The server's words.
            parameter: What it names as wrong, or "".
            body: What was sent; concurrent requests may have taught us already.

        Returns:
            Whether another try with a new body makes sense.
        """
        about = f"{parameter} {message}".lower()
        if self._budget in _BUDGETS and self._budget in about and ("unsupported" in about or "unrecognized" in about):
            other = _BUDGETS[1 - _BUDGETS.index(self._budget)]
            if self._budget in body:
                logger.info("%s is refused; sending %s from here on", self._budget, other)
                self._budget = other
            return True
        named = parameter.partition(".")[0]
        refused = [name for name in _DROPPABLE if name in body and (name == named or re.search(rf"\b{name}\b", about))]
        if refused:
            if new := [name for name in refused if name not in self._left_out]:
                logger.warning("the server refuses %s; left out from here on (%s)", ", ".join(new), message[:200])
                self._left_out.update(new)
            return True
        sent = body.get("response_format") or body.get("text")
        if sent is not None and any(word in about for word in _SCHEMA_WORDS):
            return self._step_down(sent, message)
        return False

    def _step_down(self, sent: Any, message: str) -> bool:
        level = _level_of(sent)
        if level == self._level:
            self._level += 1
            logger.warning(
                "the server refuses JSON answers as %r; %r from here on (%s)", _LADDER[level], _LADDER[self._level], message[:200]
            )
        return True

    def read(self, request: ChatRequest, body: bytes) -> ChatResult:
        """Return the answer in a response of status 200.

        Raises:
            ValueError: It is no answer of this API (a proxy's page, a cut body).
        """
        value: Any = orjson.loads(body)
        try:
            text, finish, error = _read_chat(value) if self._config.api == "chat" else _read_response(value)
            usage = _read_usage(value.get("usage"), request, text)
            model = str(value.get("model") or self._config.model)
        except (KeyError, IndexError, TypeError, AttributeError) as fault:
            raise ValueError(f"no answer of this API ({type(fault).__name__}: {fault})") from None
        text = _cut(_THOUGHT.sub("", text, count=1) if text.lstrip().startswith("<think>") else text, request.sampling.stop)
        if finish == "stop" and not text.strip():
            error = "the completion is empty"
        return ChatResult(request.key, text, finish, model, usage, error=error)


def _level_of(sent: Any) -> int:
    shape = sent.get("format", sent)
    if shape["type"] == "json_object":
        return _LADDER.index("json_object")
    return _LADDER.index("strict" if shape.get("json_schema", shape).get("strict") else "json_schema")


def _read_chat(value: Any) -> tuple[str, Finish, str]:
    choice = value["choices"][0]
    message = choice["message"]
    if message.get("refusal"):
        return "", "content_filter", str(message["refusal"])[:500]
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text") or "" for part in content)
    reason = choice.get("finish_reason") or "stop"
    if reason in ("stop", "eos", "stop_sequence"):
        return content, "stop", ""
    if reason in ("length", "max_tokens"):
        return content, "length", "cut at the token limit"
    if reason == "content_filter":
        return content, "content_filter", "the server's content filter stopped the answer"
    return content, "error", f"finish_reason {reason!r}"


def _read_response(value: Any) -> tuple[str, Finish, str]:
    parts = [part for item in value["output"] if item["type"] == "message" for part in item["content"]]
    text = "".join(part["text"] for part in parts if part["type"] == "output_text")
    if refusals := [part["refusal"] for part in parts if part["type"] == "refusal"]:
        return "", "content_filter", str(refusals[0])[:500]
    if value.get("status") == "incomplete":
        reason = (value.get("incomplete_details") or {}).get("reason", "")
        if reason == "content_filter":
            return text, "content_filter", "the server's content filter stopped the answer"
        return text, "length", "cut at the token limit"
    if value.get("status") not in ("completed", None):
        return text, "error", f"status {value['status']!r}: {str((value.get('error') or {}).get('message', ''))[:300]}"
    return text, "stop", ""


def _read_usage(usage: Any, request: ChatRequest, text: str) -> Usage:
    """Return the tokens used; without a word from the server, one token a character (more than any tokenizer needs)."""
    if not usage:
        return Usage(sum(len(message["content"]) for message in request.messages), len(text))
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Usage(
        int(prompt if prompt is not None else usage.get("input_tokens") or 0),
        int(completion if completion is not None else usage.get("output_tokens") or 0),
    )


def _cut(text: str, stops: tuple[str, ...]) -> str:
    """Return the text up to the first stop string, for servers that do not stop there."""
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
