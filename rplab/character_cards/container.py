"""The files that hold a character card: JSON, PNG with a tEXt chunk (`ccv3` before `chara`), .charx (zip).

A card is untrusted input. Nothing of it is executed; sizes, nesting, chunk lengths and checksums are checked before a byte
is used; of a zip only `card.json` is read, and never more of it than the limit.
Format: "Character Card V3" specification (kwaroran/character-card-spec-v3, CC0) and the PNG specification (W3C, 2003).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rplab.errors import DataError
from rplab.jsonl import storage_error

MAX_FILE_BYTES = 32 * 2**20
MAX_CARD_BYTES = 2 * 2**20
"""Of the JSON inside."""
MAX_DEPTH = 32
MAX_VALUES = 50_000
"""Objects, lists, texts and numbers in a card."""

_PNG = b"\x89PNG\r\n\x1a\n"
_KEYWORDS = ("ccv3", "chara")


def read_card_file(path: Path) -> dict[str, Any]:
    """Return the JSON object of a card file, whatever its container.

    Raises:
        DataError: No such file, too large, damaged, or no card in it.
    """
    data = _read_limited(path)
    if data.startswith(_PNG):
        return parse_card_json(_card_in_png(data, path), path)
    if data.startswith(b"PK\x03\x04"):
        return parse_card_json(_card_in_zip(path), path)
    return parse_card_json(data, path)


def _read_limited(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="Check the path") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", file=path, remedy="Name a .json, .png or .charx file") from None
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"larger than {MAX_FILE_BYTES // 2**20} MiB", file=path, remedy="A card is smaller; check the file")
    return data


def parse_card_json(data: bytes, path: Path) -> dict[str, Any]:
    """Parse the JSON of a card within the limits on size, nesting and number of values.

    Raises:
        DataError: Not UTF-8, not JSON, no object, or beyond a limit.
    """
    if len(data) > MAX_CARD_BYTES:
        raise DataError(f"the card is larger than {MAX_CARD_BYTES // 2**20} MiB", file=path, remedy="Take its lorebook apart")
    try:
        text = data.decode("utf-8-sig")
        card: Any = json.loads(text, parse_constant=_refuse_number, parse_float=_finite, parse_int=_whole)
        text.encode()
        json.dumps(card, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        what = "JSON nested too deeply" if isinstance(error, RecursionError) else f"not UTF-8 JSON ({str(error)[:120]})"
        raise DataError(what, file=path, remedy="Export the card again") from None
    if not isinstance(card, dict):
        raise DataError("not a character card (its JSON is no object)", file=path, remedy="Export the card again")
    _check_shape(card, path)
    return card


def _refuse_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number is too large")
    return int(text)


def _check_shape(card: dict[str, Any], path: Path) -> None:
    level: list[Any] = [card]
    values = 0
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            inner += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        values += len(level)
        if values > MAX_VALUES:
            raise DataError(f"more than {MAX_VALUES} values", file=path, remedy="Take the card's lorebook apart")
        if not inner:
            return
        level = inner
    raise DataError(f"JSON nested more than {MAX_DEPTH} deep", file=path, remedy="Export the card again")


def _chunks(data: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, body) of every chunk up to IEND, checksums checked."""
    at = len(_PNG)
    while True:
        if at + 12 > len(data):
            raise DataError("the PNG ends in the middle of a chunk", file=path, remedy="Download or export it again")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise DataError(f"the PNG ends in the middle of a {kind!r} chunk", file=path, remedy="Download or export it again")
        body = data[at + 8 : end - 4]
        if zlib.crc32(kind + body) != struct.unpack_from(">I", data, end - 4)[0]:
            raise DataError(f"the checksum of a {kind!r} chunk of the PNG does not fit", file=path, remedy="Download or export it again")
        yield kind, body
        if kind == b"IEND":
            return
        at = end


def _card_in_png(data: bytes, path: Path) -> bytes:
    found: dict[str, bytes] = {}
    for kind, body in _chunks(data, path):
        if kind == b"tEXt":
            keyword, _, text = body.partition(b"\0")
            name = keyword.decode("latin-1").lower()
            if name in _KEYWORDS:
                found.setdefault(name, text)
    for name in _KEYWORDS:
        if name not in found:
            continue
        if len(found[name]) > MAX_CARD_BYTES * 4 // 3 + 4:
            raise DataError(f"the card is larger than {MAX_CARD_BYTES // 2**20} MiB", file=path, remedy="Take its lorebook apart")
        try:
            return base64.b64decode(found[name].strip(), validate=True)
        except binascii.Error as error:
            raise DataError(f"the {name} chunk is not base64 ({error})", file=path, remedy="Download or export it again") from None
    raise DataError(
        "a picture without a card (no tEXt chunk ccv3 or chara)", file=path, remedy="Many sites strip it; export the card again"
    )


def _card_in_zip(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("card.json") as handle:
            return handle.read(MAX_CARD_BYTES + 1)
    except KeyError:
        raise DataError("no card.json in this archive", file=path, remedy="Name a .charx file") from None
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"a damaged or encrypted archive ({error})", file=path, remedy="Export it again") from None


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically.

    Raises:
        StorageError: The disk is full or the folder cannot be written; `path` is unchanged then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, path) from error


def png_with_card(cards: dict[str, bytes], picture: Path | None = None) -> bytes:
    """Return a PNG that holds cards.

    Args:
        cards: Keyword (`chara`, `ccv3`) -> JSON.
        picture: PNG to put them into (cards already in it are replaced); None: a plain one is drawn.

    Raises:
        DataError: The picture is no PNG or damaged.
    """
    if picture is None:
        chunks = list(_plain_picture())
    else:
        data = _read_limited(picture)
        if not data.startswith(_PNG):
            raise DataError("not a PNG", file=picture, remedy="Convert the picture to PNG first")
        chunks = [(kind, body) for kind, body in _chunks(data, picture) if not _is_card(kind, body)]
    texts = [(b"tEXt", keyword.encode() + b"\0" + base64.b64encode(card)) for keyword, card in cards.items()]
    return _PNG + b"".join(_chunk(kind, body) for kind, body in [*chunks[:-1], *texts, chunks[-1]])


def _is_card(kind: bytes, body: bytes) -> bool:
    return kind in (b"tEXt", b"zTXt", b"iTXt") and body.partition(b"\0")[0].decode("latin-1").lower() in _KEYWORDS


def _plain_picture(width: int = 256, height: int = 384) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of an upright picture with a soft vertical gradient (8-bit RGB)."""
    rows = b"".join(b"\0" + bytes((60 + y // 6, 72 + y // 5, 110 + y // 4)) * width for y in range(height))
    yield b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    yield b"IDAT", zlib.compress(rows, 9)
    yield b"IEND", b""


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
