"""Readings and accents that the built-in dictionary gets wrong: names, coined words.

A user dictionary is a CSV file, one word a line: `surface,reading,accent`. The reading is katakana as it is spoken
(ー for long vowels), the accent the number of the last high mora, 0 for none. `#` starts a comment.

    紗夜,サヤ,1
    RPラボ,アールピーラボ,5

The dictionary belongs to the process (pyopenjtalk keeps one analyser), so applying one replaces the one before.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import logging
import re
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.errors import AudioError, DataError
from rplab.jsonl import write_text

logger = logging.getLogger(__name__)

_READING = re.compile(r"[ァ-ヴー]+")
_SMALL = frozenset("ァィゥェォャュョヮ")
_COST = 1
"""Lower than the cost of any built-in word, so that the user's wins."""


@dataclass(frozen=True)
class DictionaryEntry:
    """One word."""

    surface: str
    reading: str
    """Katakana as spoken."""
    accent: int
    """Number of the last high mora; 0 = flat."""

    @property
    def num_moras(self) -> int:
        """Moras of the reading."""
        return sum(character not in _SMALL for character in self.reading)


def read_dictionary(path: Path) -> list[DictionaryEntry]:
    """Read a user dictionary.

    Raises:
        DataError: No such file, not UTF-8, or a line that is no `surface,reading,accent`; names the line.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="Check the path of the user dictionary") from None
    except UnicodeDecodeError:
        raise DataError("not UTF-8", file=path, remedy="Save the dictionary as UTF-8") from None
    entries: list[DictionaryEntry] = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            entries.append(_parse(next(csv.reader([line])), path, number))
    return entries


def _parse(cells: list[str], path: Path, number: int) -> DictionaryEntry:
    cells = [cell.strip() for cell in cells]
    if len(cells) not in (2, 3) or not cells[0]:
        raise DataError("a line must be surface,reading,accent", file=path, line=number, remedy="Example: 紗夜,サヤ,1")
    surface, reading = (unicodedata.normalize("NFKC", cell) for cell in cells[:2])
    reading = "".join(chr(ord(c) + 96) if "ぁ" <= c <= "ゖ" else c for c in reading)
    if not _READING.fullmatch(reading):
        raise DataError(f"the reading {cells[1]!r} is not kana", file=path, line=number, remedy="Write it as spoken, in katakana")
    accent = cells[2] if len(cells) == 3 and cells[2] else "0"
    entry = DictionaryEntry(surface, reading, int(accent) if accent.isdecimal() else -1)
    if not 0 <= entry.accent <= entry.num_moras:
        raise DataError(
            f"the accent {accent!r} is not 0..{entry.num_moras}",
            file=path,
            line=number,
            remedy="Give the number of the last high mora, or 0",
        )
    return entry


def apply_dictionary(entries: Sequence[DictionaryEntry]) -> None:
    """Compile `entries` and make every later reading of this process use them; an empty list restores the built-in one.

    Raises:
        AudioError: pyopenjtalk-plus is missing, or does not take the entries.
    """
    try:
        talk: Any = importlib.import_module("pyopenjtalk")
    except ImportError as error:
        raise AudioError(f"a user dictionary needs pyopenjtalk-plus ({error}). Install it: pip install 'rplab[voice]'") from error
    if not entries:
        talk.unset_user_dict()
        return
    rows = "".join(_row(entry) for entry in entries)
    name = hashlib.blake2b(rows.encode(), digest_size=8).hexdigest()
    with tempfile.TemporaryDirectory(prefix="rplab-dict-") as folder:  # pyopenjtalk maps the file, so it may go afterwards
        source, compiled = Path(folder) / f"{name}.csv", Path(folder) / f"{name}.dic"
        write_text(source, rows)
        try:
            talk.mecab_dict_index(str(source), str(compiled))
            talk.update_global_jtalk_with_user_dict([{"dic_path": str(compiled), "is_reading_protected": True}])
        except (RuntimeError, ValueError, OSError) as error:
            raise AudioError(f"the user dictionary of {len(entries)} words was refused: {error}") from error
    logger.info("user dictionary: %d words", len(entries))


def _row(entry: DictionaryEntry) -> str:
    surface = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in entry.surface)
    accent = f"{entry.accent}/{entry.num_moras}"
    return f"{surface},,,{_COST},名詞,固有名詞,一般,*,*,*,{surface},{entry.reading},{entry.reading},{accent},*\n"
