"""The canonical rows: every conversation once, with all that is known about it, in parquet with a fixed schema.

Free-form metadata is one JSON string, so that no reader has to guess types from data (rows with null, then text, break
`datasets.load_dataset` otherwise). Equal rows give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rplab.dataset.items import Item, Side
from rplab.jsonl import canonical

SCHEMA_VERSION = 1
FILE = "rows.parquet"

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("schema_version", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("scenario", pa.string(), nullable=False),
        pa.field("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), nullable=False),
        pa.field("translations", pa.list_(pa.struct([("ko", pa.string()), ("ja", pa.string())])), nullable=False),
        pa.field("protagonist", pa.string(), nullable=False),
        pa.field("player", pa.string(), nullable=False),
        pa.field("register", pa.string(), nullable=False),
        pa.field("genre", pa.string(), nullable=False),
        pa.field("pack", pa.string(), nullable=False),
        pa.field("backend", pa.string(), nullable=False),
        pa.field("speech_level", pa.string(), nullable=False),
        pa.field("num_exchanges", pa.int32(), nullable=False),
        pa.field("near_duplicate_of", pa.string()),
        pa.field("meta", pa.string(), nullable=False),
    ]
)


def write_canonical(
    path: Path,
    items: Sequence[Item],
    sides: Mapping[str, tuple[Side, str]],
    levels: Mapping[str, str],
    copies: Mapping[str, str],
) -> None:
    """Write the canonical rows.

    Args:
        path: Target.
        items: The conversations.
        sides: Item id -> (side, scenario group).
        levels: Item id -> measured speech level of the protagonist.
        copies: Item id -> id of the earlier item that it nearly equals.
    """
    rows = [_row(item, sides[item.id], levels[item.id], copies.get(item.id)) for item in items]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", use_dictionary=True, write_statistics=True)


def _row(item: Item, side: tuple[Side, str], level: str, copy_of: str | None) -> dict[str, Any]:
    return {
        "id": item.id,
        "schema_version": SCHEMA_VERSION,
        "kind": item.kind.value,
        "split": side[0],
        "scenario": side[1],
        "messages": item.messages,
        "translations": [{"ko": pair.korean, "ja": pair.japanese} for pair in item.pairs],
        "protagonist": item.protagonist,
        "player": item.player,
        "register": item.field("register"),
        "genre": item.field("genre"),
        "pack": item.field("pack"),
        "backend": item.field("backend"),
        "speech_level": level,
        "num_exchanges": len(item.turns("assistant")),
        "near_duplicate_of": copy_of,
        "meta": canonical(dict(item.meta)),
    }
