"""A model server that reads what it is asked: a judge with fixed rules, a translator with a small dictionary, embeddings.

Runs in a thread of its own on loopback; knows `/chat/completions`, `/embeddings`, `/files` and `/batches`.
"""

import asyncio
import hashlib
import json
import re
import threading

from aiohttp import web

WORDS = {"안녕": "こんにちは", "비가 와": "雨だよ", "사야": "サヤ", "네": "はい", "가자": "行こう"}


class ReadingServer:
    """The application and what it saw."""

    def __init__(self):
        self.asked, self.files, self.batches = [], {}, {}
        self.ready_after, self.tamper = 1, None
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        self._stop = asyncio.Event()
        self.url = ""
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        self._ready.wait(10)

    def close(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self):
        app = web.Application(client_max_size=2**26)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/embeddings", self._embed),
                web.post("/v1/files", self._upload),
                web.get("/v1/files/{id}/content", self._download),
                web.post("/v1/batches", self._create),
                web.get("/v1/batches", self._list),
                web.get("/v1/batches/{id}", self._show),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def reply(self, body):
        self.asked.append(body)
        text = answer(body["messages"])
        text = self.tamper(text, len(self.asked)) if self.tamper else text
        tokens = sum(len(message["content"]) for message in body["messages"])
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": tokens, "completion_tokens": len(text), "total_tokens": tokens + len(text)},
        }

    async def _chat(self, request):
        return web.json_response(self.reply(await request.json()))

    async def _embed(self, request):
        body = await request.json()
        self.asked.append(body)
        data = [{"object": "embedding", "index": at, "embedding": embed(text)} for at, text in enumerate(body["input"])]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return web.json_response({"object": "list", "data": data[::-1], "model": body["model"], "usage": usage})

    async def _upload(self, request):
        form = await request.post()
        name = f"file-{len(self.files)}"
        self.files[name] = form["file"].file.read()
        shown = {
            "id": name,
            "object": "file",
            "bytes": 1,
            "created_at": 0,
            "filename": "in.jsonl",
            "purpose": "batch",
            "status": "processed",
        }
        return web.json_response(shown)

    async def _download(self, request):
        return web.Response(body=self.files[request.match_info["id"]], content_type="application/jsonl")

    async def _create(self, request):
        order = await request.json()
        name = f"batch-{len(self.batches)}"
        lines = []
        for line in self.files[order["input_file_id"]].splitlines():
            item = json.loads(line)
            response = {"status_code": 200, "request_id": "r", "body": self.reply(item["body"])}
            lines.append(json.dumps({"id": "x", "custom_id": item["custom_id"], "response": response, "error": None}))
        self.files[f"{name}-out"] = "\n".join(reversed(lines)).encode()
        self.batches[name] = {"polls": 0, "metadata": order.get("metadata")}
        return web.json_response(self._batch(name))

    async def _list(self, _request):
        return web.json_response({"object": "list", "data": [self._batch(name) for name in self.batches], "has_more": False})

    async def _show(self, request):
        name = request.match_info["id"]
        self.batches[name]["polls"] += 1
        return web.json_response(self._batch(name))

    def _batch(self, name):
        done = self.batches[name]["polls"] > self.ready_after
        return {
            "id": name,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-0",
            "completion_window": "24h",
            "created_at": 0,
            "status": "completed" if done else "in_progress",
            "output_file_id": f"{name}-out" if done else None,
            "metadata": self.batches[name]["metadata"],
        }


def answer(messages):
    """Judge when the system text asks for flaws, else translate the last line."""
    task = messages[-1]["content"]
    if "심사위원" not in messages[0]["content"]:
        line = task.splitlines()[-1]
        for korean, japanese in sorted(WORDS.items(), key=lambda item: -len(item[0])):
            line = line.replace(korean, japanese)
        return re.sub("[가-힣]+", "のこと", line)
    flaws = []
    for number, text in re.findall(r"\[캐릭터 응답 (\d+)\]\n(.*?)(?=\n\n\[|\n\n지난|\Z)", task, re.DOTALL):
        if "AI" in text:
            flaws.append({"type": "assistant_voice", "turn": int(number), "severity": 5, "quote": text[:20], "why": "비서처럼 말한다"})
        if "지루" in text:
            flaws += [
                {"type": kind, "turn": int(number), "severity": 4, "quote": "지루", "why": "얕다"} for kind in ("emotion", "flow", "logic")
            ]
        if "별빛" in text:
            flaws.append({"type": "cliche", "turn": int(number), "severity": 2, "quote": "별빛", "why": "흔하다"})
    return json.dumps({"flaws": flaws}, ensure_ascii=False)


def embed(text):
    """Return a direction that depends on the words only, whatever their order and endings."""
    vector = [0.0] * 64
    for word in re.findall(r"[가-힣]{2}", text):
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        vector[digest[0] % 64] += 1.0 if digest[1] % 2 else -1.0
    return vector
