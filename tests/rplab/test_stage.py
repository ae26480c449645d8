"""The stage contract: keys, cache hits, damage, publishing, resuming."""

import threading
import time

import pytest

from rplab.artifact import Damage, read_manifest, verify
from rplab.errors import DataError, LabError, StageInterrupted, StorageError
from rplab.execute import Machine, Request, execute
from rplab.stage import Stage, diff_fields, run_stage, stage_key


def ignore(_):
    return None


@pytest.fixture
def count(toys):
    return Stage("count", 1, "toy_stages:count", toys.CountConfig)


@pytest.fixture
def total(toys):
    return Stage("total", 1, "toy_stages:total", toys.CountConfig)


def test_second_run_is_a_cache_hit_with_the_same_artifact(count, toys, tmp_path):
    first = run_stage(count, toys.CountConfig(), {}, tmp_path)
    second = run_stage(count, toys.CountConfig(), {}, tmp_path)

    assert not first.cached
    assert second.cached
    assert second.artifact == first.artifact
    assert (tmp_path / "latest" / "count" / "lines.txt").read_text() == "a0\na1\na2\n"
    assert second.manifest.stats == {"rows": 3, "resumed_at": 0}


def test_key_depends_on_config_version_and_input_content_only(count, toys, tmp_path):
    run = run_stage(count, toys.CountConfig(), {}, tmp_path)
    elsewhere = run_stage(count, toys.CountConfig(), {}, tmp_path / "other")
    newer = Stage("count", 2, count.entry, toys.CountConfig)

    assert elsewhere.artifact.key == run.artifact.key
    assert elsewhere.artifact.digest == run.artifact.digest  # wall times below logs/ do not count
    assert stage_key(count, toys.CountConfig(label="b"), {}) != run.artifact.key
    assert stage_key(newer, toys.CountConfig(), {}) != run.artifact.key


@pytest.mark.parametrize("victim", ["lines.txt", "logs/time.txt", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "delete", "truncate"])
def test_any_damaged_file_runs_the_stage_again_and_downstream_stays_cached(count, total, toys, tmp_path, victim, damage):
    first = run_stage(count, toys.CountConfig(), {}, tmp_path)
    run_stage(total, toys.CountConfig(), {"lines": first.artifact}, tmp_path)
    path = first.artifact.path / victim
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:5] + bytes([data[5] ^ 1]) + data[6:])
    elif damage == "delete":
        path.unlink()
    else:
        path.write_bytes(data[:-1])

    again = run_stage(count, toys.CountConfig(), {}, tmp_path)
    after = run_stage(total, toys.CountConfig(), {"lines": again.artifact}, tmp_path)

    assert not again.cached
    assert after.cached
    assert verify(again.artifact.path).digest == first.artifact.digest


def test_changed_config_is_explained_field_by_field(count, toys, tmp_path, caplog):
    run_stage(count, toys.CountConfig(), {}, tmp_path)

    with caplog.at_level("INFO"):
        run_stage(count, toys.CountConfig(label="b"), {}, tmp_path)

    assert 'count runs again: label: "a" -> "b"' in caplog.text


def test_stop_keeps_finished_work_and_the_next_run_continues(count, toys, tmp_path):
    stop = threading.Event()

    def stop_after_two(progress):
        if progress.done >= 2:
            stop.set()

    with pytest.raises(StageInterrupted):
        run_stage(count, toys.CountConfig(count=5), {}, tmp_path, report=stop_after_two, stop=stop)
    run = run_stage(count, toys.CountConfig(count=5), {}, tmp_path)

    assert run.manifest.stats["resumed_at"] == 2
    assert (run.artifact.path / "lines.txt").read_text() == "a0\na1\na2\na3\na4\n"
    assert not list((tmp_path / "count").glob(".resume-*"))


def test_error_of_a_stage_publishes_nothing(toys, tmp_path):
    stage = Stage("bad", 1, "toy_stages:bad_row", toys.CountConfig)

    with pytest.raises(DataError, match=r"rows\.jsonl:7: not valid JSON\. Repair this line"):
        run_stage(stage, toys.CountConfig(), {}, tmp_path)

    assert not (tmp_path / "latest" / "bad").exists()
    with pytest.raises(Damage):
        read_manifest(tmp_path / "bad" / stage_key(stage, toys.CountConfig(), {}))


def test_two_processes_on_one_key_do_the_work_once(count, toys, tmp_path):
    config = toys.CountConfig(count=3, delay_s=0.2)
    runs = []

    def work():
        runs.append(run_stage(count, config, {}, tmp_path))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(run.cached for run in runs) == [False, True]


def test_forced_run_replaces_the_artifact(count, toys, tmp_path):
    run_stage(count, toys.CountConfig(), {}, tmp_path)
    again = run_stage(count, toys.CountConfig(), {}, tmp_path, force=True)

    assert not again.cached
    assert verify(again.artifact.path)


def test_full_disk_is_a_clear_error_and_leaves_nothing_half_published(toys, tmp_path, monkeypatch):
    stage = Stage("fill", 1, "toy_stages:fill_disk", toys.CountConfig)
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # the cheapest disk that is full
    try:
        with pytest.raises(StorageError, match="run the same command again"):
            run_stage(stage, toys.CountConfig(), {}, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not list((tmp_path / "fill").glob("[!.]*"))


def test_isolated_stage_reports_progress_from_its_own_process(count, toys, tmp_path):
    isolated = Stage("count", 1, "toy_stages:count", toys.CountConfig, isolate=True)
    seen = []

    run = execute(Request(isolated, toys.CountConfig(), {}, tmp_path, machine=Machine(threads=1)), seen.append)
    again = execute(Request(isolated, toys.CountConfig(), {}, tmp_path), seen.append)

    assert not run.cached
    assert again.cached
    assert seen[-1].done == seen[-1].total == 3


def test_error_in_a_child_keeps_its_type_message_and_exit_code(toys, tmp_path):
    stage = Stage("bad", 1, "toy_stages:bad_row", toys.CountConfig, isolate=True)

    with pytest.raises(DataError) as caught:
        execute(Request(stage, toys.CountConfig(), {}, tmp_path), ignore)

    assert str(caught.value) == "rows.jsonl:7: not valid JSON. Repair this line"
    assert caught.value.exit_code == 2


def test_child_that_dies_is_reported_with_the_end_of_its_log(toys, tmp_path):
    stage = Stage("die", 1, "toy_stages:die", toys.CountConfig, isolate=True)

    with pytest.raises(LabError, match=r"ended with code 9(.|\n)*log\.txt"):
        execute(Request(stage, toys.CountConfig(), {}, tmp_path), ignore)


def test_stop_reaches_the_child_which_saves_and_resumes(toys, tmp_path):
    stage = Stage("count", 1, "toy_stages:count", toys.CountConfig, isolate=True)
    request = Request(stage, toys.CountConfig(count=40, delay_s=0.1), {}, tmp_path)
    stop = threading.Event()
    started = time.monotonic()

    with pytest.raises(StageInterrupted):
        execute(request, lambda progress: stop.set() if progress.done >= 2 else None, stop)
    interrupted_s = time.monotonic() - started
    run = execute(request, ignore)

    assert interrupted_s < 15
    assert run.manifest.stats["resumed_at"] >= 2
    assert (run.artifact.path / "lines.txt").read_text().splitlines() == [f"a{i}" for i in range(40)]


def test_diff_fields_names_the_path_of_every_change():
    assert diff_fields({"a": {"b": 1}, "c": [1]}, {"a": {"b": 2}, "d": None}) == [
        "a.b: 1 -> 2",
        'c: [1] -> "(absent)"',
        'd: "(absent)" -> null',
    ]
