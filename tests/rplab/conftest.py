"""Shared fixtures of the library tests."""

import logging
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


@pytest.fixture(autouse=True)
def _library_log_reaches_the_tests(monkeypatch):
    """Prefect, once imported, keeps the records of `rplab` to itself; a test that runs later still has to see them."""
    library = logging.getLogger("rplab")
    monkeypatch.setattr(library, "propagate", True)
    monkeypatch.setattr(library, "disabled", False)
    level = library.level
    library.setLevel(logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("rplab.") and isinstance(logger, logging.Logger):
            monkeypatch.setattr(logger, "disabled", False)
            monkeypatch.setattr(logger, "propagate", True)
    yield
    library.setLevel(level)
