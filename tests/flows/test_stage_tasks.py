"""Stages as tasks against a real server: cached, healed, forced, retried, seen."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rplab.errors import BackendError, DataError
from rplab.execute import Request, execute
from rplab.stage import Stage, run_stage

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def chain(tmp_path: Path) -> Any:
    return Chain(tmp_path / "store")


class Chain:
    """numbers -> total; the second stage runs in a child process."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def count_request(self, force: bool = False) -> Request:
        from rplab_fake_stages import CountConfig

        return Request(Stage("count_up", 1, "rplab_fake_stages:count_up", CountConfig), CountConfig(), {}, self.store, force=force)

    def sum_request(self, numbers: Any, factor: int = 1) -> Request:
        from rplab_fake_stages import SumConfig

        stage = Stage("total", 1, "rplab_fake_stages:add_up", SumConfig, isolate=True, gpu=True)
        return Request(stage, SumConfig(factor=factor), {"numbers": numbers}, self.store)

    def run(self, force: bool = False, factor: int = 1) -> dict[str, bool]:
        """Run both; return which stages were cached."""
        from tasks.stage import run_as_task

        # Tasks work outside a flow as well, and a flow run costs more than a second of Prefect's own.
        numbers, first = run_as_task(self.count_request(force))
        _, second = run_as_task(self.sum_request(numbers, factor))
        return {"count_up": first, "total": second}


def test_second_run_is_cached_and_a_changed_value_reruns_what_depends_on_it(chain: Chain) -> None:
    assert chain.run() == {"count_up": False, "total": False}
    assert chain.run() == {"count_up": True, "total": True}
    assert chain.run(factor=2) == {"count_up": True, "total": False}
    assert (chain.store / "latest" / "total" / "total.txt").read_text() == "6\n"


def test_flipped_byte_reruns_that_stage_only(chain: Chain) -> None:
    chain.run()
    victim = chain.store / "latest" / "count_up" / "numbers.txt"
    victim.write_bytes(victim.read_bytes().replace(b"1", b"7"))

    cached = chain.run()

    assert cached == {"count_up": False, "total": True}
    assert victim.read_text() == "0\n1\n2\n"


def test_store_is_the_truth_when_prefect_forgot(chain: Chain) -> None:
    chain.run()
    shutil.rmtree(chain.store / "prefect")
    assert chain.run() == {"count_up": True, "total": True}


def test_what_the_library_made_is_cached_for_prefect_and_the_other_way_round(chain: Chain) -> None:
    request = chain.count_request()
    run_stage(request.stage, request.config, request.inputs, request.store)

    assert chain.run() == {"count_up": True, "total": False}
    numbers = execute(request, lambda _: None)
    assert numbers.cached
    assert execute(chain.sum_request(numbers.artifact), lambda _: None).cached


def test_moved_store_is_still_cached(chain: Chain, tmp_path: Path) -> None:
    chain.run()
    chain.store.rename(tmp_path / "elsewhere")
    chain.store = tmp_path / "elsewhere"
    assert chain.run() == {"count_up": True, "total": True}


def test_forced_stage_runs_and_equal_content_keeps_the_rest_cached(chain: Chain) -> None:
    chain.run()
    assert chain.run(force=True) == {"count_up": False, "total": True}


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "faults.txt"
    monkeypatch.setenv("RPLAB_TEST_FAULTS", str(path))
    return path


def run_flaky(store: Path) -> Any:
    from rplab_fake_stages import SumConfig

    from tasks.stage import stage_task

    request = Request(Stage("flaky", 1, "rplab_fake_stages:flaky", SumConfig), SumConfig(), {}, store)
    task = stage_task(request).with_options(retry_delay_seconds=0)
    return task(request, return_state=True).result()  # type: ignore[call-arg]


def test_backend_error_is_retried(tmp_path: Path, faults: Path) -> None:
    faults.write_text("backend backend")
    assert run_flaky(tmp_path / "store").stage == "flaky"
    assert faults.read_text() == ""


def test_backend_that_stays_away_fails_with_its_own_error(tmp_path: Path, faults: Path) -> None:
    faults.write_text("backend backend backend backend")
    with pytest.raises(BackendError, match="did not answer"):
        run_flaky(tmp_path / "store")
    assert faults.read_text() == "backend"


def test_data_error_is_not_retried(tmp_path: Path, faults: Path) -> None:
    faults.write_text("data data")
    with pytest.raises(DataError, match=r"rows\.jsonl:3"):
        run_flaky(tmp_path / "store")
    assert faults.read_text() == "data"


def test_a_run_leaves_progress_and_reports(chain: Chain) -> None:
    from prefect import flow, get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    flow(name="chain")(chain.run)()

    with get_client(sync_client=True) as client:
        keys = ["report-total", "report-count-up", "progress-count-up"]
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=keys)))
    newest = {item.key: item for item in sorted(found, key=lambda item: item.created or 0)}  # type: ignore[type-var]
    assert "The total is **3**" in str(newest["report-total"].data)
    assert "| numbers | count_up |" in str(newest["report-total"].data)
    assert "| rows | 3 |" in str(newest["report-count-up"].data)
    assert newest["progress-count-up"].data == 100
    assert newest["progress-count-up"].description == "count_up: 3 / 3 numbers"
