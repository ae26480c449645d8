"""Backend `openai`: any OpenAI-compatible endpoint, kept as busy as it allows.

One request = as many tries as it takes: 429s wait as the server asks (`aimd.py` learns how much it takes), server
errors, timeouts and broken connections are tried again with jittered back-off, and everything else is an answer or an
error at once. A refused, cut or empty completion comes back as such; it is never a good row.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import orjson

from rplab.backend.aimd import Aimd, Gate
from rplab.backend.base import ChatRequest, ChatResult
from rplab.backend.config import EndpointConfig, OpenAIConfig
from rplab.backend.dialect import BOOST, Dialect
from rplab.backend.plain_http import PlainTransport
from rplab.backend.prices import find_price
from rplab.backend.retry import TRANSIENT_STATUSES, backoff_s, retry_after_s
from rplab.backend.transport import Reply, SessionTransport, Transport, TransportFault, is_loopback
from rplab.backend.usage import Meter
from rplab.errors import BackendError, ConfigError, RefusedError
from rplab.seeding import derive

logger = logging.getLogger(__name__)

HOPELESS_IN_A_ROW = 20
"""Requests given up one after the other, with no answer between, that end the run: the server is broken."""
_FIRST_CONTACT_RETRIES = 2
"""Nobody should wait long for a wrong address."""
_MAX_ADAPTATIONS = 8
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


@dataclass(frozen=True)
class _Wait:
    """Try again after so many seconds."""

    delay_s: float
    reason: str
    limited: bool = False


@dataclass
class _Tries:
    """What became of the tries of one request."""

    started: float
    failures: int = 0
    refusals: int = 0
    adaptations: int = 0
    boosted: bool = False


class OpenAIBackend:
    """Chat completions or responses over HTTP."""

    def __init__(self, config: EndpointConfig, base_url: str, *, label: str = "openai") -> None:
        """Prepare; the connection is opened by the first request.

        Args:
            config: Settings.
            base_url: Address up to and including /v1.
            label: First part of the name.

        Raises:
            ConfigError: No key in the environment, or a budget without a price.
        """
        self._config = config
        self._base_url = base_url
        self._key_name, self._key = find_key(config, base_url)
        self._dialect = Dialect(config, base_url)
        self.meter = Meter(
            config.model,
            find_price(config.model, config.price_input_usd, config.price_output_usd),
            config.budget_usd,
            config.budget_tokens,
            # an empty answer of a reasoning model is asked for once more, with more room; both are paid for
            (config.reasoning_tokens * (1 + BOOST)) if self._dialect.reasoning else 0,
        )
        self.name = f"{label}/{config.model}" + (f"@{config.effort}" if config.effort else "")
        self.control = Aimd(config.max_open)
        self._gate: Gate | None = None
        self._transport: Transport | None = None
        self._open = 0
        self._arrived = asyncio.Event()
        self._hopeless = 0
        self._answered = False

    async def complete(self, request: ChatRequest) -> ChatResult:
        """Answer one request.

        Raises:
            BackendError: The key, the address or the model is wrong, the budget is used up, or the server does not work.
        """
        while not self.meter.reserve(request):
            if not self._open:
                raise self.meter.over_budget()
            await self._arrived.wait()  # what is on its way may cost less than feared; it is paid for and must be recorded
        self._open += 1
        try:
            return await self._ask(request)
        finally:
            self._open -= 1
            self.meter.release(request)
            self._arrived.set()
            self._arrived = asyncio.Event()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    async def _ask(self, request: ChatRequest) -> ChatResult:
        if self._transport is None or self._gate is None:
            config = self._config
            self._transport = open_transport(self._base_url, self._key, max_open=config.max_open, timeout_s=config.timeout_s)
            self._gate = Gate(self.control)
        tries = _Tries(asyncio.get_running_loop().time())
        again = False
        while True:
            body = self._dialect.body(request, boost=tries.boosted)
            outcome = await self._try(request, body, tries, self._gate, self._transport, again=again)
            if isinstance(outcome, ChatResult):
                return outcome
            again = True
            if (given_up := self._give_up(request, outcome, tries)) is not None:
                return given_up
            if outcome.delay_s:
                await asyncio.sleep(outcome.delay_s)

    async def _try(
        self, request: ChatRequest, body: dict[str, Any], tries: _Tries, gate: Gate, transport: Transport, *, again: bool
    ) -> ChatResult | _Wait:
        ticket = await gate.enter(again=again)
        try:
            reply = await transport.post(self._dialect.path, orjson.dumps(body))
        except TransportFault as fault:
            gate.leave(ticket, "failed")
            self.meter.tries[fault.fault] += 1
            tries.failures += 1
            return self._after_fault(request, fault, tries)
        except BaseException:
            gate.leave(ticket, "dropped")
            raise
        self._answered = True
        if reply.status == 429:
            wait = retry_after_s(reply.headers)
            gate.leave(ticket, "limited", wait)
            self.meter.tries["429"] += 1
            tries.refusals += 1
            return self._after_429(request, reply, wait, tries)
        gate.leave(ticket, "ok" if reply.status == 200 else "failed")
        self.meter.tries["ok" if reply.status == 200 else str(reply.status)] += 1
        return self._read(request, reply, tries) if reply.status == 200 else self._after_error(request, body, reply, tries)

    def _read(self, request: ChatRequest, reply: Reply, tries: _Tries) -> ChatResult | _Wait:
        try:
            result = self._dialect.read(request, reply.body)
        except ValueError as error:
            tries.failures += 1
            return _Wait(backoff_s(request.seed, tries.failures), f"unreadable response: {error}")
        self._hopeless = 0
        self.meter.count(result.usage)
        if self._dialect.reasoning and result.finish_reason == "length" and not result.text.strip() and not tries.boosted:
            tries.boosted = True
            return _Wait(0.0, "the model thought until its tokens were used up")
        return result

    def _after_fault(self, request: ChatRequest, fault: TransportFault, tries: _Tries) -> _Wait:
        if fault.fault == "connect" and tries.failures > (self._config.max_retries if self._answered else _FIRST_CONTACT_RETRIES):
            raise BackendError(
                f"{self._base_url}: no connection ({self._redact(str(fault))}). Start the server or correct backend.base_url, "
                "then run the same command again; every answer so far is kept"
            )
        return _Wait(backoff_s(request.seed, tries.failures), fault.fault if fault.fault == "timeout" else f"{fault.fault}: {fault}")

    def _after_429(self, request: ChatRequest, reply: Reply, wait: float | None, tries: _Tries) -> _Wait:
        message, code, _ = _error_of(reply)
        if code in _QUOTA_CODES:
            raise RefusedError(
                f"{self._base_url}: the account has no money or quota left ({self._redact(message)}). "
                "Settle it with the provider, then run the same command again; every answer so far is kept"
            )
        jittered = backoff_s(request.seed, tries.refusals) if wait is None else wait + 0.25 * min(1.0, wait) * _jitter(request.seed, tries)
        return _Wait(jittered, f"429: {message}", limited=True)

    def _after_error(self, request: ChatRequest, body: dict[str, Any], reply: Reply, tries: _Tries) -> ChatResult | _Wait:
        message, code, parameter = _error_of(reply)
        message = self._redact(message)
        if reply.status in (401, 403):
            key = f"Set {self._key_name} to a valid key" if self._key_name else "Name the key's environment variable in backend.api_key_env"
            raise RefusedError(f"{self._base_url}: HTTP {reply.status}, access denied ({message}). {key}, then run again")
        if reply.status in (404, 405) or 300 <= reply.status < 400:
            raise RefusedError(
                f"{self._base_url}{self._dialect.path}: HTTP {reply.status} ({message}). "
                f"Check backend.base_url (it ends in /v1) and backend.model ({self._config.model})"
            )
        if reply.status in TRANSIENT_STATUSES or reply.status >= 500:
            tries.failures += 1
            wait = retry_after_s(reply.headers)
            return _Wait(backoff_s(request.seed, tries.failures) if wait is None else wait, f"HTTP {reply.status}: {message}")
        if reply.status in (400, 422) and tries.adaptations < _MAX_ADAPTATIONS and self._dialect.adapt(message, parameter, body):
            tries.adaptations += 1
            return _Wait(0.0, f"HTTP {reply.status}: {message}")
        if code == "content_filter" or code == "content_policy_violation":
            return ChatResult(request.key, "", "content_filter", self._config.model, error=message)
        return self._failed(request, f"HTTP {reply.status}: {message}")

    def _give_up(self, request: ChatRequest, outcome: _Wait, tries: _Tries) -> ChatResult | None:
        """Return the error result of a request that has used up its tries or its time, else None."""
        left = tries.started + self._config.deadline_s - asyncio.get_running_loop().time()
        if outcome.limited:
            if outcome.delay_s < left:
                return None
            raise BackendError(
                f"{self._base_url}: the server takes no more requests for now ({self._redact(outcome.reason)}; it asks to wait "
                f"{outcome.delay_s:.0f} s). Run the same command again later, or raise backend.deadline_s; every answer so far is kept"
            )
        if tries.failures <= self._config.max_retries and outcome.delay_s < left:
            return None
        why = "the deadline has passed" if outcome.delay_s >= left else f"given up after {tries.failures} tries"
        return self._failed(request, f"{why}; last: {self._redact(outcome.reason)}")

    def _failed(self, request: ChatRequest, error: str) -> ChatResult:
        self._hopeless += 1
        if self._hopeless >= HOPELESS_IN_A_ROW:
            raise BackendError(
                f"{self._base_url}: {self._hopeless} requests in a row failed ({error}). Repair the server or the settings, "
                "then run the same command again; every answer so far is kept"
            )
        logger.warning("%s: %s", request.key, error)
        return ChatResult(request.key, "", "error", self._config.model, error=error)

    def _redact(self, text: str) -> str:
        """Return server text without the key that it may quote."""
        return text.replace(self._key, "***") if self._key else text


def open_openai(config: OpenAIConfig) -> OpenAIBackend:
    """Return the backend of a config; `rplab.backend.open` calls it."""
    return OpenAIBackend(config, config.base_url)


def open_transport(base_url: str, key: str | None, *, max_open: int, timeout_s: float) -> Transport:
    """Return the lighter transport for plain HTTP without a proxy, aiohttp for everything else."""
    plain = base_url.startswith("http://") and (is_loopback(base_url) or "http" not in getproxies())
    return (
        PlainTransport(base_url, key, timeout_s=timeout_s)
        if plain
        else SessionTransport(base_url, key, max_open=max_open, timeout_s=timeout_s)
    )


def find_key(config: EndpointConfig, base_url: str) -> tuple[str | None, str | None]:
    """Return (name of the environment variable, key or None).

    A key goes only where it belongs: OPENAI_API_KEY to OpenAI, any other variable where the config says so.

    Raises:
        ConfigError: The variable that is needed is not set.
    """
    host = urlsplit(base_url).hostname or ""
    official = host == "api.openai.com" or host.endswith(".api.openai.com")
    name = config.api_key_env or ("OPENAI_API_KEY" if official else None)
    if name is None:
        return None, None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {name} is not set. Put the key of {host} into it; never into a file of the project")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"the environment variable {name} holds characters that no key has. Set it again")
    return name, key


def _error_of(reply: Reply) -> tuple[str, str, str]:
    """Return (message, code, parameter) of an error response, "" where it does not say."""
    try:
        value: Any = orjson.loads(reply.body)
    except ValueError:
        return reply.body[:200].decode("utf-8", "replace").strip(), "", ""
    error: Any = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return str(error)[:300], "", ""
    message = error.get("message") or error.get("detail") or error.get("error") or ""
    return str(message)[:300], str(error.get("code") or error.get("type") or ""), str(error.get("param") or "")


def _jitter(seed: int, tries: _Tries) -> float:
    return derive(seed, "retry-after", tries.refusals).random()
