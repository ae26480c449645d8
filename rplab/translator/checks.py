"""What can be checked about a translation without reading it: script, names, numbers, quotations, politeness. Torch-free."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

from rplab.text.korean import has_hangul, name_pattern
from rplab.text.speech_level import Level, speech_level

_POLITE_JA = re.compile(
    r"(?:です|ます|でした|ました|ません|ませんでした|でしょう|ましょう|ください|下さい|なさい|ございます|いたします|くださいませ)"
    r"(?:か|ね|よ|よね|かね|わ|が|けど|から|ので|の|し|って)?$"
)
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_KANJI_DIGITS = {char: value for value, char in enumerate("〇一二三四五六七八九")}
_KANJI_NUMBER = re.compile(r"[〇一二三四五六七八九十百千万]+")
_QUOTATION = re.compile(r"「[^」]+」|『[^』]+』|“[^”]+”|‘[^’]+’|\"[^\"]+\"|(?<![A-Za-z])'[^']+'|＂[^＂]+＂")
_JA_END = re.compile(r"[\s。！？!?…、~〜ー♪」』）)\"”.]+$")
_JA_SENTENCE = re.compile(r"(?<=[。！？!?…])")


def politeness_of_japanese(text: str) -> bool | None:
    """Return whether the last full sentence of a Japanese line is polite (です/ます); None when there is none.

    Args:
        text: Japanese.
    """
    sentences = [_JA_END.sub("", part.strip()) for part in _JA_SENTENCE.split(text)]
    filled = [sentence for sentence in sentences if sentence]
    return bool(_POLITE_JA.search(filled[-1])) if filled else None


def restore_names(source: str, translation: str, glossary: Mapping[str, str]) -> str:
    """Write Korean names that were left in a translation in kana.

    Args:
        source: Korean; only names that stand in it are touched.
        translation: Japanese, perhaps with Hangul left in it.
        glossary: Korean name -> kana.
    """
    for korean in sorted(glossary, key=len, reverse=True):
        if korean in source:
            translation = translation.replace(korean, glossary[korean])
    return translation


def find_flags(source: str, translation: str, *, finished: bool, glossary: Mapping[str, str]) -> tuple[str, ...]:
    """Name what is wrong with a translation.

    Returns:
        Any of `empty`, `hangul`, `cut` (the model did not stop by itself), `name:<Korean name>` (a name of the glossary stands in the
        source, its kana not in the translation), `number:<digits>` (a number is lost), `quote` (a quotation is no longer one) and
        `politeness` (both sides show a level, and not the same).
    """
    flags = [] if translation.strip() else ["empty"]
    if has_hangul(translation):
        flags.append("hangul")
    if not finished:
        flags.append("cut")
    flags += [f"name:{name}" for name, kana in sorted(glossary.items()) if name_pattern(name).search(source) and kana not in translation]
    if translation.strip():
        flags += [f"number:{number}" for number in lost_numbers(source, translation)]
        flags += ["quote"] if num_quotes(source) > num_quotes(translation) else []
        flags += ["politeness"] if keeps_politeness(source, translation) is False else []
    return tuple(flags)


def keeps_politeness(source: str, translation: str) -> bool | None:
    """Return whether the speech level was carried over; None when one side shows none."""
    levels = politeness_of_korean(source), politeness_of_japanese(translation)
    return None if None in levels else levels[0] is levels[1]


def numbers_of(text: str) -> list[str]:
    """Return the numbers written in digits, in order: full-width ones and thousands separators are normalised.

    >>> numbers_of("전부 4,800엔, ３시 30분")
    ['4800', '3', '30']
    """
    return [match.replace(",", "") for match in _NUMBER.findall(unicodedata.normalize("NFKC", text))]


def lost_numbers(source: str, translation: str) -> list[str]:
    """Return the numbers of the source that the translation has neither in digits nor in kanji."""
    there = Counter(numbers_of(translation) + [str(_kanji_value(match)) for match in _KANJI_NUMBER.findall(translation)])
    return list((Counter(numbers_of(source)) - there).elements())


def _kanji_value(text: str) -> int:
    """Return the value of a Japanese numeral below 10^8: 三十 is 30, 二〇二六 is 2026, 一万二千 is 12000."""
    if not any(unit in text for unit in "十百千万"):
        return int("".join(str(_KANJI_DIGITS[char]) for char in text))
    whole = part = digit = 0
    for char in text:
        if char in _KANJI_DIGITS:
            digit = _KANJI_DIGITS[char]
        elif char == "万":
            whole, part, digit = (part + digit or 1) * 10_000, 0, 0
        else:
            part, digit = part + (digit or 1) * {"十": 10, "百": 100, "千": 1000}[char], 0
    return whole + part + digit


def num_quotes(text: str) -> int:
    """Return how many quotations stand in a line, whatever marks they have."""
    return len(_QUOTATION.findall(text))


def politeness_of_korean(text: str) -> bool | None:
    """Return whether a Korean line is polite; None when it shows no level, or both."""
    return {Level.POLITE: True, Level.CASUAL: False}.get(speech_level(text))
