"""The Batch API against a fake of it: written, submitted, fetched, and picked up by the ordinary stage."""

import threading

import openai
import pytest

from rplab.backend import batch_api
from rplab.backend.batch_api import fetch_batch, read_answers, submit_batch, wait_for_batch, write_batches
from rplab.backend.config import OpenAIConfig, ScriptedConfig
from rplab.dialogue.batch import (
    first_requests,
    need_batch_endpoint,
    prepare_job,
    read_job_file,
    record_answers,
    submit_job,
    update_job,
)
from rplab.dialogue.config import SingleturnConfig
from rplab.dialogue.journal import Journal, request_hash
from rplab.dialogue.pack import load_pack
from rplab.dialogue.singleturn import build_request, draw_plan, generate_singleturn
from rplab.errors import BackendError, ConfigError, DataError
from rplab.stage import StageContext


@pytest.fixture
def requests():
    """Return the first attempts of 12 rows."""
    pack = load_pack("v7")
    config = SingleturnConfig(backend=ScriptedConfig())
    return [build_request(draw_plan(config, pack, tuple(pack.singleturn.genres), n), 0, "", config.seed, pack) for n in range(12)]


@pytest.fixture
def served(mock):
    """Return a maker of (server, url): the fake runs in a thread, since the openai client blocks."""
    import asyncio

    ends = []

    def start(**faults):
        ready, box, loop = threading.Event(), [], asyncio.new_event_loop()
        stop = asyncio.Event()

        async def run():
            async with mock(**faults) as pair:
                box.append(pair)
                ready.set()
                await stop.wait()

        thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
        thread.start()
        ready.wait(10)
        ends.append((loop, stop, thread))
        return box[0]

    yield start
    for loop, stop, thread in ends:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_batch_comes_back_and_fills_the_journal(requests, served, tmp_path, api):
    _, url = served(p500=0.3)
    config = OpenAIConfig(model="mock", base_url=url, api=api)
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    waits, reports = [], []

    (path,) = write_batches(requests, config, tmp_path)
    batch = submit_batch(client, path, config)
    state = wait_for_batch(client, batch, poll_s=7, sleep=waits.append, report=reports.append)
    paths = fetch_batch(client, state, tmp_path)
    answers = list(read_answers(paths, requests, config))

    assert waits == [7]
    assert [report.status for report in reports] == ["in_progress"]
    assert len(paths) == 2
    assert 0 < len(answers) < 12  # some failed; they are asked online later
    assert all(result.key == request.key and result.finish_reason == "stop" and result.text for request, result in answers)
    name = "openai/mock"
    with Journal(tmp_path / "singleturn.journal") as journal:
        for request, result in answers:
            journal.put(request_hash(request, name), result)
    with Journal(tmp_path / "singleturn.journal") as journal:
        assert sum(journal.get(request_hash(request, name)) is not None for request in requests) == len(answers)


def test_large_batches_are_split(requests, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_api, "MAX_REQUESTS", 5)

    paths = write_batches(requests, OpenAIConfig(model="mock", base_url="http://127.0.0.1:9/v1"), tmp_path)

    assert [len(path.read_text().splitlines()) for path in paths] == [5, 5, 2]


def test_foreign_and_broken_output_is_refused(requests, tmp_path):
    config = OpenAIConfig(model="mock", base_url="http://127.0.0.1:9/v1")
    path = tmp_path / "output.jsonl"

    path.write_text('{"custom_id": "who?", "response": null, "error": null}\n')
    with pytest.raises(DataError, match=r"output\.jsonl:1: answer to 'who\?'"):
        list(read_answers([path], requests, config))
    path.write_text('\n{"custom_id": 1')
    with pytest.raises(DataError, match=r"output\.jsonl:2: not a line of a batch output"):
        list(read_answers([path], requests, config))
    with pytest.raises(DataError, match="same key"):
        write_batches([requests[0], requests[0]], config, tmp_path)


def test_the_stage_takes_up_the_answers_of_a_batch(served, tmp_path):
    server, url = served()
    config = SingleturnConfig(target_rows=12, max_attempts=2, max_overshoot=0, backend=OpenAIConfig(model="mock", base_url=url))
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    context = StageContext(out=tmp_path / "out", resume=tmp_path / "resume")
    context.out.mkdir()
    requests, journal = first_requests(config), context.resume / "singleturn.journal"

    job = prepare_job(tmp_path / "job", ["singleturn"], requests, config.backend)
    assert submit_job(tmp_path / "job", job, config.backend, client) == 1
    assert submit_job(tmp_path / "job", read_job_file(tmp_path / "job"), config.backend, client) == 0
    states = update_job(tmp_path / "job", job, client)
    assert record_answers(tmp_path / "job", states, requests, config.backend, client, journal) == (0, 12)  # not ended yet
    states = update_job(tmp_path / "job", job, client)
    assert record_answers(tmp_path / "job", states, requests, config.backend, client, journal) == (12, 0)
    assert record_answers(tmp_path / "job", states, requests, config.backend, client, journal) == (0, 0)
    with pytest.raises(BackendError, match="0 of 12 rows"):  # the fake writes nonsense, which the stage notices
        generate_singleturn(config, {}, context)

    online = [body["messages"][1]["content"] for body in server.bodies]
    assert online
    assert sum("고칠 점" not in text for text in online) == 12  # a second round was planned; the first one's were not asked again
    with pytest.raises(ConfigError, match="has no Batch API"):
        need_batch_endpoint(ScriptedConfig())
