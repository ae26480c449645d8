# ruff: noqa: ARG002, ARG005 - the engines of these tests have the signatures of the protocols
"""The reply model behind a real HTTP server: streaming, and every way in which a server fails."""

import asyncio
import json
import threading
import time

import pytest
from aiohttp import web
from rplab_play_fakes import REPLY, Notebook, Translator, Voice

from rplab.errors import BackendError, ConfigError
from rplab.play.audio import NullSink
from rplab.play.config import EndpointConfig, PlayConfig, ReplySampling
from rplab.play.endpoint import EndpointModel
from rplab.play.engines import Engines
from rplab.play.session import PlaySession, Scene

MESSAGES = [{"role": "system", "content": "너는 사야다."}, {"role": "user", "content": "안녕"}]


class Server:
    """Streams REPLY three characters an event; `faults` are used up, one a request."""

    def __init__(self):
        self.faults, self.bodies, self.headers, self.aborted = [], [], [], 0
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.serve(),), daemon=True)
        self.thread.start()
        assert self.started.wait(10)

    async def serve(self):
        app = web.Application()
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self.ended = asyncio.Event()
        self.started.set()
        await self.ended.wait()
        await runner.cleanup()

    def stop(self):
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(10)

    async def models(self, request):
        if "401" in self.faults:
            return web.json_response({"error": "no"}, status=401)
        return web.json_response({"data": [{"id": "tiny", "max_model_len": 2048}, {"id": "other"}]})

    async def chat(self, request):
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(request.headers)
        fault = self.faults.pop(0) if self.faults else ""
        if fault.startswith("refuse"):
            return web.json_response({"error": {"message": f"Unrecognized request argument: {fault.split()[1]}"}}, status=400)
        if fault == "500":
            return web.json_response({"error": {"message": "out of memory, key sk-secret"}}, status=500)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self.write(request, response, fault)
        except ConnectionResetError:
            self.aborted += 1
        return response

    async def write(self, request, response, fault):
        if fault == "die at once":
            request.transport.abort()
            return
        for start in range(0, len(REPLY), 3):
            if fault == "die" and start >= 24:
                request.transport.abort()
                return
            if fault == "close" and start >= 24:
                return
            if fault == "silent" and start >= 24:
                await asyncio.sleep(3)
            if fault == "garbage" and start >= 24:
                await response.write(b"data: {not json\n\n")
            if fault == "error event" and start >= 24:
                await response.write(b'data: {"error": {"message": "engine died"}}\n\n')
            await response.write(event({"choices": [{"delta": {"content": REPLY[start : start + 3]}}]}))
            await asyncio.sleep(0.2 if fault == "slow" else 0)
        await response.write(event({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
        usage = {"prompt_tokens": 40, "prompt_tokens_details": {"cached_tokens": 32}}
        await response.write(b": a comment\n\n" + event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")


def event(value):
    return f"data: {json.dumps(value)}\n\n".encode()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def model(server):
    config = EndpointConfig(url=server.url, first_piece_timeout_s=1.5, piece_timeout_s=1.0)
    endpoint = EndpointModel(config)
    yield endpoint
    endpoint.close()


def write(model, cancelled=lambda: False):
    return list(model.stream(MESSAGES, ReplySampling(), seed=7, cancelled=cancelled))


def test_reply_comes_piece_by_piece_with_what_the_server_says_of_itself(server, model):
    pieces = write(model)

    assert "".join(pieces) == REPLY
    assert len(pieces) > 10
    assert (model.model, model.context_tokens) == ("tiny", 2048)
    assert (model.usage.new, model.usage.cached) == (8, 32)
    assert server.bodies[0]["messages"] == MESSAGES
    assert server.bodies[0]["stream"] is True
    assert "Authorization" not in server.headers[0]


def test_key_comes_from_the_environment_and_is_never_shown(server, monkeypatch):
    monkeypatch.setenv("PLAY_TEST_KEY", "sk-secret")
    endpoint = EndpointModel(EndpointConfig(url=server.url, model="other", api_key_env="PLAY_TEST_KEY"))
    server.faults = ["500"]
    try:
        with pytest.raises(BackendError, match=r"500.*\*\*\*") as caught:
            write(endpoint)
        assert "sk-secret" not in str(caught.value)
        assert server.headers[0]["Authorization"] == "Bearer sk-secret"
        assert server.bodies[0]["model"] == "other"
    finally:
        endpoint.close()


@pytest.mark.parametrize("fault", ["die", "close", "silent", "garbage", "error event"])
def test_server_that_fails_in_mid_reply_leaves_what_came_and_the_next_turn_works(server, model, fault):
    server.faults = [fault]

    async def run():
        sink = NullSink(8000)
        session = PlaySession(
            Scene("너는 사야다.", ("사야",), ("카즈키",)), Engines(model, Translator(), Voice(), sink), PlayConfig(), Notebook()
        )
        turns = []
        for _ in range(2):
            turns.append(await session.say("안녕", lambda event: None))
            await session.finish(turns[-1])
        await session.aclose()
        return session, turns

    session, (first, second) = asyncio.run(run())
    assert [notice.part for notice in first.notices] == ["reply"]
    assert first.failure
    assert REPLY.startswith(session.exchanges[0].reply)
    assert len(session.exchanges[0].reply) >= 20
    assert (second.notices, session.exchanges[1].reply) == ([], REPLY)


def test_server_that_fails_before_the_first_piece_is_asked_once_more(server, model):
    server.faults = ["die at once"]
    assert "".join(write(model)) == REPLY

    server.faults = ["die at once"] * 2
    with pytest.raises(BackendError):
        write(model)
    assert len(server.bodies) == 4


def test_field_that_the_server_does_not_know_is_left_out_from_then_on(server, model):
    server.faults = ["refuse top_k", "refuse repetition_penalty"]

    assert "".join(write(model)) == REPLY
    assert "".join(write(model)) == REPLY
    assert len(server.bodies) == 4
    assert not {"top_k", "repetition_penalty"} & set(server.bodies[-1])


def test_interruption_closes_the_connection(server, model):
    server.faults = ["slow"]
    got, started = [], time.monotonic()
    for piece in model.stream(MESSAGES, ReplySampling(), seed=7, cancelled=lambda: len(got) >= 2):
        got.append(piece)

    assert len(got) == 2
    assert time.monotonic() - started < 3
    deadline = time.monotonic() + 10
    while not server.aborted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.aborted == 1
    assert "".join(write(model)) == REPLY


def test_server_that_is_not_there_is_named_with_what_to_do(server):
    with pytest.raises(BackendError, match="--llm-url"):
        EndpointModel(EndpointConfig(url="http://127.0.0.1:9/v1", connect_timeout_s=1.0))
    with pytest.raises(BackendError, match="tiny, other"):
        EndpointModel(EndpointConfig(url=server.url, model="absent"))
    with pytest.raises(ConfigError, match="no endpoint"):
        EndpointModel(EndpointConfig(url="not an address"))
    server.faults = ["401"]
    with pytest.raises(BackendError, match="refuses the key"):
        EndpointModel(EndpointConfig(url=server.url))


def test_estimate_of_a_prompt_is_not_too_small(model):
    assert model.count([{"role": "user", "content": "가" * 100}]) >= 100
    assert model.count([{"role": "user", "content": "hello world " * 10}]) >= 30
