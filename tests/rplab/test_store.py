"""Looking into the store, and cleaning it."""

import pytest

from rplab.errors import ConfigError
from rplab.stage import Stage, run_stage
from rplab.store import check, collect, compare, entries, find, garbage


@pytest.fixture
def filled(toys, tmp_path):
    stage = Stage("count", 1, "toy_stages:count", toys.CountConfig)
    total = Stage("total", 1, "toy_stages:total", toys.CountConfig)
    old = run_stage(stage, toys.CountConfig(label="old"), {}, tmp_path)
    new = run_stage(stage, toys.CountConfig(label="new"), {}, tmp_path)
    run_stage(total, toys.CountConfig(), {"lines": new.artifact}, tmp_path)
    return tmp_path, old.artifact, new.artifact


def test_entries_mark_the_latest_artifact_of_each_stage(filled):
    store, _, new = filled

    latest = {entry.stage: entry.key for entry in entries(store) if entry.latest}

    assert latest["count"] == new.key
    assert set(latest) == {"count", "total"}


def test_compare_says_what_differs(filled):
    store, old, new = filled

    lines = compare(find(store, f"count/{old.key[:8]}"), find(store, f"count/{new.key}"))

    assert 'label: "old" -> "new"' in lines
    assert any(line.startswith("file.lines.txt:") for line in lines)


def test_garbage_keeps_what_the_latest_artifacts_are_made_from(filled):
    store, old, new = filled

    dead = garbage(store)
    freed = collect(dead)

    assert dead == [store / "count" / old.key]
    assert freed > 0
    assert new.path.is_dir()
    assert check(find(store, "total")) == "ok"


def test_unknown_reference_lists_what_is_there(filled):
    with pytest.raises(ConfigError, match="stages there: count, total"):
        find(filled[0], "sft9")


def test_missing_store_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="rplab run"):
        list(entries(tmp_path / "nowhere"))
