"""A real Prefect: server, worker and command line as processes of their own, in a home of their own, on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from rplab.pipeline import nodes_of
from rplab.profile import load_profile

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Prefect:
    """Starts, asks and stops the processes of one Prefect installation."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_") and name != "PYTHONPATH"},
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a long-running process; its output goes to a file in the home."""
        log = (self.home / f"{command[1]}-{len(self._processes)}.log").open("wb")
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._processes.append(process)
        return process

    def run(self, *command: str) -> str:
        """Run a command in the project root to its end and return what it printed."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start_server(self) -> None:
        self.start("prefect", "server", "start", "--port", str(self.port))

    def start_worker(self) -> None:
        self.worker = self.start("prefect", "worker", "start", "--pool", "rp-lab")

    def stop(self) -> None:
        """End every process that was started, with all of its group and children."""
        for process in reversed(self._processes):
            for pid in [*descendants(process.pid), process.pid]:
                _kill(pid)
            process.wait()

    def deployment_run(self, name: str, parameters: Mapping[str, Any]) -> str:
        """Start a run as a person does on the command line; return its id."""
        options = [part for key, value in parameters.items() for part in ("--param", f"{key}={json.dumps(value)}")]
        found = re.search(r"UUID: (\S+)", self.run("prefect", "deployment", "run", name, *options))
        assert found
        return found[1]

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.api}{path}", timeout=30).raise_for_status().json()

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return httpx.post(f"{self.api}{path}", json=body, timeout=30).raise_for_status().json()

    def state(self, flow_run: str) -> str:
        return self.get(f"/flow_runs/{flow_run}")["state"]["type"]

    def wait_for_end(self, flow_run: str, limit_s: float = 240) -> str:
        """Wait until a run ends; return the kind of its last state."""
        self.wait_until(lambda: self.state(flow_run) in FINAL, limit_s)
        return self.state(flow_run)

    def wait_until(self, condition: Callable[[], Any], limit_s: float = 120, *, run: str | None = None) -> None:
        """Wait for a condition; with `run`, give up when that flow run has ended without it."""
        deadline = time.monotonic() + limit_s
        checked = time.monotonic()
        while not condition():
            assert time.monotonic() < deadline, f"waited {limit_s:g} s in vain; logs:\n{self.logs()}"
            if run and time.monotonic() > checked + 2:
                checked = time.monotonic()
                assert self.state(run) not in FINAL, f"the run has ended; logs:\n{self.logs()}"
            time.sleep(0.05)

    def final_task_states(self, flow_run: str, attempt: int = 1) -> dict[str, str]:
        """Return stage -> name of the final state of every task of an attempt; the server learns of them one by one, a little late."""
        states: dict[str, str] = {}
        wanted = {node.name for node in nodes_of(load_profile(str(Path(__file__).parent / "tiny.yaml")))}

        def all_known() -> bool:
            states.update(self.task_states(flow_run, attempt))
            return states.keys() == wanted and not {"Running", "Pending"} & set(states.values())

        self.wait_until(all_known, 60)
        return states

    def task_states(self, flow_run: str, attempt: int) -> dict[str, str]:
        """Return stage -> name of the last state that the server knows, of the tasks of one attempt of a run."""
        runs = self.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"})
        return {run["name"].split()[0]: run["state_name"] for run in runs if run["flow_run_run_count"] == attempt}

    def artifacts(self, flow_run: str) -> dict[str, str]:
        """Return key -> data of a run's artefacts."""
        found = self.post("/artifacts/filter", {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "UPDATED_DESC"})
        return {item["key"]: str(item["data"]) for item in reversed(found)}

    def log_of(self, flow_run: str) -> str:
        """Return what the UI shows as the log of a run."""
        records = self.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run]}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(record["message"] for record in records)

    def engine(self) -> int:
        """Return the process of the flow run that the worker is running now."""
        found = [pid for pid in descendants(self.worker.pid) if "prefect.engine" in command_line(pid)]
        assert len(found) == 1, found
        return found[0]

    def kill_engine(self, flow_run: str) -> None:
        """SIGKILL the flow process, and wait until the worker has reported it."""
        os.kill(self.engine(), signal.SIGKILL)
        assert self.wait_for_end(flow_run, 30) == "CRASHED"
        time.sleep(4)  # the worker reports a crash twice; a retry between the two would be overwritten

    def retry(self, flow_run: str) -> None:
        self.run("prefect", "flow-run", "retry", flow_run)
        self.wait_until(lambda: self.state(flow_run) not in FINAL, 30)

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(self.home.glob("*.log")))


def descendants(pid: int) -> list[int]:
    """Return the living children of a process and theirs."""
    try:
        children = [int(text) for task in Path(f"/proc/{pid}/task").iterdir() for text in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in children for found in (*descendants(child), child)]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server with our deployments, and a worker."""
    prefect = Prefect(tmp_path_factory.mktemp("e2e"))
    try:
        prefect.start_server()
        prefect.bootstrap_output = prefect.run("python", "deployments/bootstrap.py")  # type: ignore[attr-defined]
        prefect.run("prefect", "--no-prompt", "deploy", "--all")
        prefect.start_worker()
        yield prefect
    finally:
        prefect.stop()
