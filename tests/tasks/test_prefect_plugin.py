"""The start-up plugin: short deployment names, and nothing else. No server needed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from prefect.client.orchestration._deployments import client as deployments
from prefect.plugins import HookContext

from tasks import prefect_plugin

ROOT = Path(__file__).parents[2]


def context() -> HookContext:
    return HookContext(prefect_version="3.8.8", api_url=None, logger_factory=logging.getLogger)


@pytest.mark.parametrize(("given", "meant"), [("rp-data", "rp-data/rp-data"), ("a/b", "a/b"), ("", "")])
def test_short_name_means_flow_and_deployment_of_that_name(given: str, meant: str) -> None:
    assert prefect_plugin.expand_name(given) == meant


def test_lookup_is_wrapped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class FakeClient:
        def read_deployment_by_name(self, name: str) -> str:
            asked.append(name)
            return name

    monkeypatch.setattr(deployments, "DeploymentClient", FakeClient)
    prefect_plugin.setup_environment(ctx=context())
    wrapped = FakeClient.read_deployment_by_name
    prefect_plugin.setup_environment(ctx=context())

    assert FakeClient.read_deployment_by_name is wrapped
    assert FakeClient().read_deployment_by_name("rp-data") == "rp-data/rp-data"
    assert asked == ["rp-data/rp-data"]


def test_another_prefect_without_that_method_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare:
        pass

    monkeypatch.setattr(deployments, "DeploymentClient", Bare)
    monkeypatch.setattr(deployments, "DeploymentAsyncClient", None)
    assert prefect_plugin.setup_environment(ctx=context()) is None
    assert not hasattr(Bare, "read_deployment_by_name")


def test_private_server_ends_when_its_run_is_killed(tmp_path: Path) -> None:
    # given: a "run" that has started a "private server", which loads the plugin like Prefect's does
    server = (
        "import logging, time\nfrom tasks import prefect_plugin as p\np._end_with_parent()\nopen('ready','w').close()\ntime.sleep(60)\n"
    )
    run = textwrap.dedent(
        f"""
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", {server!r}], cwd={str(tmp_path)!r})
        print(child.pid, flush=True)
        time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    wait_until(lambda: (tmp_path / "ready").exists(), 30)

    parent.kill()
    parent.wait()

    wait_until(lambda: not alive(pid), 10)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]


def wait_until(condition: object, limit_s: float) -> None:
    assert callable(condition)
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
