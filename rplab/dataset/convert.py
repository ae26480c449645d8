"""Single-turn generator rows -> `{messages}` rows.

`{system, user, assistant_raw, scene, ...}` (or `assistant` instead of `assistant_raw`) becomes
`{"messages": [system, user, assistant]}`. Texts are not changed. What else the row holds (scene with its Japanese
side, ids, metadata) is carried in `meta`; a scene that only repeats the speaker says nothing new and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rplab.dataset.counts import RowCounts, read_lines
from rplab.errors import DataError
from rplab.jsonl import canonical, dumps, parse_row, write_text
from rplab.text.quotes import is_visible

_TEXT_KEYS = ("system", "user")
_REPLY_KEYS = ("assistant_raw", "assistant")
_REMEDY = (
    "Each row needs system, user and assistant_raw as text; repair or delete this line, or set such lines aside with --quarantine FILE"
)


def convert_row(row: Mapping[str, Any], file: Path | None = None, line: int | None = None) -> dict[str, Any]:
    """Convert one row.

    Raises:
        DataError: system, user or the reply is missing, blank, or no text.
    """
    reply_key = next((key for key in _REPLY_KEYS if key in row), _REPLY_KEYS[0])
    contents: list[str] = []
    for key in (*_TEXT_KEYS, reply_key):
        value = row.get(key)
        if value is None:
            problem = "is missing"
        elif not isinstance(value, str):
            problem = f"must be text, not {type(value).__name__}"
        elif not is_visible(value):
            problem = "is empty"
        else:
            contents.append(value)
            continue
        raise DataError(
            f"{key!r} {problem}",
            file=file,
            line=line,
            remedy=_REMEDY,
        )
    roles = ("system", "user", "assistant")
    converted: dict[str, Any] = {"messages": [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]}
    if meta := _carried(row, reply_key):
        converted["meta"] = meta
    return converted


def _carried(row: Mapping[str, Any], reply_key: str) -> dict[str, Any]:
    """Return what the messages do not hold: the row's own `meta`, its scene and every other field."""
    others = {key: value for key, value in row.items() if key not in (*_TEXT_KEYS, reply_key, "meta", "scene")}
    meta = row.get("meta")
    carried: dict[str, Any] = {**meta, **others} if isinstance(meta, dict) else {**({"meta": meta} if meta is not None else {}), **others}
    scene = row.get("scene")
    if scene and not (isinstance(scene, dict) and set(scene) <= {"speaker"} and not carried):
        carried["scene"] = scene
    return carried


def convert_file(source: Path, target: Path, *, quarantine: Path | None = None, drop_duplicates: bool = False) -> RowCounts:
    """Convert a file; `target` is replaced only when the whole file was read.

    Args:
        source: Rows of the single-turn generator.
        target: The `{messages}` file.
        quarantine: Where unusable lines go, each with file, line and reason; None: the first one is an error.
        drop_duplicates: Keep only the first of equal rows.

    Raises:
        DataError: A broken line, when no quarantine is given.
    """
    counts = RowCounts()
    aside: list[str] = []
    seen: set[str] = set()

    def lines() -> Iterator[str]:
        for number, result, raw in _convert_lines(source):
            counts.rows += 1
            if isinstance(result, DataError):
                if quarantine is None:
                    raise result
                counts.drop("quarantined", source, number, str(result))
                aside.append(dumps({"file": str(source), "line": number, "reason": str(result), "text": raw}) + "\n")
                continue
            key = canonical(result["messages"])
            if drop_duplicates and key in seen:
                counts.drop("duplicate", source, number)
                continue
            seen.add(key)
            counts.kept += 1
            yield dumps(result) + "\n"

    write_text(target, lines())
    if quarantine is not None:
        write_text(quarantine, aside)
    return counts


def _convert_lines(source: Path) -> Iterator[tuple[int, dict[str, Any] | DataError, str]]:
    """Yield (line, converted row or what is wrong with it, raw text)."""
    for number, raw in read_lines(source):
        try:
            yield number, convert_row(parse_row(raw, source, number), source, number), raw
        except DataError as error:
            yield number, error, raw
