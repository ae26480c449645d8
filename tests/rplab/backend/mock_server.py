"""A model server for tests, on loopback: OpenAI's HTTP surface with faults, limits and a Batch API.

Runs in its own process (`python mock_server.py --port 0`, prints the port) or inside a test's event loop (`MockServer`).
It answers from the scripted grammar when the request carries pickled slots in `metadata.slots` (only tests send them),
else with two lines of text, or the smallest JSON that fits the schema. Faults are drawn from one seeded generator.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import pickle
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from email.utils import formatdate

import orjson
from aiohttp import web

NARRATION = ("창밖을 보다가 천천히 고개를 돌린다.", "찻잔을 내려놓고 자리에서 일어선다.", "문가에 서서 잠시 숨을 고른다.")
SPEECH = ("오늘은 여기까지만 하자.", "그 약속을 잊지 않았어.", "비가 그치면 같이 나가자.", "정말 그걸로 괜찮겠어?")


@dataclass
class Faults:
    """Share of each fault, and limits."""

    p429: float = 0.0
    """429 with Retry-After 0.05 s."""
    p429_bare: float = 0.0
    """429 that does not say how long."""
    p500: float = 0.0
    p_empty: float = 0.0
    p_broken_json: float = 0.0
    p_refused: float = 0.0
    p_cut: float = 0.0
    p_garbage: float = 0.0
    """Status 200 and a web page."""
    p_hang: float = 0.0
    """No answer within `hang_s`."""
    p_disconnect: float = 0.0
    """Half of the body, then the connection ends."""
    hang_s: float = 5.0
    latency_ms: float = 0.0
    rpm: float = 0.0
    """Requests per minute; above it 429 with Retry-After."""
    slots: int = 0
    """Most requests at once; above it 429 without Retry-After."""
    refuses: str = ""
    """Names of body fields that get HTTP 400, separated by commas."""
    thinks: int = 0
    """Empty answers (finish_reason length) below this token budget."""
    status: int = 0
    """Every answer has this status."""
    retry_after: str = ""
    """Value of the header that goes with `status`; `date` = an HTTP date in 1 s."""


@dataclass
class MockServer:
    """The application and what it saw."""

    faults: Faults = field(default_factory=Faults)
    seen: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    bodies: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    keep: bool = True
    open: int = 0
    peak: int = 0
    times: list[float] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict] = field(default_factory=dict)
    bucket: tuple[float, float] = (0.0, -1e9)
    random: random.Random = field(default_factory=lambda: random.Random(7))

    def app(self) -> web.Application:
        application = web.Application(client_max_size=2**28)
        application.add_routes(
            [
                web.get("/health", self.health),
                web.get("/v1/models", self.models),
                web.get("/stats", self.stats),
                web.post("/v1/chat/completions", self.answer),
                web.post("/v1/responses", self.answer),
                web.post("/v1/files", self.upload),
                web.get("/v1/files/{id}/content", self.download),
                web.post("/v1/batches", self.create_batch),
                web.get("/v1/batches/{id}", self.show_batch),
            ]
        )
        return application

    async def health(self, _):
        return web.Response()

    async def models(self, _):
        return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model", "created": 0, "owned_by": "mock"}]})

    async def stats(self, _):
        twice = sum(count - 1 for count in self.seen.values())
        return web.json_response({**self.counts, "distinct": len(self.seen), "twice": twice, "peak": self.peak})

    async def answer(self, request):
        raw = await request.read()
        self.counts["total"] += 1
        self.times.append(time.monotonic())
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            return await self._answer(request, raw)
        finally:
            self.open -= 1

    async def _answer(self, request, raw):  # noqa: PLR0912 - one branch a fault
        faults = self.faults
        body = orjson.loads(raw)
        if self.keep:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
        if (refusal := self._limit()) is not None:
            return refusal
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        if faults.status:
            extra = {"retry-after": formatdate(time.time() + 2, usegmt=True) if faults.retry_after == "date" else faults.retry_after}
            return self._error(faults.status, "as told", extra if faults.retry_after else {})
        for name in filter(None, faults.refuses.split(",")):
            if name in body:
                return web.json_response({"error": {"message": f"Unsupported parameter: '{name}'", "param": name}}, status=400)
        asked = orjson.dumps([body.get("messages") or body.get("input"), body.get("seed")])
        self.seen[hashlib.blake2b(asked, digest_size=8).hexdigest()] += 1
        text, finish, refused = reply_text(body), "stop", None
        budget = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens") or 0
        if faults.thinks and budget < faults.thinks:
            text, finish = "", "length"
        fault = self._draw_fault()
        if fault == "p500":
            return self._error(500, "mock failure")
        if fault == "p_garbage":
            return web.Response(text="<html>busy</html>", content_type="text/html")
        if fault == "p_disconnect":
            return await self._hang_up(request)
        if fault == "p_hang":
            await asyncio.sleep(faults.hang_s)
        elif fault == "p_refused":
            text, refused = "", "그 부탁은 들어줄 수 없습니다."
        elif fault:
            text = {"p_empty": "", "p_broken_json": text.rstrip("}"), "p_cut": text[: len(text) // 2]}[fault]
            finish = "length" if fault == "p_cut" else finish
        self.counts["answered"] += 1
        return web.Response(body=orjson.dumps(envelope(request.path, body, text, finish, refused)), content_type="application/json")

    def _draw_fault(self):
        draw = self.random.random()
        for name in ("p500", "p_empty", "p_broken_json", "p_refused", "p_cut", "p_garbage", "p_hang", "p_disconnect"):
            share = getattr(self.faults, name)
            if draw < share:
                self.counts[name] += 1
                return name
            draw -= share
        return ""

    def _limit(self):
        faults = self.faults
        if faults.rpm:
            now, capacity = time.monotonic(), max(1.0, faults.rpm / 60)
            level = min(capacity, self.bucket[0] + (now - self.bucket[1]) * faults.rpm / 60)
            self.bucket = (level - (level >= 1), now)
            if level < 1:
                wait = (1 - level) * 60 / faults.rpm
                return self._error(429, "rate limit", {"retry-after-ms": str(int(wait * 1000) + 1), "retry-after": str(int(wait) + 1)})
        if faults.slots and self.open > faults.slots:
            return self._error(429, "all slots taken")
        if faults.p429 and self.random.random() < faults.p429:
            return self._error(429, "at random", {"retry-after": "0.05"})
        if faults.p429_bare and self.random.random() < faults.p429_bare:
            return self._error(429, "at random")
        return None

    def _error(self, status, message, headers=None):
        self.counts[str(status)] += 1
        return web.json_response({"error": {"message": message, "code": str(status)}}, status=status, headers=headers)

    async def _hang_up(self, request):
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        request.transport.abort()
        return response

    async def upload(self, request):
        form = await request.post()
        name = f"file-{len(self.files)}"
        self.files[name] = form["file"].file.read()
        return web.json_response({"id": name, "object": "file", "bytes": 1, "created_at": 0, "filename": "in.jsonl", "purpose": "batch"})

    async def download(self, request):
        return web.Response(body=self.files[request.match_info["id"]], content_type="application/jsonl")

    async def create_batch(self, request):
        order = await request.json()
        good, bad = [], []
        for line in self.files[order["input_file_id"]].splitlines():
            item = orjson.loads(line)
            body = item["body"]
            if self.random.random() < self.faults.p500:
                bad.append(
                    {"id": "x", "custom_id": item["custom_id"], "response": None, "error": {"code": "batch_expired", "message": "expired"}}
                )
                continue
            answer = envelope(item["url"], body, reply_text(body), "stop", None)
            good.append(
                {
                    "id": "x",
                    "custom_id": item["custom_id"],
                    "response": {"status_code": 200, "request_id": "r", "body": answer},
                    "error": None,
                }
            )
        name = f"batch-{len(self.batches)}"
        for suffix, lines in (("out", good), ("err", bad)):
            self.random.shuffle(lines)
            self.files[f"{name}-{suffix}"] = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        self.batches[name] = {"polls": 0, "input": order["input_file_id"], "bad": bool(bad)}
        return web.json_response(self._batch(name))

    async def show_batch(self, request):
        name = request.match_info["id"]
        self.batches[name]["polls"] += 1
        return web.json_response(self._batch(name))

    def _batch(self, name):
        state = self.batches[name]
        done = state["polls"] >= 2
        return {
            "id": name,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": state["input"],
            "completion_window": "24h",
            "created_at": 0,
            "status": "completed" if done else "in_progress",
            "output_file_id": f"{name}-out" if done else None,
            "error_file_id": f"{name}-err" if done and state["bad"] else None,
        }


def reply_text(body):
    slots = (body.get("metadata") or {}).get("slots")
    if slots:
        from rplab.backend.scripted.model import ScriptedBackend

        return ScriptedBackend().answer(pickle.loads(base64.b64decode(slots))).text
    seed = int.from_bytes(
        hashlib.blake2b(orjson.dumps([body.get("messages") or body.get("input"), body.get("seed")]), digest_size=8).digest()
    )
    draw = random.Random(seed)
    shape = (body.get("response_format") or {}).get("json_schema") or (body.get("text") or {}).get("format") or {}
    if shape.get("schema"):
        return json.dumps({name: draw.choice(SPEECH) for name in shape["schema"].get("properties", {})}, ensure_ascii=False)
    return f'그는 {draw.choice(NARRATION)}\n"{draw.choice(SPEECH)}"'


def envelope(path, body, text, finish, refused):
    prompt, completion = 100, max(1, len(text) // 2)
    if path.endswith("/responses"):
        part = {"type": "refusal", "refusal": refused} if refused else {"type": "output_text", "text": text, "annotations": []}
        return {
            "id": "resp",
            "object": "response",
            "model": body["model"],
            "status": "incomplete" if finish == "length" else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if finish == "length" else None,
            "output": [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": [part]}],
            "usage": {"input_tokens": prompt, "output_tokens": completion},
        }
    return {
        "id": "chatcmpl",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": refused}, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }


async def serve(server, port, max_seconds):
    runner = web.AppRunner(server.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.sleep(max_seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--max-seconds", type=float, default=600)
    parser.add_argument("--start-s", type=float, default=0)
    for item in fields(Faults):
        parser.add_argument("--" + item.name.replace("_", "-"), type=type(item.default), default=item.default)
    arguments = parser.parse_args()
    time.sleep(arguments.start_s)
    faults = Faults(**{item.name: getattr(arguments, item.name) for item in fields(Faults)})
    asyncio.run(serve(MockServer(faults, keep=False), arguments.port, arguments.max_seconds))


if __name__ == "__main__":
    sys.exit(main())
