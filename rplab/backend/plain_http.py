"""HTTP/1.1 without TLS to one server, with kept-alive connections: what a model server on this machine or network needs.

A third of aiohttp's CPU time a request (0.06 ms against 0.19, measured in benchmarks/generation.py's setting), which is
what limits a run against a fast local server. Everything else (TLS, proxies) goes through aiohttp: `transport.py`.
Answers may have a length, be chunked, or end with the connection (RFC 9112); they are not compressed, since that is not
asked for.
"""

from __future__ import annotations

import asyncio
from typing import cast
from urllib.parse import urlsplit

from rplab.backend.transport import Reply, TransportFault

_MAX_HEAD_BYTES = 64 * 1024


class PlainTransport:
    """Posts JSON to one http:// server."""

    def __init__(self, base_url: str, key: str | None, *, timeout_s: float) -> None:
        """Prepare; connections are opened as they are needed."""
        parts = urlsplit(base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self._path = parts.path
        self._timeout_s = timeout_s
        lines = [f"Host: {parts.netloc}", "Content-Type: application/json", "Accept: application/json", "User-Agent: rplab"]
        if key:
            lines.append(f"Authorization: Bearer {key}")
        self._headers = "\r\n".join(lines)
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()

    async def post(self, path: str, body: bytes) -> Reply:
        """Send one request.

        Raises:
            TransportFault: No whole response came.
        """
        head = f"POST {self._path}{path} HTTP/1.1\r\n{self._headers}\r\nContent-Length: {len(body)}\r\n\r\n"
        data = head.encode("ascii") + body
        while (connection := self._take()) is not None:
            try:
                return await self._exchange(connection, data)
            except TransportFault:
                if not connection.closed_while_idle:  # the server hung up before it could have read the request: ask again
                    raise
        return await self._exchange(await self._connect(), data)

    async def aclose(self) -> None:
        """Close the connections."""
        for connection in tuple(self._all):
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, connection = await loop.create_connection(lambda: _Connection(self._all), self._host, self._port)
        except TimeoutError:
            raise TransportFault("timeout", "no connection in time") from None
        except OSError as error:
            raise TransportFault("connect", str(error)) from None
        return connection

    async def _exchange(self, connection: _Connection, data: bytes) -> Reply:
        timer = asyncio.get_running_loop().call_later(self._timeout_s, connection.expire)
        try:
            reply = await connection.ask(data)
        except BaseException:
            connection.abort()
            raise
        finally:
            timer.cancel()
        if connection.usable:
            self._idle.append(connection)
        return reply


class _Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, everyone: set[_Connection]) -> None:
        self._everyone = everyone
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._buffer = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._num_requests = 0
        self.usable = True

    @property
    def closed_while_idle(self) -> bool:
        """Whether a kept connection ended without a byte of an answer."""
        return self._num_requests > 1 and not self.usable and not self._buffer and not self._status

    def ask(self, data: bytes) -> asyncio.Future[Reply]:
        """Send a request and return the future of its response."""
        assert self._transport is not None
        self._num_requests += 1
        self._status = 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return self._answer

    def expire(self) -> None:
        """Give up waiting."""
        self._fail(TransportFault("timeout", "no answer in time"))
        self._status = -1  # not to be mistaken for a connection closed while idle
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._everyone.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Finish an answer that ends with the connection; fail any other."""
        self.usable = False
        self._everyone.discard(self)
        lengthless = "content-length" not in self._headers and "chunked" not in self._headers.get("transfer-encoding", "")
        if exc is None and self._status > 0 and lengthless:
            self._finish(bytes(self._buffer))
        else:
            self._fail(TransportFault("disconnect", str(exc or "the server closed the connection")))

    def data_received(self, data: bytes) -> None:
        """Collect an answer."""
        self._buffer += data
        try:
            if self._answer is None or self._answer.done():
                raise ValueError("data that nobody asked for")
            while self._status == 0:
                if not self._read_head():
                    return
            self._read_body()
        except ValueError as error:
            self._fail(TransportFault("disconnect", f"no HTTP answer: {error}"))
            self._status = -1
            self.abort()

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise ValueError("endless headers")
            return False
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(repr(first[:40]))
        status = int(rest[:3])
        self._headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status >= 200:  # 1xx are no answers yet
            self._status = status
            kept = self._headers.get("connection", "").lower()
            self.usable = "close" not in kept and (version == "HTTP/1.1" or "keep-alive" in kept)
        return True

    def _read_body(self) -> None:
        if "chunked" in self._headers.get("transfer-encoding", "").lower():
            self._read_chunks()
            return
        if (length := self._headers.get("content-length")) is not None:
            size = int(length)
            if len(self._buffer) >= size:
                body = bytes(self._buffer[:size])
                del self._buffer[:size]
                self._finish(body)
        elif self._status in (204, 304):
            self._finish(b"")
        else:
            self.usable = False  # it ends with the connection

    def _read_chunks(self) -> None:
        pieces: list[bytes] = []
        at = 0
        while (end := self._buffer.find(b"\r\n", at)) >= 0:
            size = int(bytes(self._buffer[at:end]).split(b";")[0], 16)
            if size == 0:
                trailer = self._buffer.find(b"\r\n\r\n", end)
                if trailer >= 0:
                    del self._buffer[: trailer + 4]
                    self._finish(b"".join(pieces))
                return
            start, at = end + 2, end + 2 + size + 2
            if len(self._buffer) < at:
                return
            pieces.append(bytes(self._buffer[start : start + size]))

    def _finish(self, body: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Reply(self._status, self._headers, body))

    def _fail(self, fault: TransportFault) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(fault)
