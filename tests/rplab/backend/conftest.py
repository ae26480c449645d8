"""A mock model server inside the test's own event loop."""

import importlib.util
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from rplab.backend.base import ChatRequest, Sampling
from rplab.backend.config import OpenAIConfig
from rplab.backend.openai import OpenAIBackend

MOCK = Path(__file__).with_name("mock_server.py")


def load_mock():
    """Import the mock server, once."""
    if "rplab_mock_server" not in sys.modules:
        spec = importlib.util.spec_from_file_location("rplab_mock_server", MOCK)
        module = importlib.util.module_from_spec(spec)
        sys.modules["rplab_mock_server"] = module
        spec.loader.exec_module(module)
    return sys.modules["rplab_mock_server"]


@pytest.fixture
def mock():
    """Return an async context manager: `async with mock(p500=0.1) as (server, url)`."""
    module = load_mock()

    @asynccontextmanager
    async def run(**faults):
        server = module.MockServer(module.Faults(**faults))
        async with TestServer(server.app()) as site:
            yield server, f"http://127.0.0.1:{site.port}/v1"

    return run


@pytest.fixture
def backend(mock):
    """Return an async context manager: `async with backend({"p500": 0.1}, max_retries=2) as (backend, server)`."""

    @asynccontextmanager
    async def run(faults=None, **settings):
        async with mock(**(faults or {})) as (server, url):
            config = OpenAIConfig(**{"model": "mock", "base_url": url, **settings})
            made = OpenAIBackend(config, config.base_url)
            try:
                yield made, server
            finally:
                await made.aclose()

    return run


@pytest.fixture
def ask():
    """Return a maker of requests, told apart by number."""

    def make(number=0, schema=None, **sampling):
        messages = ({"role": "system", "content": "너는 사야다."}, {"role": "user", "content": f"{number}번째 인사"})
        return ChatRequest(f"k{number}", messages, number * 7919 + 1, Sampling(**sampling), schema)

    return make
