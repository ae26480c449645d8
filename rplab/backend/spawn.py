"""Backend `spawn`: starts a model server on loopback, waits until it is ready, is `openai` from then on, ends it.

The server starts with the first request. Its output goes to a log file that is shown in errors and deleted after a
clean end. `watchdog.py` stands between: no server outlives the lab, however the lab ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from rplab.backend import watchdog
from rplab.backend.base import ChatRequest, ChatResult
from rplab.backend.config import SpawnConfig
from rplab.backend.openai import OpenAIBackend
from rplab.backend.usage import Meter
from rplab.errors import BackendError

logger = logging.getLogger(__name__)

_POLL_S = 0.25
_TAIL_LINES = 15


class SpawnedBackend:
    """A server of our own."""

    def __init__(self, config: SpawnConfig) -> None:
        """Choose a port; nothing is started yet."""
        self._config = config
        self._port = _free_port()
        self._root = f"http://127.0.0.1:{self._port}"
        self._inner = OpenAIBackend(config, f"{self._root}/v1", label="spawn")
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._lock = asyncio.Lock()
        self._ready = False

    @property
    def name(self) -> str:
        """Backend and model; the port stays out."""
        return self._inner.name

    @property
    def meter(self) -> Meter:
        """Tokens, money and tries."""
        return self._inner.meter

    async def complete(self, request: ChatRequest) -> ChatResult:
        """Answer one request; the first one waits for the server.

        Raises:
            BackendError: The server does not start, or has ended; the message shows its last words.
        """
        if not self._ready:
            async with self._lock:
                if not self._ready:
                    await self._start()
                    self._ready = True
        try:
            return await self._inner.complete(request)
        except BackendError as error:
            if self._process is not None and self._process.poll() is not None:
                raise self._ended("the server ended during the run") from error
            raise

    async def aclose(self) -> None:
        """End the server and everything it started."""
        await self._inner.aclose()
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, watchdog.GRACE_S + 5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._log is not None and self._ready:
            self._log.unlink(missing_ok=True)

    async def _start(self) -> None:
        config = self._config
        command = [part.replace("{model}", config.model).replace("{port}", str(self._port)) for part in config.command]
        descriptor, name = tempfile.mkstemp(prefix="rplab-server-", suffix=".log")
        self._log = Path(name)
        logger.info("starting %s (output: %s)", " ".join(command), name)
        with os.fdopen(descriptor, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", watchdog.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        await self._wait_until_ready(self._process)

    async def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        started = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not await _is_ready(session, self._root):
                if process.poll() is not None:
                    raise self._ended("the server did not start")
                if time.monotonic() - started > self._config.start_timeout_s:
                    seconds = self._config.start_timeout_s
                    raise self._ended(f"the server was not ready after {seconds:.0f} s (backend.start_timeout_s)")
                await asyncio.sleep(_POLL_S)
        logger.info("the server is ready after %.1f s", time.monotonic() - started)

    def _ended(self, what: str) -> BackendError:
        words = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:] if self._log else []
        tail = "\n  ".join(words) or "(no output)"
        return BackendError(
            f"{what}: {' '.join(self._config.command)}. Its last lines ({self._log}):\n  {tail}\nCorrect backend.command and run again"
        )


def open_spawned(config: SpawnConfig) -> SpawnedBackend:
    """Return the backend of a config; `rplab.backend.open` calls it."""
    return SpawnedBackend(config)


async def _is_ready(session: aiohttp.ClientSession, root: str) -> bool:
    for path in ("/health", "/v1/models"):
        try:
            async with session.get(root + path) as response:
                if response.status == 200:
                    return True
                if response.status != 404:  # /health is there and says "not yet"
                    return False
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
    return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
