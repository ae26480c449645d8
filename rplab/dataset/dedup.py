"""`rplab data dedup`: equal rows, near copies (MinHash) and, with an embeddings endpoint, rows that say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rplab.backend.config import EmbeddingsConfig
from rplab.backend.embeddings import embed_texts
from rplab.dataset.counts import RowCounts
from rplab.dataset.near_duplicates import find_near_duplicates
from rplab.dataset.semantic_duplicates import find_similar
from rplab.errors import DataError
from rplab.jsonl import canonical, read_rows, write_rows


def dedup_file(
    source: Path,
    target: Path,
    *,
    near: float | None = 0.85,
    semantic: float | None = None,
    embeddings: EmbeddingsConfig | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> RowCounts:
    """Keep the first of rows that are the same; what is left out goes to `<target>.duplicates.jsonl` with its original.

    Args:
        source: JSON lines: `{messages}` rows are compared by their turns (system texts left away), others as a whole.
        target: The rows kept, in order.
        near: Jaccard similarity of character 3-grams from which rows are near copies; None: not looked at.
        semantic: Cosine from which rows say the same; needs `embeddings`.
        embeddings: The endpoint.
        report: Receives texts embedded and all texts.

    Raises:
        DataError: A broken line, or no rows.
        BackendError: The endpoint does not answer; the vectors so far are kept beside the target.
    """
    counts = RowCounts()
    rows = list(read_rows(source))
    if not rows:
        raise DataError("holds no rows", file=source, remedy="Name a JSON-lines file")
    counts.rows = len(rows)
    left_out: list[dict[str, Any]] = []

    def drop(places: Mapping[int, tuple[int, float]], reason: str) -> None:
        nonlocal rows
        for at, (original, similarity) in places.items():
            line, row = rows[at]
            counts.drop(reason, source, line, f"like line {rows[original][0]}")
            left_out.append({"line": line, "like_line": rows[original][0], "reason": reason, "similarity": similarity, "row": row})
        rows = [item for at, item in enumerate(rows) if at not in places]

    drop(_equal([row for _, row in rows]), "equal")
    if near is not None:
        found = find_near_duplicates([text_of(row) for _, row in rows], near)
        drop({copy: (original, near) for copy, original in found.items()}, "near_copy")
    record = target.with_name(f".{target.name}.embeddings")
    if semantic is not None and embeddings is not None:
        vectors = embed_texts([text_of(row) for _, row in rows], embeddings, record, report=report)
        drop(find_similar(vectors, semantic), "same_meaning")
    counts.kept = len(rows)
    left_out.sort(key=lambda item: item["line"])
    counts.dropped_rows.sort(key=lambda item: item["line"])
    write_rows(target.with_name(f"{target.stem}.duplicates.jsonl"), left_out)
    write_rows(target, (row for _, row in rows))
    record.unlink(missing_ok=True)
    return counts


def _equal(rows: Sequence[Mapping[str, Any]]) -> dict[int, tuple[int, float]]:
    first: dict[str, int] = {}
    copies: dict[int, tuple[int, float]] = {}
    for at, row in enumerate(rows):
        key = canonical(row["messages"]) if isinstance(row.get("messages"), list) else canonical(row)
        if key in first:
            copies[at] = (first[key], 1.0)
        else:
            first[key] = at
    return copies


def text_of(row: Mapping[str, Any]) -> str:
    """Return what is compared: the turns of a conversation without system texts, or all texts of another row."""
    messages = row.get("messages")
    if isinstance(messages, list):
        turns = [item for item in messages if isinstance(item, dict) and item.get("role") != "system"]
        return "\n".join(str(item.get("content", "")) for item in turns)
    return "\n".join(value for value in row.values() if isinstance(value, str)) or canonical(row)
