"""JSON lines in and out: strict reading with file and line, atomic writing.

Reading never skips a bad line; it raises `DataError` with the line number. Writing goes to a temporary file beside
the target and replaces it only when everything is on disk, so a crash leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rplab.errors import DataError, StorageError

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"


def dumps(value: Any) -> str:
    """Return `value` as one line of UTF-8 JSON with Hangul left readable. Raises ValueError on NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> str:
    """Return the one JSON text that equal values share (sorted keys, no spaces)."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(line number, row)` of a JSON-lines file; blank lines are passed over.

    Raises:
        DataError: No such file, not UTF-8, not JSON, or a line that is no JSON object.
    """
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="Check the path") from None
    except IsADirectoryError:
        raise DataError("is a directory, not a JSON-lines file", file=path) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", file=path, remedy="Check the path and its permissions") from None
    with handle:
        for number, raw in enumerate(handle, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise DataError(f"not UTF-8 (byte {error.start})", file=path, line=number, remedy="Save the file as UTF-8") from None
            if not text:
                continue
            yield number, parse_row(text, path, number)


def parse_row(text: str, path: Path, number: int) -> dict[str, Any]:
    """Parse one line as a JSON object, or raise `DataError` naming file and line."""
    try:
        row = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        what = "JSON nested too deeply" if isinstance(error, RecursionError) else f"not valid JSON ({error})"
        raise DataError(what, file=path, line=number, remedy="Repair or delete this line; nothing was written") from None
    if "\\ud" in text.lower() and not _is_unicode(row):
        raise DataError("half a surrogate pair (\\ud800-\\udfff)", file=path, line=number, remedy="Repair or delete this line")
    if not isinstance(row, dict):
        raise DataError(
            f"a JSON object is needed, this is a {type(row).__name__}",
            file=path,
            line=number,
            remedy='Each line must look like {"...": ...}',
        )
    return row


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _is_unicode(value: Any) -> bool:
    """Return whether every string in `value` can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write `rows` to `path` atomically and return their number.

    Raises:
        StorageError: The disk is full or the folder cannot be written; `path` is unchanged then.
    """
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in rows:
            count += 1
            yield dumps(row) + "\n"

    write_text(path, lines())
    return count


def write_text(path: Path, chunks: Iterable[str] | str) -> None:
    """Replace `path` atomically by the given text (fsync, then rename); a device or pipe is written to directly.

    Raises:
        StorageError: The disk is full or the folder cannot be written; `path` is unchanged then.
    """
    pieces = (chunks,) if isinstance(chunks, str) else chunks
    if path.exists() and not path.is_file():
        _write_device(path, pieces)
        return
    path = Path(os.path.realpath(path))  # a link stays a link, the file behind it is replaced
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as handle:
            handle.writelines(pieces)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _discard(temporary)
        raise storage_error(error, path) from error
    except BaseException:
        _discard(temporary)
        raise


def _write_device(path: Path, pieces: Iterable[str]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="\n") as handle:
            handle.writelines(pieces)
    except OSError as error:
        raise storage_error(error, path) from error


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # what kept us from writing may keep us from deleting, too
        path.unlink(missing_ok=True)


def storage_error(error: OSError, path: Path) -> StorageError:
    """Turn an operating-system error on `path` into a message with a remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(
            f"{path}: the disk is full. Nothing was published; free some space and run the same command again, finished work is kept"
        )
    return StorageError(f"{path}: cannot write ({error.strerror or error}). Check that the folder exists and is writable")
