"""Arabic numbers as Japanese words, as the voice family's training texts write them.

`1,234` -> 千二百三十四, `3.14` -> 三点一四, `-5` -> マイナス五, `007` -> 〇〇七 (a number with leading zeros, or of more than
20 digits, is read digit by digit).
"""

from __future__ import annotations

import re

_DIGITS = "〇一二三四五六七八九"
_SMALL = ("", "十", "百", "千")
_LARGE = ("", "万", "億", "兆", "京")
_MAX_DIGITS = 4 * len(_LARGE)

NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?")
"""A whole or decimal number in ASCII digits, with or without thousands commas."""


def spell_integer(digits: str) -> str:
    """Return the Japanese words of a whole number given as ASCII digits.

    Example:
        >>> spell_integer("20300")
        '二万三百'
    """
    if len(digits) > _MAX_DIGITS or (digits.startswith("0") and len(digits) > 1):
        return "".join(_DIGITS[int(digit)] for digit in digits)
    if digits == "0":
        return "零"
    words = ""
    for index in range((len(digits) - 1) // 4, -1, -1):
        end = len(digits) - 4 * index
        group = int(digits[max(0, end - 4) : end])
        if group:
            words += _spell_group(group, index) + _LARGE[index]
    return words


def _spell_group(group: int, index: int) -> str:
    """Spell 1 to 9999; the one of 一万 and 一千万 is said, that of 千, 百, 十 is not."""
    words = ""
    for power in (3, 2, 1, 0):
        digit = group // 10**power % 10
        if digit == 1 and (power in (1, 2) or (power == 3 and index == 0)):
            words += _SMALL[power]
        elif digit:
            words += _DIGITS[digit] + _SMALL[power]
    return words


def spell_number(number: str) -> str:
    """Return the Japanese words of a number as `NUMBER` matches it.

    Example:
        >>> spell_number("1,234.05")
        '千二百三十四点〇五'
    """
    whole, _, fraction = number.replace(",", "").partition(".")
    words = spell_integer(whole)
    return words + "点" + "".join(_DIGITS[int(digit)] for digit in fraction) if fraction else words
