"""`rplab data import-chats` and `export`: chat files of other tools -> `{messages}` rows and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rplab.dataset.chat_formats import from_chatml, from_messages, from_sharegpt, to_chatml, to_sharegpt
from rplab.dataset.counts import RowCounts
from rplab.dataset.sillytavern import from_chat, is_header, is_line, to_chat
from rplab.errors import ConfigError, DataError
from rplab.jsonl import dumps, parse_row, read_rows, write_rows, write_text
from rplab.text.quotes import is_visible

FORMATS = ("sharegpt", "messages", "chatml", "sillytavern")
_READERS: dict[str, Callable[[Mapping[str, Any]], list[dict[str, str]]]] = {
    "sharegpt": from_sharegpt,
    "messages": from_messages,
    "chatml": from_chatml,
}
_KEYS = {"sharegpt": ("conversations", "conversation", "system"), "messages": ("messages",), "chatml": ("text",)}


def detect_format(row: Mapping[str, Any]) -> str | None:
    """Return which format a row is of, by its keys; None when no known one."""
    if "messages" in row:
        return "messages"
    if "conversations" in row or "conversation" in row:
        return "sharegpt"
    if is_header(row) or is_line(row):
        return "sillytavern"
    text = row.get("text")
    return "chatml" if isinstance(text, str) and "<|im_start|>" in text else None


def import_chats(source: Path, target: Path, wanted: str = "auto") -> RowCounts:
    """Turn a chat file into `{messages}` rows; `target` is replaced only when the file could be read to its end.

    Args:
        source: JSON lines, a JSON array, or a folder of SillyTavern chats (`*.jsonl`).
        target: The `{messages}` file.
        wanted: One of `FORMATS`, or `auto`.

    Raises:
        DataError: Broken JSON (file and line), or nothing of a known format.
    """
    counts = RowCounts()
    files = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
    if not files:
        raise DataError("no *.jsonl chats in this folder", file=source, remedy="Name the folder of one character's chats")
    write_text(target, (dumps(row) + "\n" for path in files for row in _rows_of(path, wanted, counts)))
    return counts


def _rows_of(path: Path, wanted: str, counts: RowCounts) -> Iterator[dict[str, Any]]:
    rows = _read(path)
    found = wanted if wanted != "auto" else next((name for _, row in rows[:1] if (name := detect_format(row))), None)
    if found is None:
        raise DataError(
            "no chat format that is known" if rows else "an empty file",
            file=path,
            remedy=f"Name it: --format {'|'.join(FORMATS)}",
        )
    if found == "sillytavern":
        counts.rows += 1
        yield from _keep(from_chat(rows, path, counts), path, rows[0][0], counts)
        return
    for line, row in rows:
        counts.rows += 1
        try:
            messages = _READERS[found](row)
        except DataError as error:
            counts.drop("not_readable", path, line, str(error))
            continue
        yield from _keep(_with_meta(row, found, messages), path, line, counts)


def _with_meta(row: Mapping[str, Any], found: str, messages: list[dict[str, str]]) -> dict[str, Any]:
    """Carry the other columns in `meta`."""
    others = {key: value for key, value in row.items() if key not in (*_KEYS[found], "meta")}
    meta = row.get("meta")
    carried = {**meta, **others} if isinstance(meta, dict) else others
    return {"messages": messages, **({"meta": carried} if carried else {})}


def _keep(row: dict[str, Any], path: Path, line: int, counts: RowCounts) -> Iterator[dict[str, Any]]:
    visible = [message for message in row["messages"] if is_visible(message["content"])]
    counts.notes["empty_turns"] += len(row["messages"]) - len(visible)
    if not any(message["role"] == "assistant" for message in visible):
        counts.drop("no_reply", path, line)
        return
    counts.kept += 1
    yield {**row, "messages": visible}


def _read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read JSON lines, or one JSON array (numbered by its items)."""
    try:
        with path.open("rb") as handle:
            start = handle.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        start = b""
    if not start.startswith(b"["):
        return list(read_rows(path))
    try:
        items: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a JSON array ({str(error)[:120]})", file=path, remedy="Export the file again") from None
    return [(number, parse_row(json.dumps(item), path, number)) for number, item in enumerate(items, start=1)]


def export_chats(source: Path, target: Path, wanted: str) -> RowCounts:
    """Write `{messages}` rows in another tool's form.

    Args:
        source: `{messages}` rows.
        target: The file; for `sillytavern` with several rows a folder that gets one numbered file a chat.
        wanted: One of `FORMATS`.

    Raises:
        DataError: A broken row (file and line).
        ConfigError: Several SillyTavern chats, and `target` looks like one file.
    """
    counts = RowCounts()
    rows = list(_checked(source, counts))
    if wanted == "sillytavern":
        _write_chats(rows, target)
    else:
        write_text(target, (dumps(_converted(row, wanted, source, line)) + "\n" for line, row in rows))
    return counts


def _checked(source: Path, counts: RowCounts) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, row in read_rows(source):
        counts.rows += 1
        try:
            messages = from_messages(row)
        except DataError as error:
            raise DataError(str(error), file=source, line=line, remedy="Export a {messages} file") from None
        counts.kept += 1
        yield line, {**row, "messages": messages}


def _converted(row: Mapping[str, Any], wanted: str, source: Path, line: int) -> dict[str, Any]:
    others = {key: value for key, value in row.items() if key != "messages"}
    if wanted == "messages":
        return dict(row)
    if wanted == "sharegpt":
        return {"conversations": to_sharegpt(row["messages"]), **others}
    try:
        return {"text": to_chatml(row["messages"]), **others}
    except DataError as error:
        raise DataError(str(error), file=source, line=line) from None


def _write_chats(rows: Sequence[tuple[int, Mapping[str, Any]]], target: Path) -> None:
    if len(rows) == 1 and target.suffix == ".jsonl":
        write_rows(target, to_chat(rows[0][1]))
        return
    if target.suffix:
        raise ConfigError(f"{target}: {len(rows)} chats do not go into one SillyTavern file. Name a folder")
    width = max(4, len(str(len(rows))))
    for number, (_, row) in enumerate(rows, start=1):
        write_rows(target / f"{number:0{width}}.jsonl", to_chat(row))
