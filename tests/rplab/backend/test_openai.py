"""The openai backend against a server that misbehaves."""

import asyncio
import logging

import pytest

from rplab.backend.config import OpenAIConfig
from rplab.backend.openai import HOPELESS_IN_A_ROW, OpenAIBackend, find_key
from rplab.errors import BackendError, ConfigError

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"], "additionalProperties": False}


def test_chat_completions_carry_sampling_seed_and_schema(backend, ask):
    async def run():
        async with backend() as (model, server):
            result = await model.complete(ask(1, SCHEMA, temperature=0.3, top_p=0.8, max_tokens=77, repetition_penalty=1.1, stop=("끝",)))
            return model, server, result

    model, server, result = asyncio.run(run())

    body = server.bodies[0]
    assert result.finish_reason == "stop"
    assert result.text.startswith("{")
    assert result.usage.prompt_tokens == 100
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["repetition_penalty"], body["stop"]) == (0.3, 0.8, 77, 1.1, ["끝"])
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert 0 <= body["seed"] < 2**31
    assert model.name == "openai/mock"
    assert model.meter.stats()["answers"] == 1


def test_responses_api_is_spoken_too(backend, ask):
    async def run():
        async with backend({}, api="responses", effort="low", reasoning=True) as (model, server):
            return model.name, server.bodies, await model.complete(ask(1, SCHEMA, max_tokens=50))

    name, bodies, result = asyncio.run(run())

    assert result.finish_reason == "stop"
    assert result.usage.completion_tokens > 0
    assert bodies[0]["max_output_tokens"] == 50 + 4096
    assert bodies[0]["text"]["format"]["type"] == "json_schema"
    assert bodies[0]["text"]["format"]["schema"] == SCHEMA
    assert bodies[0]["reasoning"] == {"effort": "low"}
    assert "temperature" not in bodies[0]
    assert name == "openai/mock@low"


@pytest.mark.parametrize(
    ("model_name", "reasons"),
    [("gpt-5-mini", True), ("o3", True), ("gpt-5-chat-latest", False), ("gpt-4.1", False), ("Qwen/Qwen3-4B", False)],
)
def test_reasoning_models_get_no_sampling_controls(backend, ask, model_name, reasons):
    async def run():
        async with backend({}, model=model_name) as (model, server):
            await model.complete(ask())
            return server.bodies[0]

    body = asyncio.run(run())

    assert ("temperature" not in body and "max_completion_tokens" in body) == reasons


def test_a_reasoning_model_that_thought_too_long_gets_more_room_once(backend, ask):
    async def run(thinks):
        async with backend({"thinks": thinks}, reasoning=True, reasoning_tokens=1000) as (model, server):
            return await model.complete(ask()), [body["max_completion_tokens"] for body in server.bodies]

    result, budgets = asyncio.run(run(3000))
    assert result.finish_reason == "stop"
    assert budgets == [512 + 1000, 512 + 4000]

    result, budgets = asyncio.run(run(100_000))
    assert result.finish_reason == "length"
    assert len(budgets) == 2


@pytest.mark.parametrize(("fault", "finish"), [("p_empty", "stop"), ("p_refused", "content_filter"), ("p_cut", "length")])
def test_empty_refused_and_cut_answers_are_no_good_answers(backend, ask, fault, finish):
    async def run():
        async with backend({fault: 1.0}) as (model, _):
            return await model.complete(ask())

    result = asyncio.run(run())

    assert result.finish_reason == finish
    assert result.error
    assert not result.text or finish == "length"


def test_passing_failures_are_tried_again_until_an_answer_comes(backend, ask):
    faults = {"p500": 0.06, "p_garbage": 0.04, "p_disconnect": 0.08, "p_hang": 0.03, "hang_s": 1.0, "p429": 0.05, "p429_bare": 0.05}

    async def run():
        async with backend(faults, timeout_s=0.5, max_retries=12) as (model, server):
            return await asyncio.gather(*(model.complete(ask(n)) for n in range(60))), server.counts, model.meter.tries

    results, counts, tries = asyncio.run(run())

    assert all(result.finish_reason == "stop" and result.text for result in results)
    assert [result.key for result in results] == [f"k{n}" for n in range(60)]
    assert counts["500"]
    assert counts["429"]
    assert tries["disconnect"] == counts["p_disconnect"]
    assert tries["timeout"] == counts["p_hang"]


def test_bounded_retries_end_in_an_error_result_and_many_of_them_end_the_run(backend, ask):
    async def one():
        async with backend({"p500": 1.0}, max_retries=1) as (model, server):
            return await model.complete(ask()), server.counts["total"]

    result, total = asyncio.run(one())
    assert (result.finish_reason, total) == ("error", 2)
    assert "HTTP 500: mock failure" in result.error

    async def many():
        async with backend({"p500": 1.0}, max_retries=0) as (model, _):
            for number in range(HOPELESS_IN_A_ROW):
                await model.complete(ask(number))

    with pytest.raises(BackendError, match=f"{HOPELESS_IN_A_ROW} requests in a row failed"):
        asyncio.run(many())


def test_retry_after_is_honoured_in_seconds_and_as_a_date(backend, ask):
    async def run(value):
        async with backend({"status": 429, "retry_after": value}) as (model, server):
            asking = asyncio.create_task(model.complete(ask()))
            await asyncio.sleep(0.2)
            server.faults.status = 0
            await asking
            return server.times[1] - server.times[0]

    assert 0.6 <= asyncio.run(run("0.6")) < 1.5
    assert 0.9 <= asyncio.run(run("date")) < 3.0  # dates have whole seconds: 2 s ahead, rounded down


def test_a_server_that_is_closed_for_long_ends_the_run_with_a_reason(backend, ask):
    async def run():
        async with backend({"status": 429, "retry_after": "36000"}) as (model, _):
            await model.complete(ask())

    with pytest.raises(BackendError, match=r"asks to wait .* s.*Run the same command again later"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "words"), [(401, "access denied"), (403, "access denied"), (404, "backend.base_url"), (308, "backend.base_url")]
)
def test_wrong_key_and_address_stop_at_once(backend, ask, status, words):
    async def run():
        async with backend({"status": status}) as (model, server):
            try:
                await model.complete(ask())
            finally:
                assert server.counts["total"] == 1

    with pytest.raises(BackendError, match=words):
        asyncio.run(run())


def test_nobody_listening_is_told_quickly():
    config = OpenAIConfig(model="mock", base_url="http://127.0.0.1:9/v1")

    async def run(ask_once):
        backend = OpenAIBackend(config, config.base_url)
        try:
            await asyncio.wait_for(backend.complete(ask_once), 10)
        finally:
            await backend.aclose()

    from rplab.backend.base import ChatRequest

    with pytest.raises(BackendError, match=r"no connection.*Start the server"):
        asyncio.run(run(ChatRequest("k", ({"role": "user", "content": "안녕"},), 1)))


@pytest.mark.parametrize("name", ["temperature", "seed", "repetition_penalty", "max_tokens", "response_format"])
def test_a_parameter_that_the_server_refuses_is_left_out_from_then_on(backend, ask, name):
    async def run():
        async with backend({"refuses": name}) as (model, server):
            results = [await model.complete(ask(n, SCHEMA, repetition_penalty=1.1)) for n in range(2)]
            return results, server.bodies

    results, bodies = asyncio.run(run())

    assert all(result.finish_reason == "stop" for result in results)
    assert name in bodies[0]
    assert name not in bodies[-1]
    assert len(bodies) <= 5


def test_a_request_of_its_own_fault_is_one_error_result(backend, ask):
    async def run():
        async with backend({"status": 400}) as (model, server):
            return await model.complete(ask()), server.counts["total"]

    result, total = asyncio.run(run())

    assert (result.finish_reason, total) == ("error", 1)
    assert "HTTP 400" in result.error


def test_the_budget_stops_the_run_before_it_is_exceeded(backend, ask):
    settings = {"budget_usd": 0.03, "price_input_usd": 1.0, "price_output_usd": 10.0, "model": "mine"}

    async def run():
        async with backend({"latency_ms": 5}, **settings) as (model, server):
            kept = []

            async def worker(first):
                for number in range(first, 1000, 8):
                    kept.append(await model.complete(ask(number)))

            outcome = await asyncio.gather(*(worker(n) for n in range(8)), return_exceptions=True)
            return outcome, kept, server.counts["answered"], model.meter

    outcome, kept, answered, meter = asyncio.run(run())

    assert all(isinstance(error, BackendError) and "budget of $0.03 leaves no room" in str(error) for error in outcome)
    assert 0.02 < meter.spent_usd <= 0.03
    assert len(kept) == answered  # what was paid for has arrived


def test_a_budget_in_tokens_holds_whatever_the_answers_cost(backend, ask):
    async def run():
        async with backend({"latency_ms": 5}, budget_tokens=4000) as (model, server):
            outcome = await asyncio.gather(*(model.complete(ask(number, max_tokens=100)) for number in range(400)), return_exceptions=True)
            return outcome, server.counts["answered"], model.meter

    outcome, answered, meter = asyncio.run(run())

    refused = [result for result in outcome if isinstance(result, BackendError)]
    assert all("budget of 4,000 tokens" in str(error) for error in refused)
    assert 400 - len(refused) == answered > 0
    assert 3500 < meter.usage.prompt_tokens + meter.usage.completion_tokens <= 4000


def test_a_budget_needs_a_price():
    with pytest.raises(ConfigError, match="price_input_usd"):
        OpenAIBackend(OpenAIConfig(model="who-knows", base_url="http://127.0.0.1:9/v1", budget_usd=1.0), "http://127.0.0.1:9/v1")


def test_the_key_comes_from_the_environment_and_appears_nowhere(backend, ask, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    caplog.set_level(logging.DEBUG)

    async def run(status):
        async with backend({"status": status}, api_key_env="MY_KEY") as (model, server):
            try:
                await model.complete(ask())
            except BackendError as error:
                return server.headers[0]["Authorization"], str(error)
            return server.headers[0]["Authorization"], ""

    assert asyncio.run(run(0))[0] == "Bearer sk-very-secret"
    _, message = asyncio.run(run(401))
    assert "MY_KEY" in message
    assert "sk-very-secret" not in message + caplog.text


def test_keys_go_only_where_they_belong(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    config = OpenAIConfig(model="gpt-5-mini")

    assert find_key(config, "https://api.openai.com/v1") == ("OPENAI_API_KEY", "sk-x")
    assert find_key(config, "http://127.0.0.1:8000/v1") == (None, None)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        find_key(config, "https://api.openai.com/v1")


@pytest.mark.parametrize("field", [{"api_key_env": "sk-abcdef"}, {"base_url": "http://me:secret@host/v1"}, {"base_url": "host:80"}])
def test_secrets_and_nonsense_are_refused_without_being_repeated(field):
    with pytest.raises(ValueError, match="must") as caught:
        OpenAIConfig(model="m", **field)

    assert "sk-abcdef" not in str(caught.value)
    assert "secret" not in str(caught.value)
