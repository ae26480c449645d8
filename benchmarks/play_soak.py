"""Break a conversation in every way we know, again and again, and count what is lost.

    python benchmarks/play_soak.py [--faults 500] [--seed 1] [--json]

Real parts: the session, the conversation in SQLite, a real HTTP server that writes the replies, the voice worker as a child
process. Each turn draws a fault (seeded) and the place where it strikes:

    worker killed, stopped, exits, frames garbage, frame oversized, garbage on its standard output; translator raises or
    answers Korean; endpoint dies before or in mid-reply, falls silent, answers 500; sound device refuses or stands still;
    disk full on save; the player interrupts

After every turn: the text that was shown is in the conversation, each part gave at most one notice, a fault that the player
would notice gave one, and nothing raised. At the end: all turns are there again when the file is opened anew, no child
process and no thread is left, and memory has not grown (resident size after the first tenth against the end).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

from rplab.errors import AudioError
from rplab.play.audio import NullSink
from rplab.play.config import EndpointConfig, PlayConfig
from rplab.play.endpoint import EndpointModel
from rplab.play.engines import Engines
from rplab.play.events import Delta, Notice, SessionEvent, Translated
from rplab.play.prompt import World
from rplab.play.session import PlaySession, Scene
from rplab.play.sessions import open_session
from rplab.play.timeline import Timeline
from rplab.play.voice_link import WorkerLimits
from rplab.play.voice_process import VoiceProcess
from rplab.seeding import derive
from rplab.tts.config import VoiceConfig
from rplab.tts.engine import Samples

HERE = Path(__file__).parent
CHAOS_WORKER = HERE.parent / "tests" / "rplab" / "play" / "chaos_worker.py"
VOICE_FAULTS = ("kill", "exit", "stall", "garbage", "oversized", "nan", "stdout", "raise")
SERVER_FAULTS = ("dead at once", "dies", "silent", "500")
OTHER_FAULTS = ("translator raises", "translator speaks Korean", "device refuses", "device stands still", "disk full", "interrupt")
FAULTS = (*VOICE_FAULTS, *SERVER_FAULTS, *OTHER_FAULTS)
SILENT = {"stdout", "interrupt"}
"""Faults that nobody may notice."""
LINES = ("왔구나.", "비가 와서 못 오는 줄 알았어.", "이리 와서 앉아.", "오늘은 무슨 일이 있었어?", "차라도 마실래?")
SYSTEM = "너는 사야다."


class Server:
    """Writes replies as an OpenAI-compatible server does, in a thread of its own."""

    def __init__(self, seed: int) -> None:
        self.fault = ""
        self._random = derive(seed, "replies")
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self.thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True, name="soak-server")
        self.thread.start()
        self._started.wait(10)

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ended = asyncio.Event()
        self._started.set()
        await self._ended.wait()
        await runner.cleanup()

    def stop(self) -> None:
        """End the server and its thread."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self.thread.join(10)

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "soak", "max_model_len": 8192}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        fault, text = self.fault, self._reply()
        if fault == "500":
            return web.json_response({"error": {"message": "out of memory"}}, status=500)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if fault == "dead at once":
            _abort(request)
            return response
        with contextlib.suppress(ConnectionResetError):
            for start in range(0, len(text), 4):
                if fault in ("dies", "silent") and start >= 28:
                    if fault == "dies":
                        _abort(request)
                        return response
                    await asyncio.sleep(1.5)
                    return response
                delta = {"choices": [{"delta": {"content": text[start : start + 4]}}]}
                await response.write(f"data: {json.dumps(delta)}\n\n".encode())
            end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
            await response.write(f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n".encode())
        return response

    def _reply(self) -> str:
        speech = self._random.sample(LINES, 3)
        return f'사야는 창밖을 보다가 천천히 고개를 돌린다.\n"{" ".join(speech)}"'


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


class Translator:
    """Fails where it is told to."""

    fault = ""

    def translate(self, texts: list[str]) -> list[str]:
        """Give each sentence a Japanese one."""
        if self.fault == "translator raises":
            raise RuntimeError("the translator broke")
        return texts if self.fault == "translator speaks Korean" else ["はい、そうです。" for _ in texts]


class Device(NullSink):
    """A loudspeaker that can be pulled out."""

    fault = ""

    def write(self, samples: Samples) -> bool:
        """Refuse, stand still, or play at once."""
        if self.fault == "device refuses":
            raise AudioError("unplugged")
        if self.fault == "device stands still":
            return True
        return super().write(samples)


class FullDisk:
    """Stands for the conversation's SQLite connection and reports a full disk for a while."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.is_full = False

    def __enter__(self) -> sqlite3.Connection:
        return self._connection.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._connection.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> Any:
        """Execute, or fail as SQLite does on a full disk."""
        if self.is_full and sql.startswith("INSERT"):
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql, *values)


class Soak:
    """One long, unlucky conversation."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = derive(seed, "soak")
        self.server = Server(seed)
        self.translator = Translator()
        self.device = Device(8000)
        self.folder = folder
        self.fuse = folder / "fuse"
        os.environ["CHAOS_FUSE"] = str(self.fuse)
        os.environ["CHAOS_FAULT_FILE"] = str(folder / "fault")
        limits = WorkerLimits(start_s=60.0, silence_s=1.0, answer_s=5.0, answer_factor=0.0, max_restarts=10_000, backoff_s=(0.0,))
        self.voice = VoiceProcess({"": VoiceConfig()}, limits=limits, command=(sys.executable, str(CHAOS_WORKER)))
        self.timeline = Timeline(World(system=SYSTEM, character="사야", player="카즈키"), open_session(folder, "soak", "사야"))
        archive: Any = self.timeline.archive
        self.disk = archive._connection = FullDisk(archive._connection)
        model = EndpointModel(EndpointConfig(url=self.server.url, first_piece_timeout_s=0.8, piece_timeout_s=0.5))
        engines = Engines(model, self.translator, self.voice, self.device, self._reopen)
        scene = Scene(SYSTEM, ("사야",), ("카즈키",))
        self.session = PlaySession(scene, engines, PlayConfig(sink_timeout_s=0.5), self.timeline)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.shown = 0

    def _reopen(self) -> tuple[NullSink, str]:
        self.device = Device(8000)
        return self.device, "again"

    async def turn(self, number: int) -> None:
        """Hold one turn with a fault in it and look what is left."""
        fault = FAULTS[number % len(FAULTS)] if number < len(FAULTS) else self.random.choice(FAULTS)
        self.counts[fault] += 1
        self._arm(fault)
        events: list[SessionEvent] = []
        try:
            turn = await asyncio.wait_for(self.session.say(f"{number}번째 말", events.append), 60)
            if fault == "interrupt":
                await asyncio.sleep(self.random.random() * 0.1)
                await self.session.stop()
            await asyncio.wait_for(self.session.finish(turn), 60)
        except Exception as error:  # noqa: BLE001 - this is what must not happen
            self.problems.append(f"{number} {fault}: {type(error).__name__}: {error}")
            return
        finally:
            self._disarm()
        self._judge(number, fault, events)

    def _arm(self, fault: str) -> None:
        if fault in VOICE_FAULTS:
            (self.folder / "fault").write_text(fault)
            self.fuse.touch()
        self.server.fault = fault if fault in SERVER_FAULTS else ""
        self.translator.fault = fault
        self.device.fault = fault
        self.disk.is_full = fault == "disk full"

    def _disarm(self) -> None:
        self.fuse.unlink(missing_ok=True)
        self.server.fault = self.translator.fault = ""
        self.disk.is_full = False

    def _judge(self, number: int, fault: str, events: list[SessionEvent]) -> None:
        shown = "".join(event.text for event in events if isinstance(event, Delta)).strip()
        notices = [event for event in events if isinstance(event, Notice)]
        self.counts["notices"] += len(notices)
        self.shown += bool(shown)
        head = self.timeline.head
        kept = self.timeline.tree[head].reply if head is not None else ""
        if shown and kept != shown:
            self.problems.append(f"{number} {fault}: shown {shown!r}, kept {kept!r}")
        parts = [notice.part for notice in notices]
        if len(parts) != len(set(parts)):
            self.problems.append(f"{number} {fault}: more than one notice for a part: {parts}")
        if fault not in SILENT and not notices:
            self.problems.append(f"{number} {fault}: nobody was told")
        if fault in SILENT and [part for part in parts if part != "audio"]:
            self.problems.append(f"{number} {fault}: a notice for nothing: {[notice.message for notice in notices]}")
        if fault not in SERVER_FAULTS and fault != "interrupt" and not shown:
            self.problems.append(f"{number} {fault}: no text")
        self.counts["translated"] += sum(isinstance(event, Translated) for event in events)


def resident_mb() -> float:
    """Return this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def children() -> list[int]:
    """Return the child processes that are alive."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                found.append(int(status.parent.name))
    return found


async def soak(faults: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run the conversation and return what was found."""
    threads_before = {thread.name for thread in threading.enumerate()}
    run = Soak(folder, seed)
    started, early_mb = time.monotonic(), 0.0
    for number in range(faults):
        await run.turn(number)
        if number == max(faults // 5, 1):
            gc.collect()
            early_mb = resident_mb()
        if number % 50 == 49:
            print(f"{number + 1} faults, {len(run.problems)} problems, {resident_mb():.0f} MB", file=sys.stderr)
    gc.collect()
    late_mb = resident_mb()
    restarts = run.voice.restarts
    await run.session.aclose()
    run.server.stop()
    await asyncio.sleep(1.0)
    again = Timeline(World(system=SYSTEM, character="사야", player="카즈키"), open_session(folder, "soak", "사야"))
    saved = len(again.tree.path())
    again.close()
    left = [thread.name for thread in threading.enumerate() if thread.name not in threads_before]
    return {
        "faults": faults,
        "seconds": round(time.monotonic() - started, 1),
        "by_fault": dict(sorted((name, run.counts[name]) for name in FAULTS)),
        "turns_shown": run.shown,
        "turns_saved": saved,
        "lost_turns": run.shown - saved,
        "notices": run.counts["notices"],
        "worker_restarts": restarts,
        "problems": run.problems[:20],
        "num_problems": len(run.problems),
        "children_left": children(),
        "threads_left": left,
        "memory_early_mb": round(early_mb, 1),
        "memory_late_mb": round(late_mb, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(soak(arguments.faults, arguments.seed, Path(folder)))
    print(json.dumps(result, ensure_ascii=False, indent=None if arguments.json else 1))
    healthy = not result["num_problems"] and not result["lost_turns"] and not result["children_left"] and not result["threads_left"]
    return int(not healthy)


if __name__ == "__main__":
    sys.exit(main())
