"""The 112 phone symbols, tones and language ids of the Style-Bert-VITS2 JP-Extra family.

The order is part of every checkpoint: row `i` of `enc_p.emb.weight` belongs to `SYMBOLS[i]`. Japanese uses 44 of the
symbols; the others belong to the family's Chinese and English tables and are kept so that official weights load.
Source: the symbol table of the family's published configs (spec/tts.md, section B).
"""

from __future__ import annotations

PAD = "_"
"""Silence at both ends, and the blank between phones."""
PUNCTUATION = ("!", "?", "…", ",", ".", "'", "-")
"""Marks that are phones of their own: pauses and intonation."""
UNKNOWN = "UNK"

_TABLE = (
    "_ AA E EE En N OO V a a: aa ae ah ai an ang ao aw ay b by c ch d dh dy e e: eh ei en eng er ey f g gy h hh hy i i0 i: "
    "ia ian iang iao ie ih in ing iong ir iu iy j jh k ky l m my n ng ny o o: ong ou ow oy p py q r ry s sh t th ts ty u u: "
    "ua uai uan uang uh ui un uo uw v van ve vn w x y z zh zy ! ? … , . ' - SP UNK"
)
SYMBOLS: tuple[str, ...] = tuple(_TABLE.split(" "))
SYMBOL_IDS: dict[str, int] = {symbol: index for index, symbol in enumerate(SYMBOLS)}

JAPANESE_TONE_OFFSET = 6
"""Low (0) and high (1) of Japanese are rows 6 and 7 of the tone table; 0 to 5 are Chinese."""
NUM_TONES = 12
JAPANESE_ID = 1
NUM_LANGUAGES = 3
BERT_CHANNELS = 1024
STYLE_CHANNELS = 256
