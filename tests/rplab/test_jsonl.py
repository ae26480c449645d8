"""Reading says where it hurts; writing is all or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rplab.errors import DataError, StorageError
from rplab.jsonl import read_rows, write_rows, write_text

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@given(rows=st.lists(st.dictionaries(st.text(), json_values), max_size=5))
def test_what_is_written_is_read_back(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"

    write_rows(path, rows)

    assert [row for _, row in read_rows(path)] == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\n{"a": \n', r"rows\.jsonl:3: not valid JSON"),
        (b'{"a": 1}\n[1, 2]\n', r"rows\.jsonl:2: a JSON object is needed, this is a list"),
        (b'{"a": "\xff"}\n', r"rows\.jsonl:1: not UTF-8"),
        (b"[" * 100_000 + b"\n", r"rows\.jsonl:1: "),
    ],
)
def test_bad_line_is_named_with_file_and_number(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)

    with pytest.raises(DataError, match=message) as caught:
        list(read_rows(path))

    assert caught.value.exit_code == 2


def test_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('\ufeff{"a": 1}\n   \n{"a": 2}'.encode())

    assert list(read_rows(path)) == [(1, {"a": 1}), (3, {"a": 2})]


def test_error_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("old")

    def rows():
        yield {"a": 1}
        raise DataError("broken")

    with pytest.raises(DataError):
        write_rows(path, rows())

    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["rows.jsonl"]


def test_full_device_is_a_storage_error_and_the_device_survives():
    from pathlib import Path

    with pytest.raises(StorageError, match="disk is full"):
        write_text(Path("/dev/full"), "x" * 100_000)

    assert Path("/dev/full").is_char_device()
