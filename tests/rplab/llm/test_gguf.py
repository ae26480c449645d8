"""GGUF export: llama.cpp's converter is found, its failures are told, and a file appears whole or not at all."""

import json
import sys

import pytest

from rplab.errors import ConfigError, ModelError
from rplab.llm.gguf import export_gguf, find_converter

CONVERTER = """
import sys, pathlib
out = sys.argv[sys.argv.index("--outfile") + 1]
{body}
"""


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def checkout(tmp_path, body):
    """A llama.cpp checkout whose converter does what `body` says."""
    folder = tmp_path / "llama.cpp"
    folder.mkdir()
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER.format(body=body))
    return folder


def test_a_file_is_written_by_the_converter_of_a_checkout(model, tmp_path):
    body = "pathlib.Path(out).write_bytes(b'GGUF' + sys.argv[sys.argv.index('--outtype') + 1].encode())"

    size = export_gguf(model, tmp_path / "out" / "m.gguf", kind="f16", converter=checkout(tmp_path, body))

    assert (tmp_path / "out" / "m.gguf").read_bytes() == b"GGUFf16"
    assert size == 7
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m.gguf"]


def test_without_a_converter_the_way_to_get_one_is_told(monkeypatch, model, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMA_CPP", raising=False)

    with pytest.raises(ConfigError, match=r"git clone https://github\.com/ggml-org/llama\.cpp.*LLAMA_CPP"):
        export_gguf(model, tmp_path / "m.gguf")


def test_the_variable_names_a_checkout(monkeypatch, tmp_path):
    folder = checkout(tmp_path, "")
    monkeypatch.setenv("LLAMA_CPP", str(folder))

    assert find_converter() == [sys.executable, str(folder / "convert_hf_to_gguf.py")]
    with pytest.raises(ConfigError, match="no convert_hf_to_gguf"):
        find_converter(tmp_path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('unknown architecture FooForCausalLM')", "unknown architecture FooForCausalLM"),
        ("pass", "it wrote nothing"),
        ("pathlib.Path(out).write_bytes(b'JUNK')", "no GGUF file"),
        ("pathlib.Path(out).write_bytes(b'GG'); sys.exit(3)", "exit 3"),
    ],
)
def test_failures_leave_nothing_behind(model, tmp_path, body, message):
    out = tmp_path / "out"

    with pytest.raises(ModelError, match=message):
        export_gguf(model, out / "m.gguf", converter=checkout(tmp_path, body))
    assert list(out.iterdir()) == []


def test_an_incomplete_model_and_an_existing_file_are_named(model, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"old")
    with pytest.raises(ConfigError, match="exists already"):
        export_gguf(model, tmp_path / "m.gguf")
    (model / "config.json").unlink()
    with pytest.raises(ModelError, match=r"missing config\.json"):
        export_gguf(model, tmp_path / "n.gguf")


def test_the_command_takes_an_artefact(model, tmp_path, capsys):
    from rplab.cli.main import main

    body = "pathlib.Path(out).write_bytes(b'GGUF')"
    arguments = ["--model", str(tmp_path), "--out", str(tmp_path / "m.gguf"), "--converter", str(checkout(tmp_path, body)), "--json"]

    assert main(["llm", "gguf", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 4
