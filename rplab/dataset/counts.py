"""What happened to rows: every row that does not come out is counted with a reason and its place."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rplab.errors import DataError
from rplab.jsonl import parse_row

logger = logging.getLogger(__name__)

_LISTED = 1000
"""Dropped rows listed one by one; the counts go on."""


@dataclass
class RowCounts:
    """Counts of one run over one or more files."""

    rows: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> number."""
    dropped_rows: list[dict[str, Any]] = field(default_factory=list)
    """Place and reason of the first 1,000."""
    notes: Counter[str] = field(default_factory=Counter)
    """Other things worth knowing, for example `changed`."""

    def drop(self, reason: str, file: Path, line: int, what: str = "") -> None:
        """Count something that does not come out, and log where it stood."""
        self.dropped[reason] += 1
        if len(self.dropped_rows) < _LISTED:
            self.dropped_rows.append({"file": str(file), "line": line, "reason": reason, **({"what": what} if what else {})})
            logger.info("%s:%d: left out: %s%s", file, line, reason, f" ({what})" if what else "")

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            **dict(sorted(self.notes.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "dropped_rows": self.dropped_rows,
        }


def read_lines(source: Path) -> Iterator[tuple[int, str]]:
    """Yield `(line number, text)` of the non-blank lines of a UTF-8 file (a byte-order mark is passed over).

    Raises:
        DataError: No such file, or not UTF-8.
    """
    try:
        handle = source.open("rb")
    except FileNotFoundError:
        raise DataError("no such file", file=source, remedy="Check the path") from None
    except IsADirectoryError:
        raise DataError("is a directory, not a JSON-lines file", file=source, remedy="Name a file") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", file=source, remedy="Check the path and its permissions") from None
    with handle:
        for number, raw in enumerate(handle, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise DataError(f"not UTF-8 (byte {error.start})", file=source, line=number, remedy="Save the file as UTF-8") from None
            if text:
                yield number, text


def read_usable_rows(source: Path, counts: RowCounts, *, strict: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield numbered rows; a line that is no JSON object is counted as `broken_line` and passed over unless `strict`.

    Raises:
        DataError: A broken line, when `strict`.
    """
    for number, text in read_lines(source):
        counts.rows += 1
        try:
            row = parse_row(text, source, number)
        except DataError as error:
            if strict:
                raise
            counts.drop("broken_line", source, number, str(error))
            continue
        yield number, row


def refuse_nothing(counts: RowCounts, wanted: str, files: list[Path]) -> None:
    """Raise `DataError` when broken lines were all that a run found: that is no input, it is a wrong file."""
    if counts.kept or not counts.dropped["broken_line"]:
        return
    first = next(item for item in counts.dropped_rows if item["reason"] == "broken_line")
    place = " and ".join(str(file) for file in files)
    raise DataError(f"{first['what'].rstrip('.')}; no {wanted} was found in {place}")
