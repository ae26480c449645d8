"""Reports and keys as a person sees them in Prefect. No server needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rplab.artifact import Artifact, InputEntry, Manifest
from rplab.stage import StageRun
from tasks.watch import artifact_key, render_report, render_table


@pytest.mark.parametrize(
    ("name", "key"),
    [("grpo_merge", "report-grpo-merge"), ("My Profile.v2", "report-my-profile-v2"), ("야간", "report-unnamed")],
)
def test_keys_hold_only_what_prefect_accepts(name: str, key: str) -> None:
    assert artifact_key("report", name) == key


def finished(path: Path) -> StageRun:
    manifest = Manifest(
        stage="sft2",
        stage_version=1,
        key="k2",
        digest="d2",
        config={},
        inputs={"adapter": InputEntry(stage="sft1", key="k1", digest="d1")},
        files=(),
        stats={"steps": 20, "dropped": {"too_long": 3}, "note": "a|b\nc"},
        packages={},
        commit=None,
        machine={},
        started_utc="2026-01-01T00:00:00+00:00",
        wall_s=12.5,
    )
    return StageRun(Artifact(stage="sft2", key="k2", path=path, digest="d2"), manifest, cached=False)


def test_report_shows_counts_and_lineage(tmp_path: Path) -> None:
    text = render_report(finished(tmp_path))
    assert "| steps | 20 |" in text
    assert "| dropped.too_long | 3 |" in text
    assert r"| note | a\|b c |" in text
    assert "| adapter | sft1 | `k1` |" in text
    assert f"`{tmp_path}`" in text
    assert "key `k2`, made in 12.5 s" in text


def test_report_of_the_stage_comes_first(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("# 데이터 카드\n")
    text = render_report(finished(tmp_path))
    assert text.startswith("# 데이터 카드\n")
    assert "| adapter | sft1 | `k1` |" in text
    assert "| steps |" not in text


def test_huge_report_is_cut_and_says_where_the_rest_is(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("x" * 300_000)
    text = render_report(finished(tmp_path))
    assert len(text) < 202_000
    assert f"`{tmp_path / 'report.md'}`" in text


def test_table_without_rows() -> None:
    assert render_table(("a", "b"), []) == "| a | b |\n|---|---|"
