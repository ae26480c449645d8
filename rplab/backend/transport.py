"""HTTP to one endpoint: aiohttp with one session and kept-alive connections, or `plain_http.py` where that is enough.

The openai package costs 2-4 ms CPU a call, aiohttp 0.3 (spec/data.md, 3.1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlsplit

import aiohttp

Fault = Literal["timeout", "connect", "disconnect"]


class TransportFault(Exception):  # noqa: N818 - always caught and turned into a retry or a result
    """No response came, or only a part of it."""

    def __init__(self, fault: Fault, detail: str) -> None:
        """Keep what happened and the library's words for it."""
        super().__init__(detail or fault)
        self.fault: Fault = fault


@dataclass(frozen=True)
class Reply:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Posts JSON to one server."""

    async def post(self, path: str, body: bytes) -> Reply:
        """Send one request.

        Raises:
            TransportFault: No whole response came.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class SessionTransport:
    """Posts JSON to one server through aiohttp."""

    def __init__(self, base_url: str, key: str | None, *, max_open: int, timeout_s: float) -> None:
        """Open the session; must be called inside the event loop."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "rplab"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._base_url = base_url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_open, keepalive_timeout=30),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            trust_env=not is_loopback(base_url),  # a company's proxy is for the world outside
            auto_decompress=True,
        )

    async def post(self, path: str, body: bytes) -> Reply:
        """Send one request.

        Raises:
            TransportFault: No whole response came.
        """
        try:
            async with self._session.post(self._base_url + path, data=body, allow_redirects=False) as response:
                return Reply(response.status, response.headers, await response.read())
        except TimeoutError as error:
            raise TransportFault("timeout", str(error)) from None
        except aiohttp.ClientConnectorError as error:
            raise TransportFault("connect", str(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransportFault("disconnect", f"{type(error).__name__}: {error}") from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()


def is_loopback(base_url: str) -> bool:
    """Return whether an address is this machine."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
