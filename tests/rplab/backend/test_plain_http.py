"""HTTP/1.1 by hand: every way an answer may be framed, cut, or not come at all; and the same backend over aiohttp."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.backend import openai
from rplab.backend.plain_http import PlainTransport
from rplab.backend.transport import SessionTransport, TransportFault

BODY = '{"text": "안녕하세요"}'.encode()
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Note: a: b\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\n%b\r\n%x\r\n%b\r\n0\r\nT: 1\r\n\r\n" % (
    BODY[:5],
    len(BODY) - 5,
    BODY[5:],
)
NO_TRAILER = CHUNKED.replace(b"T: 1\r\n", b"")
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\n" + BODY
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH


@asynccontextmanager
async def raw_server(answer):
    """Serve `answer(number)`: a list of byte pieces for the n-th request of all connections; None = hang up unasked."""
    state = {"requests": 0, "connections": 0}

    async def handle(reader, writer):
        state["connections"] += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(size)
                state["requests"] += 1
                pieces = answer(state["requests"])
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if not pieces or pieces[-1] == b"" or b"".join(pieces).startswith(b"HTTP/1.0"):
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield state, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


async def post(answer, times=1, timeout_s=5.0):
    async with raw_server(answer) as (state, url):
        transport = PlainTransport(url, "key", timeout_s=timeout_s)
        try:
            return [await transport.post("/chat/completions", b"{}") for _ in range(times)], state
        finally:
            await transport.aclose()


@pytest.mark.parametrize(
    "whole", [LENGTH, CHUNKED, NO_TRAILER, UNTIL_CLOSE, INTERIM], ids=["length", "chunked", "no trailer", "until close", "interim"]
)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_framing_in_any_pieces_gives_the_body(whole, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [piece for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True) if (piece := whole[start:end])]

    replies, _ = asyncio.run(post(lambda _: pieces))

    assert (replies[0].status, replies[0].body) == (200, BODY)


def test_connections_are_kept_and_a_stale_one_is_replaced():
    replies, state = asyncio.run(post(lambda _: [LENGTH], times=5))
    assert len(replies) == 5
    assert state == {"requests": 5, "connections": 1}

    # the server says nothing and hangs up on the second request of a connection: it is asked again on a new one
    replies, state = asyncio.run(post(lambda number: [] if number == 2 else [LENGTH], times=3))
    assert [reply.body for reply in replies] == [BODY] * 3
    assert state["connections"] == 2


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([], "disconnect"),
        ([LENGTH[:-3], b""], "disconnect"),
        ([CHUNKED[:-20], b""], "disconnect"),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], "disconnect"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: no\r\n\r\n"], "disconnect"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"], "disconnect"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"], "timeout"),
    ],
)
def test_half_and_foreign_answers_are_faults(pieces, fault):
    with pytest.raises(TransportFault) as caught:
        asyncio.run(post(lambda _: pieces, timeout_s=0.3))

    assert caught.value.fault == fault


def test_https_and_proxies_go_through_aiohttp(monkeypatch):
    async def kinds(url):
        transport = openai.open_transport(url, None, max_open=4, timeout_s=1)
        await transport.aclose()
        return type(transport)

    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert asyncio.run(kinds("https://api.openai.com/v1")) is SessionTransport
    assert asyncio.run(kinds("http://example.com/v1")) is SessionTransport
    assert asyncio.run(kinds("http://127.0.0.1:8000/v1")) is PlainTransport
    monkeypatch.delenv("http_proxy")
    assert asyncio.run(kinds("http://example.com/v1")) is PlainTransport


def test_over_aiohttp_the_backend_does_the_same(backend, ask, monkeypatch):
    monkeypatch.setattr(openai, "open_transport", SessionTransport)
    faults = {"p500": 0.06, "p_garbage": 0.04, "p_disconnect": 0.08, "p_hang": 0.03, "hang_s": 1.0, "p429": 0.05}

    async def run():
        async with backend(faults, timeout_s=0.5, max_retries=12) as (model, server):
            return await asyncio.gather(*(model.complete(ask(n)) for n in range(40))), server.counts, model.meter.tries

    results, counts, tries = asyncio.run(run())

    assert all(result.finish_reason == "stop" and result.text for result in results)
    assert tries["disconnect"] == counts["p_disconnect"] > 0
    assert tries["timeout"] == counts["p_hang"]
