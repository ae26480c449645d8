"""The journal: nothing that was used is lost, nothing that is damaged is used."""

import json
import logging

import pytest

from rplab.backend.base import ChatRequest, ChatResult, Sampling, Usage
from rplab.dialogue.journal import Journal, request_hash
from rplab.errors import StorageError


def _result(index):
    return ChatResult(f"k{index}", f'사야는 {index}번 웃는다.\n"그래."', usage=Usage(3, index), japanese="うん。")


def _filled(path, count=5):
    with Journal(path) as journal:
        for index in range(count):
            journal.put(f"h{index}", _result(index))
    return path


def test_what_was_put_is_found_again(tmp_path):
    path = _filled(tmp_path / "deep" / "j")

    with Journal(path) as journal:
        assert [journal.get(f"h{index}") for index in range(5)] == [_result(index) for index in range(5)]
        assert journal.get("other") is None


def test_an_answer_is_on_file_before_put_returns(tmp_path):
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.put("h", _result(1))

        assert json.loads(path.read_text(encoding="utf-8")[9:])[0] == "h"


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path, caplog, cut):
    path = _filled(tmp_path / "j")
    data = path.read_bytes()
    path.write_bytes(data[:-cut])

    with caplog.at_level(logging.WARNING), Journal(path) as journal:
        assert [journal.get(f"h{index}") is not None for index in range(5)] == [True] * 4 + [False]
        journal.put("h4", _result(4))
    assert "torn last line" in caplog.text
    assert path.read_bytes() == data


def test_a_flipped_byte_drops_that_entry_only(tmp_path, caplog):
    path = _filled(tmp_path / "j")
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:30] + bytes([lines[2][30] ^ 1]) + lines[2][31:]
    path.write_bytes(b"\n".join(lines))

    with caplog.at_level(logging.WARNING), Journal(path) as journal:
        assert [journal.get(f"h{index}") is not None for index in range(5)] == [True, True, False, True, True]
    assert f"{path}:3: damaged" in caplog.text


def test_a_flipped_line_break_drops_two_entries_at_most(tmp_path):
    path = _filled(tmp_path / "j")
    data = bytearray(path.read_bytes())
    data[data.index(b"\n")] ^= 1
    path.write_bytes(bytes(data))

    with Journal(path) as journal:
        assert [journal.get(f"h{index}") is not None for index in range(5)] == [False, False, True, True, True]


def test_two_processes_cannot_share_a_journal(tmp_path):
    path = tmp_path / "j"
    with Journal(path), pytest.raises(StorageError, match="another process is writing"):
        Journal(path)


def test_an_unwritable_place_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(StorageError):
        Journal(tmp_path / "file" / "j")


def test_hash_depends_on_everything_that_is_asked():
    def request(**changes):
        base = {"key": "k", "messages": ({"role": "user", "content": "안녕"},), "seed": 1, "sampling": Sampling()}
        return ChatRequest(**{**base, **changes})

    variants = [
        request_hash(request(), "scripted/1"),
        request_hash(request(), "other/1"),
        request_hash(request(key="k2"), "scripted/1"),
        request_hash(request(seed=2), "scripted/1"),
        request_hash(request(messages=({"role": "user", "content": "잘 가"},)), "scripted/1"),
        request_hash(request(sampling=Sampling(temperature=0.1)), "scripted/1"),
        request_hash(request(schema={}), "scripted/1"),
    ]

    assert len(set(variants)) == len(variants)
    assert request_hash(request(), "scripted/1") == variants[0]
