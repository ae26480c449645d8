"""Every fault we know, in one conversation with real processes, a real server and a real file (`benchmarks/play_soak.py`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_conversation_survives_every_fault_without_a_lost_turn_or_a_process_left():
    command = [sys.executable, "benchmarks/play_soak.py", "--faults", "18", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False, env={**os.environ, "LANG": "C.UTF-8"}
    )

    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["problems"] == []
    assert (result["lost_turns"], result["children_left"], result["threads_left"]) == (0, [], [])
    assert min(result["by_fault"].values()) == 1
