"""The reading server, files, and the commands as a user calls them."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from rplab.cli.main import build_parser


@pytest.fixture
def server():
    """Return a running `ReadingServer`."""
    name = "rplab_judge_server"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("judge_server.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    running = sys.modules[name].ReadingServer()
    yield running
    running.close()


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Return a caller of `rplab data ...` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        arguments = build_parser().parse_args(["data", *map(str, argv)])
        return arguments.handler(arguments)

    return run


@pytest.fixture
def endpoint(server):
    """Return the options that name the server."""
    return ("--backend", "openai", "--backend-set", "model=mock", "--backend-set", f"base_url={server.url}")


@pytest.fixture
def chat():
    """Return a maker of `{messages}` rows."""

    def make(*replies, **fields):
        messages = [{"role": "system", "content": "사야는 카페 주인이다."}]
        for number, reply in enumerate(replies):
            messages += [{"role": "user", "content": f'"{number}번째 말이야."'}, {"role": "assistant", "content": reply}]
        return {"messages": messages, **fields}

    return make


@pytest.fixture
def write(tmp_path):
    """Return a writer of JSON lines."""

    def make(name, *rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return make


@pytest.fixture
def read(tmp_path):
    """Return a reader of JSON lines."""
    return lambda name: [json.loads(line) for line in (tmp_path / name).read_text(encoding="utf-8").splitlines()]
