"""Hangul syllables taken apart, and particles fitted to the word before them."""

from __future__ import annotations

_FIRST = 0xAC00
_LAST = 0xD7A3
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_FINALS = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")

PARTICLES = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "으로": ("으로", "로"),
    "이랑": ("이랑", "랑"),
    "이라도": ("이라도", "라도"),
    "이라면": ("이라면", "라면"),
    "이라": ("이라", "라"),
    "이나": ("이나", "나"),
    "이라는": ("이라는", "라는"),
    "이든": ("이든", "든"),
    "이야말로": ("이야말로", "야말로"),
}
"""Name in a template -> (after a final consonant, after a vowel)."""


def is_syllable(char: str) -> bool:
    """Tell whether `char` is a composed Hangul syllable."""
    return _FIRST <= ord(char) <= _LAST


def initial(char: str) -> int:
    """Return the index of a Hangul syllable's first consonant; -1 for other characters."""
    return (ord(char) - _FIRST) // 588 if is_syllable(char) else -1


def vowel(char: str) -> str:
    """Return the vowel of a Hangul syllable."""
    return _VOWELS[(ord(char) - _FIRST) // 28 % 21]


def final(char: str) -> str:
    """Return the final consonant of a Hangul syllable, "" when it is open."""
    return _FINALS[(ord(char) - _FIRST) % 28]


def with_final(char: str, consonant: str) -> str:
    """Return the syllable with its final consonant replaced; "" opens it."""
    code = ord(char) - _FIRST
    return chr(_FIRST + code - code % 28 + _FINALS.index(consonant))


def with_vowel(char: str, new: str) -> str:
    """Return the open syllable with its vowel replaced."""
    lead = (ord(char) - _FIRST) // 588
    return chr(_FIRST + lead * 588 + _VOWELS.index(new) * 28)


def fit_particle(word: str, particle: str) -> str:
    """Return `word` with the form of `particle` that its last sound asks for.

    Args:
        word: Ends in a Hangul syllable; anything else counts as ending in a vowel.
        particle: A key of `PARTICLES` (the form after a consonant) or a particle that never changes.
    """
    forms = PARTICLES.get(particle)
    if forms is None:
        return word + particle
    tail = final(word[-1]) if is_syllable(word[-1]) else ""
    if particle == "으로" and tail == "ㄹ":
        return word + "로"
    return word + (forms[0] if tail else forms[1])
