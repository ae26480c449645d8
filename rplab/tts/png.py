"""PNG pictures from arrays with the standard library: icons and mel pictures, where a plotting package would be a burden."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG file.

    Args:
        pixels: (height, width) grey or (height, width, 3) RGB.
    """
    height, width = pixels.shape[:2]
    colour_type = 0 if pixels.ndim == 2 else 2
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()  # each row begins with its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw, 6)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_RAMP: NDArray[np.float64] = np.array(
    [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]], dtype=np.float64
)
"""Dark to bright, six stops."""


def paint(values: NDArray[np.floating[Any]], *, low: float, high: float) -> NDArray[np.uint8]:
    """Return (height, width, 3) colours of values from `low` (dark) to `high` (bright); the first row becomes the lowest line."""
    place = np.clip((values[::-1].astype(np.float64) - low) / (high - low), 0.0, 1.0) * (len(_RAMP) - 1)
    stops = np.arange(len(_RAMP))
    return np.stack([np.interp(place, stops, _RAMP[:, channel]) for channel in range(3)], axis=-1).astype(np.uint8)
