"""Fetching from a real HTTP server that breaks off, lies, and asks for a token."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rplab.cli.main import main
from rplab.errors import ConfigError, ModelError
from rplab.llm.fetch import fetch_model
from rplab.llm.hub import Hub
from rplab.llm.model_manifest import find_model, known_models, read_lock

COMMIT = "a" * 40
REPO = "lab/tiny"
WEIGHTS = bytes(range(256)) * 4000
FILES = {
    "config.json": b'{"model_type": "qwen3"}', "tokenizer.json": b"{}", "model.safetensors": WEIGHTS, "pytorch_model.bin": b"never",
    "modeling_evil.py": b"never", "onnx/model.onnx": b"never",
}  # fmt: skip


class FakeHub(ThreadingHTTPServer):
    """A hub with one repository."""

    def __init__(self):
        self.files = dict(FILES)
        self.asked = []
        self.break_after = []
        """Bytes after which the next downloads of the weights break off."""
        self.ranges = True
        self.corrupt = 0
        """How many downloads of the weights come with a wrong byte."""
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
                if outer.status != 200:
                    return self.answer(outer.status, b"{}")
                if self.path.startswith("/api/"):
                    return self.answer(200, outer.listing())
                return self.send_file(self.path.split("/resolve/")[1].split("/", 1)[1])

            def send_file(self, name):
                data = outer.files[name]
                if name == "model.safetensors" and outer.corrupt:
                    outer.corrupt -= 1
                    data = b"\xff" + data[1:]
                start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if outer.ranges else 0
                headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
                limit = outer.break_after.pop(0) if name == "model.safetensors" and outer.break_after else None
                self.answer(206 if start else 200, data[start:], headers, limit)

            def answer(self, status, data, headers=None, limit=None):
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data[:limit])
                self.close_connection = True

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def listing(self):
        siblings = []
        for name, data in self.files.items():
            entry = {"rfilename": name, "size": len(FILES.get(name, data))}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": hashlib.sha256(WEIGHTS).hexdigest()}
            siblings.append(entry)
        return json.dumps({"sha": COMMIT, "siblings": siblings}).encode()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def hub(monkeypatch):
    server = FakeHub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


def fetch(tmp_path, **options):
    return fetch_model(REPO, tmp_path, hub=Hub(wait_s=0.01), **options)


def test_a_model_is_fetched_pinned_and_checked_again(hub, tmp_path):
    fetched = fetch(tmp_path)

    assert sorted(path.name for path in fetched.folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (fetched.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not fetched.pinned
    assert read_lock(tmp_path)[REPO].revision == COMMIT
    requests = len(hub.asked)
    assert fetch(tmp_path).pinned
    assert len(hub.asked) == requests  # what is there is verified, not asked for


def test_a_broken_download_goes_on_where_it_stopped(hub, tmp_path):
    hub.break_after = [300_000, 200_000]

    assert (fetch(tmp_path).folder / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [asked[1] for asked in hub.asked if "safetensors" in asked[0]]
    assert ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_a_second_command_goes_on_too_even_without_ranges(hub, tmp_path):
    hub.break_after = [300_000] + [0] * 4
    with pytest.raises(ModelError, match="same command again"):
        fetch(tmp_path)
    assert not (tmp_path / "lab--tiny").exists()
    hub.ranges = False

    assert (fetch(tmp_path).folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_damaged_file_is_fetched_once_more(hub, tmp_path):
    hub.corrupt = 1

    assert (fetch(tmp_path).folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_stays_wrong_is_never_published(hub, tmp_path):
    hub.corrupt = 9

    with pytest.raises(ModelError, match=r"model\.safetensors: sha256 is .* twice"):
        fetch(tmp_path)
    assert not (tmp_path / "lab--tiny").exists()
    assert read_lock(tmp_path) == {}


def test_the_lock_catches_other_bytes_under_the_same_revision(hub, tmp_path):
    first = fetch(tmp_path)
    hub.files["tokenizer.json"] = b"[]"
    first.folder.rename(tmp_path / "elsewhere")

    with pytest.raises(ModelError, match=r"tokenizer\.json: sha256"):
        fetch(tmp_path)


def test_a_changed_folder_is_named(hub, tmp_path):
    (fetch(tmp_path).folder / "config.json").write_text("{}")

    with pytest.raises(ModelError, match=r"config\.json.*was changed"):
        fetch(tmp_path)


@pytest.mark.parametrize(("status", "message"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "name and the revision"), (503, "mirror")])
def test_refusals_say_what_to_do(hub, tmp_path, status, message):
    hub.status = status

    with pytest.raises(ModelError, match=message):
        fetch(tmp_path)


def test_a_repository_without_safetensors_is_refused(hub, tmp_path):
    del hub.files["model.safetensors"]

    with pytest.raises(ModelError, match="no safetensors"):
        fetch(tmp_path)


def test_offline_is_respected_and_explained(hub, tmp_path, monkeypatch):
    fetch(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    assert fetch(tmp_path).pinned  # what is there stays usable
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        fetch_model("lab/other", tmp_path)
    assert not any("other" in asked[0] for asked in hub.asked)


def test_the_token_is_sent_to_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")

    fetch(tmp_path)

    assert {asked[2] for asked in hub.asked} == {"Bearer secret"}


def test_no_connection_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    with pytest.raises(ModelError, match="could not be reached after 5 tries"):
        fetch(tmp_path)


def test_the_manifest_is_pinned_and_names_are_corrected():
    models = known_models()

    assert models["qwen3-4b-instruct-2507"].revision
    assert models["qwen3-1.7b-base"].revision
    assert all(len(model.revision) == 40 for model in models.values() if model.revision)
    with pytest.raises(ConfigError, match=r"Did you mean 'qwen3-4b-instruct-2507'"):
        find_model("qwen3-4b-instruct")


def test_the_command_prints_json(hub, tmp_path, capsys):
    assert main(["llm", "fetch", REPO, "--models", str(tmp_path), "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["revision"] == COMMIT
    assert answer["files"]["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert main(["llm", "fetch", "--list"]) == 0
    assert "qwen3-1.7b-base" in capsys.readouterr().out
