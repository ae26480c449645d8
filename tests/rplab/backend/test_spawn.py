"""A server of our own: started, waited for, used, and gone afterwards however the lab ends."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rplab.backend.base import ChatRequest
from rplab.backend.config import SpawnConfig
from rplab.backend.open import open_backend
from rplab.errors import BackendError

MOCK = str(Path(__file__).with_name("mock_server.py"))
COMMAND = (sys.executable, MOCK, "--port", "{port}", "--max-seconds", "60")
REQUEST = ChatRequest("k", ({"role": "user", "content": "안녕"},), 1)


def processes_with(text):
    """Return the process ids whose command line holds `text`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in line and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def test_a_server_is_started_asked_and_ended(tmp_path):
    mark = str(tmp_path)
    config = SpawnConfig(model="mock", command=(*COMMAND, "--retry-after", mark))

    async def run():
        backend = open_backend(config)
        try:
            results = await asyncio.gather(*(backend.complete(REQUEST) for _ in range(3)))
            return backend.name, results, processes_with(mark)
        finally:
            await backend.aclose()

    name, results, running = asyncio.run(run())

    assert name == "spawn/mock"
    assert all(result.finish_reason == "stop" for result in results)
    assert len(running) >= 2  # watchdog and server
    assert wait_until(lambda: not processes_with(mark), 5)


def test_a_server_that_does_not_start_shows_its_last_words():
    config = SpawnConfig(model="m", command=(sys.executable, "-c", "print('no such model: m {port}'); raise SystemExit(3)"))

    async def run():
        backend = open_backend(config)
        try:
            await backend.complete(REQUEST)
        finally:
            await backend.aclose()

    with pytest.raises(BackendError, match=r"(?s)did not start.*no such model: m \d+.*exit code 3"):
        asyncio.run(run())


def test_a_command_that_does_not_exist_is_named():
    async def run():
        backend = open_backend(SpawnConfig(model="m", command=("no-such-server", "{port}")))
        try:
            await backend.complete(REQUEST)
        finally:
            await backend.aclose()

    with pytest.raises(BackendError, match="no-such-server: cannot be started"):
        asyncio.run(run())


def test_a_server_that_is_not_ready_in_time_is_given_up(tmp_path):
    mark = str(tmp_path)
    config = SpawnConfig(model="m", command=(*COMMAND, "--start-s", "30", "--retry-after", mark), start_timeout_s=0.5)

    async def run():
        backend = open_backend(config)
        try:
            await backend.complete(REQUEST)
        finally:
            await backend.aclose()

    with pytest.raises(BackendError, match="not ready after"):
        asyncio.run(run())
    assert wait_until(lambda: not processes_with(mark), 5)


@pytest.mark.parametrize("victim", ["lab", "watchdog"])
def test_no_server_is_left_when_the_lab_or_the_watchdog_is_killed(tmp_path, victim):
    mark = str(tmp_path / "mark")
    script = tmp_path / "lab.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio
        from rplab.backend.base import ChatRequest
        from rplab.backend.config import SpawnConfig
        from rplab.backend.open import open_backend

        async def run():
            backend = open_backend(SpawnConfig(model="mock", command={(*COMMAND, "--retry-after", mark)!r}))
            await backend.complete(ChatRequest("k", ({{"role": "user", "content": "x"}},), 1))
            print("ready", flush=True)
            await asyncio.sleep(60)

        asyncio.run(run())
        """)
    )
    lab = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert lab.stdout.readline() == "ready\n"
        watchdogs = [pid for pid in processes_with(mark) if b"watchdog" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(processes_with(mark)) == 2

        os.kill(lab.pid if victim == "lab" else watchdogs[0], signal.SIGKILL)

        assert wait_until(lambda: not processes_with(mark), 5)
    finally:
        lab.kill()
        lab.wait()
