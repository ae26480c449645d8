"""`rplab data dedup`: equal, near and same-meaning rows; the endpoint is asked once a text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.backend import embeddings
from rplab.backend.config import EmbeddingsConfig
from rplab.dataset.semantic_duplicates import find_similar
from rplab.errors import ConfigError, RefusedError


def test_equal_near_and_same_meaning_rows_are_left_out_with_their_original(call, chat, write, read, server, capsys):
    first = chat("사야는 창가에 앉아 찻잔을 들고 밖을 오래 바라본다.", id="a")
    near = chat("사야는 창가에 앉아 찻잔을 들고 밖을 오래 바라본다!", id="b")
    same = chat("밖을 바라본다, 오래. 찻잔을 들고 앉아 창가에 사야는.", id="c")
    other = chat("마이는 학회 발표를 끝내고 계단을 뛰어 내려간다.", id="d")
    write("in.jsonl", first, other, near, {**first, "id": "e"}, same)
    model = ("--embeddings", "mock", "--base-url", server.url)

    call("dedup", "in.jsonl", "out.jsonl")
    assert [row["id"] for row in read("out.jsonl")] == ["a", "d", "c"]
    assert [(item["line"], item["like_line"], item["reason"]) for item in read("out.duplicates.jsonl")] == [
        (3, 1, "near_copy"),
        (4, 1, "equal"),
    ]
    call("dedup", "in.jsonl", "out.jsonl", "--semantic", "0.8", *model)
    assert [row["id"] for row in read("out.jsonl")] == ["a", "d"]
    assert read("out.duplicates.jsonl")[-1]["similarity"] > 0.8
    assert [len(body["input"]) for body in server.asked] == [3]
    call("dedup", "in.jsonl", "all.jsonl", "--near", "0")
    assert "equal 1" not in capsys.readouterr().err.replace("left out", "")
    assert len(read("all.jsonl")) == 4


def test_wrong_settings_and_servers_are_named(call, chat, write, server):
    write("in.jsonl", chat("a"))
    for argv, message in (
        (("--semantic", "0.9"), "needs --embeddings"),
        (("--semantic", "0.9", "--embeddings", "m", "--base-url", "nowhere"), "must look like http"),
        (
            ("--semantic", "0.9", "--embeddings", "m", "--base-url", "https://api.openai.com/v1", "--api-key-env", "NO_SUCH_KEY"),
            "NO_SUCH_KEY",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            call("dedup", "in.jsonl", "out.jsonl", *argv)
    with pytest.raises(RefusedError, match="HTTP 404"):
        call("dedup", "in.jsonl", "out.jsonl", "--semantic", "0.9", "--embeddings", "m", "--base-url", f"{server.url}/other")


def test_vectors_on_file_are_not_asked_for_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "BATCH_TEXTS", 4)
    config = EmbeddingsConfig(model="mock", base_url=server.url)
    record, texts = tmp_path / "v", [f"{number}번째 문장이다 오늘 아침" for number in range(10)]

    whole = embeddings.embed_texts(texts, config, record)
    kept = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(kept[:6]) + kept[6][:20])
    server.asked.clear()
    again = embeddings.embed_texts(texts, config, record)

    assert np.array_equal(whole, again)
    assert sum(len(body["input"]) for body in server.asked) == 4
    assert np.allclose(np.linalg.norm(whole, axis=1), 1)
    assert len(embeddings.embed_texts(texts, config, record)) == 10
    assert sum(len(body["input"]) for body in server.asked) == 4


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=40), st.floats(0.5, 1))
def test_no_kept_row_is_similar_to_an_earlier_kept_one(raw, similarity):
    matrix = np.asarray(raw, np.float32) + 0.01
    vectors = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)

    copies = find_similar(vectors, similarity)

    kept = [number for number in range(len(vectors)) if number not in copies]
    assert 0 in kept
    assert all(original in kept and original < number for number, (original, _) in copies.items())
    assert all(vectors[a] @ vectors[b] < similarity for a in kept for b in kept if a < b)
