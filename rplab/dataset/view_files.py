"""The files of the views: JSON lines for trainers, parquet with a fixed Arrow schema beside them.

The schema is written down, not guessed from rows: an empty side or a column of nulls would otherwise break
`datasets.load_dataset` (huggingface/datasets#7322, #6460).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rplab.dataset.items import SIDES, Side
from rplab.jsonl import write_rows

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_GRPO_META = pa.struct(
    [("item", pa.string()), ("kind", pa.string()), ("scenario", pa.string()), ("genre", pa.string()), ("turn", pa.int32())]
)

SCHEMAS: dict[str, pa.Schema] = {
    "sft1": pa.schema([("messages", _MESSAGES)]),
    "sft2": pa.schema([("messages", _MESSAGES)]),
    "grpo": pa.schema(
        [
            *((name, pa.string()) for name in ("id", "prompt")),
            ("prompt_messages", _MESSAGES),
            *((name, pa.string()) for name in ("reference", "protagonist", "player", "register")),
            ("meta", _GRPO_META),
        ]
    ),
    "translation": pa.schema([(name, pa.string()) for name in ("instruction", "input", "output")]),
    "preference": pa.schema([(name, _MESSAGES) for name in ("prompt", "chosen", "rejected")]),
    "sharegpt": pa.schema([("conversations", pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())])))]),
}
"""View -> columns; every view has one."""


def write_views(folder: Path, views: Mapping[str, Mapping[Side, Sequence[Mapping[str, Any]]]]) -> None:
    """Write `<view>/{train,eval}.jsonl` and `.parquet`.

    Args:
        folder: The `views` folder.
        views: View -> side -> rows.
    """
    for name, sides in views.items():
        for side in SIDES:
            write_rows(folder / name / f"{side}.jsonl", sides[side])
            _write_parquet(folder / name / f"{side}.parquet", sides[side], SCHEMAS[name])


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        if rows:  # an empty row group breaks datasets' reader ("BatchSize must be greater than 0")
            writer.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema))
