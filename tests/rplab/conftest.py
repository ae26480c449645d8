"""Shared fixtures of the library tests."""

from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture
def toys(monkeypatch):
    """The toy stage module, importable here and in child processes."""
    monkeypatch.syspath_prepend(str(ASSETS))
    monkeypatch.setenv("PYTHONPATH", str(ASSETS))
    import toy_stages

    return toy_stages
