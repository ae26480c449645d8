"""A bad server day: rate limit, refusals, errors, empty and broken answers. Nothing may get lost, and nothing empty be kept.

    python benchmarks/faulty_server.py --mock PATH/mock_openai.py
    python benchmarks/faulty_server.py --mock PATH/mock_openai.py --cases limit faults

The dialogue engine runs in judge mode (so that there is JSON to break) against a mock server in its own process:

    limit    --rpm 3000 and nothing else
    faults   5 % 429, 5 % 500, 2 % empty, 2 % broken JSON, 2 % slow (1 s)
    both     all of it

The mock's lines are no good role-play, so findings of the text checks are counted instead of asked again; empty answers,
errors and unreadable JSON are asked again as always. Printed, as JSON a case: items planned and what became of them,
requests, seconds per 1,000 answered requests, 429s by the server's own count, empty turns kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
MOCK = REPOSITORY / "tests" / "rplab" / "backend" / "mock_server.py"
FAULTS = ("--p429", "0.05", "--p500", "0.05", "--pempty", "0.02", "--pbadjson", "0.02", "--pslow", "0.02", "--slow-ms", "1000")
CASES = {"limit": ("--rpm", "3000"), "faults": FAULTS, "both": ("--rpm", "3000", *FAULTS)}
TURNS = 3
REQUESTS_PER_DIALOGUE = 3 * TURNS


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mock", type=Path, default=MOCK, help="mock server script (default: the tests' own)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=tuple(CASES))
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=128)
    parser.add_argument("--port", type=int, default=8973)
    arguments = parser.parse_args()
    for number, case in enumerate(arguments.cases):
        print(json.dumps(run_case(case, arguments.port + number, arguments)), flush=True)
    return 0


def run_case(case: str, port: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Start a mock server with the case's faults and run the engine against it."""
    command = [sys.executable, str(arguments.mock), "--port", str(port), "--latency-ms", "20", *CASES[case], "--max-seconds", "600"]
    mock = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert mock.stdout is not None
        mock.stdout.readline()
        with tempfile.TemporaryDirectory(prefix="rplab-faulty-") as folder:
            result = run_engine(Path(folder), port, arguments)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats") as response:
            seen = json.loads(response.read())
    finally:
        mock.terminate()
        mock.wait()
    return {"case": case, **result, "server": {name: seen[name] for name in ("total", "ok", "r429", "r500", "empty", "badjson")}}


def run_engine(folder: Path, port: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Make dialogues and count what came of them."""
    from rplab.backend.config import OpenAIConfig
    from rplab.backend.open import open_backend
    from rplab.dialogue.config import DialoguesConfig, ScenariosConfig
    from rplab.dialogue.drive import Tally, drive
    from rplab.dialogue.generate import make_dialogue
    from rplab.dialogue.journal import Journal
    from rplab.dialogue.pack import load_pack
    from rplab.dialogue.scenario import generate_scenarios
    from rplab.dialogue.scenario_file import read_scenarios
    from rplab.stage import StageContext

    context = StageContext(out=folder, resume=folder / "resume")
    generate_scenarios(ScenariosConfig(count=-(-arguments.requests // REQUESTS_PER_DIALOGUE)), {}, context)
    pack = load_pack("v7")
    pack = dataclasses.replace(pack, checks=tuple(rule.model_copy(update={"policy": "accept"}) for rule in pack.checks))
    scenarios = read_scenarios(folder / "scenarios.jsonl", pack)
    backend = OpenAIConfig(model="mock", base_url=f"http://127.0.0.1:{port}/v1")
    config = DialoguesConfig(turns=TURNS, signals="judge", backend=backend)
    started = time.perf_counter()
    with Journal(folder / "dialogues.journal") as journal:
        outcomes = drive(
            scenarios,
            lambda scenario, asker: make_dialogue(scenario, asker, config, pack),
            open_backend=lambda: open_backend(config.backend),
            journal=journal,
            in_flight=arguments.in_flight,
            context=context,
        )
        answers = len(journal)
    seconds = time.perf_counter() - started
    tally = Tally()
    for outcome in outcomes:
        tally.add(outcome)
    kept = [message["content"] for outcome in outcomes if outcome.row for message in outcome.row["messages"]]
    stats = tally.stats()
    return {
        **{name: stats[name] for name in ("planned", "accepted", "rejected", "failed", "refused_attempts")},
        "answers": answers,
        "seconds": round(seconds, 2),
        "seconds_per_1000": round(1000 * seconds / answers, 2),
        "empty_kept": sum(not text.strip() for text in kept),
    }


if __name__ == "__main__":
    sys.exit(main())
