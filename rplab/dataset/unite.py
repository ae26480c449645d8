"""Put the rows of several files into one, equal rows once: the step that the predecessor left to hand work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rplab.dataset.counts import RowCounts
from rplab.errors import DataError
from rplab.jsonl import canonical, dumps, read_rows, write_text

_KINDS = {
    "messages": ("messages",),
    "translation": ("instruction", "input", "output"),
    "grpo": ("prompt_messages", "reference"),
    "singleturn": ("system", "user"),
}


def kind_of(row: Mapping[str, Any]) -> str | None:
    """Return which kind of row this is, by its keys."""
    return next((kind for kind, keys in _KINDS.items() if all(key in row for key in keys)), None)


def unite_files(sources: Sequence[Path], target: Path) -> RowCounts:
    """Write the rows of all files, in order, to one file; `target` is replaced only when every line was good.

    Raises:
        DataError: A broken line, a row of no known kind, or files of different kinds.
    """
    counts = RowCounts()
    write_text(target, _united(sources, counts))
    return counts


def _united(sources: Sequence[Path], counts: RowCounts) -> Iterator[str]:
    seen: set[str] = set()
    first: tuple[str, Path] | None = None
    for path in sources:
        for line, row in read_rows(path):
            counts.rows += 1
            kind = kind_of(row)
            if kind is None:
                keys = ", ".join(sorted(row)[:6]) or "no keys"
                remedy = "Rows need messages; or system, user and assistant_raw; or instruction, input and output"
                raise DataError(f"no known kind of row ({keys})", file=path, line=line, remedy=remedy)
            first = first or (kind, path)
            if kind != first[0]:
                raise DataError(
                    f"a {kind} row, but {first[1]} holds {first[0]} rows", file=path, line=line, remedy="Convert one of them first"
                )
            key = canonical(row)
            if key in seen:
                counts.drop("duplicate", path, line)
                continue
            seen.add(key)
            counts.kept += 1
            yield dumps(row) + "\n"
