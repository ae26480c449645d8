"""How fast the generation engine is, beside a bare HTTP client in the same run.

    python benchmarks/generation.py                          # against the test suite's mock server
    python benchmarks/generation.py --mock PATH/mock_server.py --requests 2000 --in-flight 64

A mock model server runs in its own process and answers after `--latency-ms`. Each variant runs in a process of its own,
so that CPU time and memory are its own:

    bare     aiohttp and a semaphore: the limit
    journal  the engine: prompts, state machines, journal; no checks
    checks   the same with every code check of the pack on every turn, speech level by its table
    kiwi     the same with Kiwi on every spoken line (in real runs the table decides most lines)

A turn is one request. The mock's lines are no good role-play, so findings are counted instead of asked again; the work
is the same. Printed: turns/s, CPU ms per turn, peak memory, as a table or one JSON object a line (`--json`).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
MOCK = REPOSITORY / "tests" / "rplab" / "backend" / "mock_server.py"
VARIANTS = ("bare", "journal", "checks", "kiwi")
EXCHANGES = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mock", type=Path, default=MOCK, help="mock server script (default: the tests' own)")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=128)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--port", type=int, default=8971)
    parser.add_argument("--runs", type=int, default=1, help="runs of each variant; the best is shown")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("VARIANT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_variant(arguments.child[0], Path(arguments.child[1]), arguments)))
        return 0
    return run_all(arguments)


def run_all(arguments: argparse.Namespace) -> int:
    command = [sys.executable, str(arguments.mock), "--port", str(arguments.port), "--latency-ms", str(arguments.latency_ms)]
    mock = subprocess.Popen([*command, "--max-seconds", "1800"], stdout=subprocess.PIPE)
    try:
        assert mock.stdout is not None
        mock.stdout.readline()  # it says when it listens
        with tempfile.TemporaryDirectory(prefix="rplab-bench-") as folder:
            make_scenarios(Path(folder), arguments.requests)
            for variant in arguments.variants:
                results = [measure(variant, folder) for _ in range(arguments.runs)]
                show(max(results, key=lambda result: result["turns_per_s"]), as_json=arguments.json)
    finally:
        mock.terminate()
        mock.wait()
    return 0


def measure(variant: str, folder: str) -> dict[str, Any]:
    """Run one variant in a process of its own."""
    command = [sys.executable, __file__, *(item for item in sys.argv[1:] if item != "--json"), "--child", variant, folder]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    return json.loads(out.stdout.splitlines()[-1])


def show(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result), flush=True)
        return
    print(
        f"{result['variant']:8} {result['turns_per_s']:7.0f} turns/s  {result['cpu_ms']:6.3f} CPU ms/turn  "
        f"{result['rss_mb']:4.0f} MB  {result['turns']} turns in {result['seconds']:.2f} s  (load {os.getloadavg()[0]:.1f})",
        flush=True,
    )


def make_scenarios(folder: Path, num_requests: int) -> None:
    """Write as many scenarios as the requests need, from the embedded grammar."""
    from rplab.dialogue.config import ScenariosConfig
    from rplab.dialogue.scenario import generate_scenarios
    from rplab.stage import StageContext

    count = -(-num_requests // (2 * EXCHANGES))
    generate_scenarios(ScenariosConfig(count=count), {}, StageContext(out=folder, resume=folder / "resume"))


def run_variant(variant: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    url = f"http://127.0.0.1:{arguments.port}/v1"
    work = prepare_bare if variant == "bare" else prepare_engine
    run = work(variant, folder, arguments, url)
    cpu, clock = time.process_time(), time.perf_counter()
    turns = run()
    seconds, used = time.perf_counter() - clock, time.process_time() - cpu
    return {
        "variant": variant,
        "turns": turns,
        "seconds": round(seconds, 3),
        "turns_per_s": round(turns / seconds, 1),
        "cpu_ms": round(1000 * used / turns, 4),
        "rss_mb": peak_mb(),
    }


def peak_mb() -> int:
    """Return the peak memory of this process (its own: getrusage would show the parent's, kept over fork and exec)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) // 1024


def prepare_bare(variant: str, folder: Path, arguments: argparse.Namespace, url: str) -> Any:
    import aiohttp

    del variant
    books = [json.loads(line)["book"] for line in (folder / "scenarios.jsonl").read_text(encoding="utf-8").splitlines()]

    async def ask_all() -> int:
        gate = asyncio.Semaphore(arguments.in_flight)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=arguments.in_flight)) as session:

            async def one(index: int) -> str:
                messages = [
                    {"role": "system", "content": books[index % len(books)]},
                    {"role": "user", "content": f'곁에 다가와 앉는다.\n"여기서 뭐 하고 있어? ({index})"'},
                ]
                body = {"model": "mock", "messages": messages, "max_tokens": 256}
                async with gate, session.post(f"{url}/chat/completions", json=body) as response:
                    return (await response.json())["choices"][0]["message"]["content"]

            answers = await asyncio.gather(*(one(index) for index in range(arguments.requests)))
        assert all(answers)
        return len(answers)

    return lambda: asyncio.run(ask_all())


def prepare_engine(variant: str, folder: Path, arguments: argparse.Namespace, url: str) -> Any:
    import rplab.backend.openai  # noqa: F401 - imports are no part of a turn
    from rplab.backend.config import OpenAIConfig
    from rplab.backend.open import open_backend
    from rplab.dialogue.config import DialoguesConfig
    from rplab.dialogue.drive import drive
    from rplab.dialogue.generate import make_dialogue
    from rplab.dialogue.journal import Journal
    from rplab.dialogue.pack import load_pack
    from rplab.dialogue.scenario_file import read_scenarios
    from rplab.stage import StageContext

    pack = load_pack("v7")
    rules = () if variant == "journal" else tuple(rule.model_copy(update={"policy": "accept"}) for rule in pack.checks)
    pack = dataclasses.replace(pack, checks=rules)
    if variant == "kiwi":
        force_kiwi()
    elif variant == "checks":
        leave_out_kiwi()
    scenarios = read_scenarios(folder / "scenarios.jsonl", pack)
    config = DialoguesConfig(turns=EXCHANGES, backend=OpenAIConfig(model="mock", base_url=url))
    resume = folder / f"{variant}-{os.getpid()}"
    context = StageContext(out=resume, resume=resume)

    def run() -> int:
        with Journal(resume / "dialogues.journal") as journal:
            outcomes = drive(
                scenarios,
                lambda scenario, asker: make_dialogue(scenario, asker, config, pack),
                open_backend=lambda: open_backend(config.backend),
                journal=journal,
                in_flight=arguments.in_flight,
                context=context,
            )
            assert all(outcome.status == "accepted" for outcome in outcomes), {outcome.reason for outcome in outcomes}
            return len(journal)

    return run


def leave_out_kiwi() -> None:
    """Let the table alone judge speech levels."""
    from rplab.text import speech_level

    speech_level._level_by_morphemes = lambda *_, **__: speech_level.Level.UNKNOWN


def force_kiwi() -> None:
    """Make Kiwi judge every line: no table, no memory of earlier lines."""
    import re

    from rplab.text import speech_level
    from rplab.text.morphemes import load_kiwi

    never = re.compile(r"(?!)")
    speech_level._POLITE = speech_level._CASUAL = never
    speech_level._POLITE_WORDS = speech_level._CASUAL_WORDS = frozenset()
    speech_level.sentence_level = speech_level.sentence_level.__wrapped__
    load_kiwi().tokenize("미리 읽어 둔다.")


if __name__ == "__main__":
    sys.exit(main())
