"""The reply model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, SGLang, `transformers serve`, OpenAI.

Text comes as server-sent events and is handed on piece by piece. One connection is kept alive; a server that went away is
tried anew by the next turn, and one that dies in mid-reply before the first piece is asked again once (nothing was shown
yet). Every wait has a limit. When the player interrupts, the connection is closed: that is how these servers are told to
stop.

Sessions call engines from threads, aiohttp wants one event loop: it runs in a daemon thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
from pydantic import ValidationError

from rplab.backend.config import OpenAIConfig
from rplab.backend.openai import find_key
from rplab.backend.transport import is_loopback
from rplab.errors import BackendError, ConfigError
from rplab.l10n import tr
from rplab.play.config import EndpointConfig, ReplySampling
from rplab.play.engines import PromptUsage

logger = logging.getLogger(__name__)

T = TypeVar("T")

_QUEUE_PIECES = 64
_POLL_S = 0.05
_TRIES = 2
_MESSAGE_TOKENS = 8
_MAX_LINE_BYTES = 1 << 20
_EXTENSIONS = ("top_k", "repetition_penalty")
"""Sampling fields that vLLM, llama.cpp and SGLang know and OpenAI refuses."""


class EndpointModel:
    """A `ReplyModel` on a server."""

    def __init__(self, config: EndpointConfig) -> None:
        """Look at the server: is it there, which models does it have.

        Raises:
            BackendError: It does not answer, refuses the key, or has no such model.
            ConfigError: The address is none, or a key is missing.
        """
        self._config = config
        try:
            base = OpenAIConfig(base_url=config.url, model=config.model or "any", api_key_env=config.api_key_env)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ConfigError(f"{config.url!r} is no endpoint ({reason}). Give an address such as http://127.0.0.1:8000/v1") from None
        self._url = base.base_url.rstrip("/")
        _, self._key = find_key(base, self._url)
        self._without: set[str] = set()
        self._usage: PromptUsage | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="play-endpoint")
        self._thread.start()
        self._http: aiohttp.ClientSession | None = None
        try:
            self.model, self._context = self._run(self._look())
        except BaseException:
            self.close()
            raise

    @property
    def context_tokens(self) -> int:
        """What the server says, else what the settings say."""
        return self._context

    @property
    def usage(self) -> PromptUsage | None:
        """What the server said of the last prompt; None where it says nothing."""
        return self._usage

    def count(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Estimate from above: a Hangul syllable is at most about one token in the vocabularies in use."""
        return sum(_MESSAGE_TOKENS + sum(1.0 if ord(c) > 127 else 0.4 for c in message["content"]) for message in messages).__ceil__()

    def prefill(self, messages: Sequence[Mapping[str, str]], *, cancelled: Callable[[], bool]) -> None:
        """Nothing: servers keep what they read (prefix caching), and asking them to read ahead would cost a request."""

    def stream(
        self, messages: Sequence[Mapping[str, str]], sampling: ReplySampling, *, seed: int, cancelled: Callable[[], bool]
    ) -> Iterator[str]:
        """See `ReplyModel.stream`.

        Raises:
            BackendError: The server is gone, too slow, or refuses; says which.
        """
        pieces: queue.Queue[str | BaseException | None] = queue.Queue(_QUEUE_PIECES)
        reading = asyncio.run_coroutine_threadsafe(self._fill(pieces, messages, sampling, seed), self._loop)
        try:
            while not cancelled():
                try:
                    piece = pieces.get(timeout=_POLL_S)
                except queue.Empty:
                    if reading.done() and pieces.empty():
                        raise BackendError(tr("모델 서버와의 연결이 닫혔습니다", "the connection to the model server was closed")) from None
                    continue
                if piece is None:
                    return
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            reading.cancel()

    def close(self) -> None:
        """Close the connection and end the thread. Calling it twice is fine."""
        if self._loop.is_closed() or not self._thread.is_alive():
            return
        if self._http is not None:
            self._run(self._http.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2.0)
        if not self._thread.is_alive():
            self._loop.close()

    # -- in the loop's thread

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(self._config.connect_timeout_s + self._config.piece_timeout_s)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None or self._http.closed:
            headers = {"User-Agent": "rplab"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            self._http = aiohttp.ClientSession(
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._config.connect_timeout_s),
                connector=aiohttp.TCPConnector(limit=4, keepalive_timeout=60),
                trust_env=not is_loopback(self._url),
                read_bufsize=_MAX_LINE_BYTES,
            )
        return self._http

    async def _look(self) -> tuple[str, int]:
        """Return the model's name and its context."""
        wanted = self._config.model
        try:
            async with asyncio.timeout(self._config.connect_timeout_s + 10.0), self._session().get(f"{self._url}/models") as response:
                if response.status in (401, 403):
                    raise BackendError(f"{self._url} refuses the key (HTTP {response.status}). Set the right one in the environment")
                if response.status == 404 and wanted:
                    return wanted, self._config.context_tokens  # some servers list nothing
                body: Any = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise BackendError(
                tr(
                    f"{self._url}: 모델 서버에 연결할 수 없습니다 ({_words(error)}). 서버를 켜거나 --llm-url 을 확인하세요",
                    f"{self._url}: no model server answers ({_words(error)}). Start it, or check --llm-url",
                )
            ) from None
        rows: list[dict[str, Any]] = [row for row in body.get("data", []) if isinstance(row, dict)] if isinstance(body, dict) else []
        names = [str(row.get("id", "")) for row in rows]
        row = next((row for row in rows if not wanted or row.get("id") == wanted), None)
        if row is None:
            if not names and wanted:
                return wanted, self._config.context_tokens
            raise BackendError(f"{self._url} has no model {wanted!r}. It offers: {', '.join(names) or 'none'}")
        meta: Any = row.get("meta") or {}
        context = row.get("max_model_len") or row.get("context_length") or meta.get("n_ctx_train")
        return str(row["id"]), min(int(context), self._config.context_tokens) if context else self._config.context_tokens

    async def _fill(
        self,
        pieces: queue.Queue[str | BaseException | None],
        messages: Sequence[Mapping[str, str]],
        sampling: ReplySampling,
        seed: int,
    ) -> None:
        """Put pieces into the queue, then None, or what went wrong."""
        end: BaseException | None = None
        try:
            for number in range(1, _TRIES + 1):
                any_shown = False
                try:
                    async for piece in self._pieces(messages, sampling, seed):
                        any_shown = True
                        await _put(pieces, piece)
                    break
                except _LostError as error:
                    if any_shown or number == _TRIES:
                        raise BackendError(str(error)) from None
                    logger.info("asked again: %s", error)
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            end = error
        await _put(pieces, end)

    async def _pieces(self, messages: Sequence[Mapping[str, str]], sampling: ReplySampling, seed: int) -> AsyncIterator[str]:
        """Yield the text of one answer.

        Raises:
            _LostError: The connection failed or fell silent.
            BackendError: The server answered with an error.
        """
        self._usage = None
        try:
            async with asyncio.timeout(self._config.first_piece_timeout_s) as patience:
                response = await self._post(messages, sampling, seed)
                async with response:
                    finished = False
                    async for line in response.content:
                        data = line.strip()
                        if not data.startswith(b"data:"):
                            continue
                        patience.reschedule(asyncio.get_running_loop().time() + self._config.piece_timeout_s)
                        data = data[5:].strip()
                        if data == b"[DONE]":
                            return
                        text, ended = self._read(data)
                        finished = finished or ended
                        if text:
                            yield text
                    if not finished:
                        raise _LostError(
                            tr("모델 서버가 답을 끝내지 않고 연결을 닫았습니다", "the model server closed the connection in mid-reply")
                        )
        except TimeoutError:
            raise _LostError(tr("모델 서버가 응답하지 않습니다", "the model server fell silent")) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _LostError(
                tr(f"모델 서버와의 연결이 끊겼습니다 ({_words(error)})", f"the model server is gone ({_words(error)})")
            ) from None

    async def _post(self, messages: Sequence[Mapping[str, str]], sampling: ReplySampling, seed: int) -> aiohttp.ClientResponse:
        """Send the request; a field that the server does not know is left out from then on."""
        while True:
            body = self._body(messages, sampling, seed)
            response = await self._session().post(f"{self._url}/chat/completions", json=body, headers={"Accept": "text/event-stream"})
            if response.status == 200:
                return response
            message = self._redact((await response.content.read(2000)).decode("utf-8", "replace"))
            response.release()
            refused = [field for field in (*_EXTENSIONS, "seed", "stream_options") if field in body and field in message]
            if response.status in (400, 422) and refused:
                self._without.update(refused)
                continue
            raise BackendError(
                tr(
                    f"모델 서버가 거절했습니다 (HTTP {response.status}): {message[:200]}",
                    f"the model server refuses (HTTP {response.status}): {message[:200]}",
                )
            )

    def _body(self, messages: Sequence[Mapping[str, str]], sampling: ReplySampling, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            **({"top_k": sampling.top_k} if sampling.top_k else {}),
            "repetition_penalty": sampling.repetition_penalty,
            "seed": seed % (1 << 31),
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._config.extra_body,
        }
        return {name: value for name, value in body.items() if name not in self._without}

    def _read(self, data: bytes) -> tuple[str, bool]:
        """Return the text of an event and whether the reply ends with it."""
        event: Any = json.loads(data)
        if not isinstance(event, dict):
            return "", False
        if error := event.get("error"):
            raise BackendError(self._redact(f"the model server reports: {str(error)[:200]}"))
        usage: Any = event.get("usage")
        if isinstance(usage, dict) and isinstance(usage.get("prompt_tokens"), int):
            details: Any = usage.get("prompt_tokens_details") or {}
            cached = int(details.get("cached_tokens") or 0)
            self._usage = PromptUsage(int(usage["prompt_tokens"]) - cached, cached)
        choices: Any = event.get("choices") or [{}]
        delta: Any = choices[0].get("delta") or {}
        return str(delta.get("content") or ""), bool(choices[0].get("finish_reason"))

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class _LostError(Exception):
    """The connection failed before the reply was complete."""


async def _put(pieces: queue.Queue[str | BaseException | None], piece: str | BaseException | None) -> None:
    """Wait while the reader is behind: a slow speaker slows the server instead of filling the memory."""
    while True:
        try:
            pieces.put_nowait(piece)
        except queue.Full:
            await asyncio.sleep(0.01)
        else:
            return


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
