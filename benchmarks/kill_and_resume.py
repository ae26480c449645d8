"""Kills a generating command at random moments and holds it to what it promises.

    python benchmarks/kill_and_resume.py                      # 20 kills in a run of about 2,000 requests

One run is left alone. The other is sent SIGKILL `--kills` times, each time after a random number of further requests, and
started again. Every request is noted down (and flushed) before it is sent. Printed, as JSON: whether the two output files
and their rejects are the same bytes, requests sent, requests sent twice beside what may be (kills x in flight), and whether
planned = accepted + rejected + failed. Exit code 1 when one of them does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = """
import os, sys
from rplab.backend.scripted.model import ScriptedBackend
from rplab.cli.main import main

calls = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
complete = ScriptedBackend.complete

async def noted(self, request):
    os.write(calls, (request.key + "\\n").encode())
    return await complete(self, request)

ScriptedBackend.complete = noted
sys.exit(main(sys.argv[2:]))
"""
REQUESTS_PER_DIALOGUE = 6
FAULTS = ("--backend-set", "p_empty=0.02", "--backend-set", "p_error=0.02", "--backend-set", "p_wrong_format=0.02")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rplab-kill-") as folder:
        result = measure(Path(folder), arguments)
    print(json.dumps(result, indent=2))
    return 0 if all(value for name, value in result.items() if name.startswith("ok_")) else 1


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Do both runs and compare."""
    scenarios = folder / "scenarios.jsonl"
    count = -(-arguments.requests // REQUESTS_PER_DIALOGUE)
    _finish(_start(folder / "calls-scenarios", "scenarios", "--samples", str(count), "--out", str(scenarios)))
    command = [
        *("dialogues", "--turns", "3", "--scenarios", str(scenarios), "--json", "--in-flight", str(arguments.in_flight)),
        *("--backend-set", f"latency_ms={arguments.latency_ms}", *FAULTS),
    ]
    whole, killed, calls = folder / "whole.jsonl", folder / "killed.jsonl", folder / "calls"
    _finish(_start(folder / "calls-whole", *command, "--out", str(whole)))
    planned = _sent(folder / "calls-whole")
    rng = random.Random(arguments.seed)
    moments = sorted(rng.randrange(1, planned) for _ in range(arguments.kills))
    kills = 0
    for moment in moments:
        process = _start(calls, *command, "--out", str(killed))
        while len(_lines(calls)) < moment and process.poll() is None:
            time.sleep(0.001)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    shown = _finish(_start(calls, *command, "--out", str(killed)))
    sent = _lines(calls)
    stats = shown["stats"]
    balanced = stats["planned"] == stats["accepted"] + sum(stats["rejected"].values()) + sum(stats["failed"].values())
    again, allowed = len(sent) - len(set(sent)), kills * arguments.in_flight
    return {
        "kills": kills,
        "requests": planned,
        "sent": len(sent),
        "sent_twice": again,
        "sent_twice_at_most": allowed,
        "planned": stats["planned"],
        "accepted": stats["accepted"],
        "rejected": stats["rejected"],
        "failed": stats["failed"],
        "ok_same_bytes": all(_bytes(killed, name) == _bytes(whole, name) for name in ("", ".rejects", ".partial")),
        "ok_sent_twice": again <= allowed,
        "ok_same_questions": set(sent) == set(_lines(folder / "calls-whole")),
        "ok_counts": balanced,
    }


def _start(calls: Path, *command: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-c", PROGRAM, str(calls), "data", *command]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _finish(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"the command failed with exit code {process.returncode}:\n{errors.decode()}")
    return json.loads(out) if out.startswith(b"{") else {}


def _lines(calls: Path) -> list[bytes]:
    return calls.read_bytes().splitlines() if calls.exists() else []


def _sent(calls: Path) -> int:
    return len(_lines(calls))


def _bytes(out: Path, side: str) -> bytes:
    path = out.with_name(f"{out.stem}{side}.jsonl")
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    sys.exit(main())
