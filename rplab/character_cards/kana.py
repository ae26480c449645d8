"""Names in Hangul -> katakana, as a start for `name_ja`: the common transcription; the card's owner can correct it."""

from __future__ import annotations

import re
import unicodedata

_INITIALS = ("k", "kk", "n", "t", "tt", "r", "m", "p", "pp", "s", "ss", "", "j", "jj", "ch", "kh", "th", "ph", "h")
_VOWELS = ["a", "e", "ya", "e", "o", "e", "yo", "e", "o", "wa", "we", "we", "yo", "u", "wo", "we", "wi", "yu", "eu", "wi", "i"]
_FINALS = {0: "", 1: "ッ", 2: "ッ", 4: "ン", 7: "ッ", 8: "ル", 16: "ム", 17: "プ", 19: "ッ", 21: "ン"}
_ROWS = {
    "": "アイウエオ",
    "k": "カキクケコ",
    "kk": "カキクケコ",
    "kh": "カキクケコ",
    "n": "ナニヌネノ",
    "t": "タティトゥテト",
    "r": "ラリルレロ",
    "m": "マミムメモ",
    "p": "パピプペポ",
    "s": "サシスセソ",
    "h": "ハヒフヘホ",
}
_SMALL = {"ya": "ャ", "yu": "ュ", "yo": "ョ"}
_PLAIN = dict(zip("aiueo", range(5), strict=True))


def _mora(initial: str, vowel: str) -> str:
    if vowel == "eu":
        if initial in ("j", "jj", "ch", "ss"):
            return "ズ" if initial in ("j", "jj") else "ツ"
        vowel = "u"
    initial = {"tt": "t", "th": "t", "pp": "p", "ph": "p", "ss": "s", "jj": "j"}.get(initial, initial)
    if initial in ("j", "ch"):
        base = "ジ" if initial == "j" else "チ"
        small = {"a": "ャ", "ya": "ャ", "u": "ュ", "yu": "ュ", "o": "ョ", "yo": "ョ", "e": "ェ", "i": ""}
        return base + small.get(vowel, {"wa": "ュワ", "we": "ュェ", "wo": "ュオ", "wi": "ュイ"}.get(vowel, ""))
    row = _row(initial)
    if vowel in _PLAIN:
        return row[_PLAIN[vowel]]
    if vowel in _SMALL:
        return {"ya": "ヤ", "yu": "ユ", "yo": "ヨ"}[vowel] if not initial else row[1] + _SMALL[vowel]
    glide = {"wa": "ワ", "we": "ウェ", "wo": "ウォ", "wi": "ウィ"}[vowel]
    return glide if not initial else row[2] + {"wa": "ァ", "we": "ェ", "wo": "ォ", "wi": "ィ"}[vowel]


def _row(initial: str) -> list[str]:
    return ["タ", "ティ", "トゥ", "テ", "ト"] if initial == "t" else list(_ROWS[initial])


def to_kana(name: str) -> str | None:
    """Return a name in katakana: kana stays, Hangul is transcribed; None for anything else.

    >>> to_kana("사야"), to_kana("카즈키"), to_kana("サヤ"), to_kana("Saya")
    ('サヤ', 'カズキ', 'サヤ', None)
    """
    name = unicodedata.normalize("NFC", name).strip()
    if re.fullmatch(r"[ぁ-ゖァ-ヺー・\s]+", name):
        return name
    if not re.fullmatch(r"[가-힣\s]+", name):
        return None
    return "".join("・" if char.isspace() else _syllable(char) for char in name)


def _syllable(char: str) -> str:
    initial, rest = divmod(ord(char) - 0xAC00, 588)
    vowel, final = divmod(rest, 28)
    return _mora(_INITIALS[initial], _VOWELS[vowel]) + _FINALS.get(final, "ッ")
