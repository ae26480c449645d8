"""Runs of the generation stages on the embedded backend."""

import json

import pytest

from rplab.stage import StageContext


@pytest.fixture
def new_context(tmp_path):
    """Return a maker of stage contexts: one folder a name, with the resume folder beside it."""

    def make(name, **fields):
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        return StageContext(out=out, resume=tmp_path / f"{name}.resume", **fields)

    return make


@pytest.fixture
def rows_of():
    """Return a reader of JSON-lines files."""

    def read(path):
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return read


@pytest.fixture
def files_of():
    """Return a reader of all files of a folder, as bytes by name."""

    def read(folder):
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    return read
