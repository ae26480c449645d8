"""Hangul: final consonants, particles (josa) that fit them, names inside sentences, scripts, broken text.

Why own code: a particle depends only on the last sound of the word before it, and a name must never be replaced inside
another word (소마 in 소마법사, 사야 in 회사야). Both are small rules over code points; no model is needed.

To add a particle: put its two forms into `PAIRS` (or, when it has one form, into `INVARIANT`); the tests list examples.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

RIEUL = 8
"""Index of the final consonant ㄹ in a Hangul syllable (1..27; 0 = none)."""

PAIRS: tuple[tuple[str, str], ...] = (
    ("은커녕", "는커녕"),
    ("은", "는"),
    ("이가", "가"),
    ("이는", "는"),
    ("이를", "를"),
    ("이도", "도"),
    ("이만", "만"),
    ("이의", "의"),
    ("이와", "와"),
    ("이에게", "에게"),
    ("이한테", "한테"),
    ("이랑은", "랑은"),
    ("이랑", "랑"),
    ("이", "가"),
    ("을", "를"),
    ("과는", "와는"),
    ("과의", "와의"),
    ("과도", "와도"),
    ("과", "와"),
    ("아", "야"),
    ("이야말로", "야말로"),
    ("이야", "야"),
    ("이여", "여"),
    ("이시여", "시여"),
    ("이라는", "라는"),
    ("이라고", "라고"),
    ("이라서", "라서"),
    ("이라도", "라도"),
    ("이라면", "라면"),
    ("이라니", "라니"),
    ("이라", "라"),
    ("이란", "란"),
    ("이나마", "나마"),
    ("이나", "나"),
    ("이든지", "든지"),
    ("이든", "든"),
    ("이며", "며"),
    ("이고", "고"),
    ("이니까", "니까"),
    ("이니", "니"),
    ("이면", "면"),
    ("이지만", "지만"),
    ("이지", "지"),
    ("이죠", "죠"),
    ("이구나", "구나"),
    ("이네요", "네요"),
    ("이네", "네"),
    ("이다", "다"),
    ("이에요", "예요"),
    ("이었다", "였다"),
    ("이었어요", "였어요"),
    ("이었어", "였어"),
)
"""(after a final consonant, after a vowel), written so that only the first syllables differ."""

RO_FORMS = ("으로부터", "으로서", "으로써", "으로는", "으로도", "으로", "로부터", "로서", "로써", "로는", "로도", "로")
"""으로 after a final consonant other than ㄹ, 로 after a vowel or ㄹ."""

INVARIANT = (
    *("의", "도", "만", "만은", "만이", "에게", "에게서", "에게는", "에게도", "한테", "한테서", "한테는", "한테도", "께", "께서", "께서는"),
    *("에", "에서", "부터", "까지", "보다", "처럼", "만큼", "마저", "조차", "밖에", "뿐", "대로", "답게", "같은", "같이", "하고"),
    *("씨", "님", "군", "양", "짱", "네", "들"),
)
"""Particles and titles with one form."""

_TITLES = ("씨", "님", "군", "양", "짱", "들")
_DIGIT_FINALS = {"0": 21, "1": RIEUL, "2": 0, "3": 16, "4": 0, "5": 0, "6": 1, "7": RIEUL, "8": RIEUL, "9": 0}
"""Final consonant of a digit read aloud: 영 일 이 삼 사 오 육 칠 팔 구."""
_ZERO_FINALS = {1: 17, 2: 1, 3: 4, 4: 4}
"""Trailing zeros: 십 백 천 만; more zeros end in 만/억/조."""
_LETTER_FINALS = {"l": RIEUL, "m": 16, "n": 4, "r": RIEUL}
"""Letters whose Korean names end in a consonant: 엘 엠 엔 알."""
_CLOSERS = "\"'”’」』)]}>〉》》*_ "


def is_syllable(char: str) -> bool:
    """Return whether `char` is a composed Hangul syllable (가..힣)."""
    return "가" <= char <= "힣"


def final_consonant(word: str) -> int:
    """Return the final consonant of a word as read aloud: 0 = none, 1..27 = index in the Unicode order.

    Hangul, digits (by their Sino-Korean reading), Latin letters and kana are understood; closing quotes and brackets
    at the end are passed over. Anything else counts as ending in a vowel.

    >>> final_consonant("하늘"), final_consonant("사야"), final_consonant("10")
    (8, 0, 17)
    """
    word = word.rstrip(_CLOSERS)
    if not word:
        return 0
    last = unicodedata.normalize("NFC", word)[-1]
    if is_syllable(last):
        return (ord(last) - 0xAC00) % 28
    if last in _DIGIT_FINALS:
        return _final_of_number(word)
    if last.isascii() and last.isalpha():
        return _final_of_latin(word)
    return 4 if last in "んン" else 0


def _final_of_number(word: str) -> int:
    digits = re.search(r"\d+$", word)
    assert digits is not None, "called for words that end in a digit"
    significant = digits[0].rstrip("0")
    zeros = len(digits[0]) - len(significant)
    if not zeros or not significant:
        return _DIGIT_FINALS[word[-1]]
    return _ZERO_FINALS.get(zeros, 4 if zeros < 8 else 1)


def _final_of_latin(word: str) -> int:
    tail = re.search(r"[A-Za-z]+$", word)
    assert tail is not None, "called for words that end in a letter"
    letters = tail[0]
    if letters.isupper():  # an abbreviation is spelt out
        return _LETTER_FINALS.get(letters[-1].lower(), 0)
    last = letters[-1]
    if letters.endswith("ng"):
        return 21
    return {"l": RIEUL, "m": 16, "n": 4, "b": 17, "p": 17, "c": 1, "k": 1, "t": 19}.get(last, 0)


def fit_particle(word: str, particle: str) -> str:
    """Return the form of `particle` that fits after `word`; either form may be given.

    >>> fit_particle("사야", "은"), fit_particle("하늘", "으로"), fit_particle("3", "가")
    ('는', '로', '이')
    """
    final = final_consonant(word)
    if particle in RO_FORMS:
        stem = particle.removeprefix("으")
        return stem if final in (0, RIEUL) else "으" + stem
    with_final, with_vowel = _FORMS.get(particle, (particle, particle))
    return with_final if final else with_vowel


def attach(word: str, particle: str) -> str:
    """Return `word` with the fitting form of `particle` after it: 카즈키 and 이 make 카즈키가."""
    return word + fit_particle(word, particle)


_REVERSIBLE = frozenset(
    {
        *(
            "랑",
            "랑은",
            "라는",
            "라고",
            "라서",
            "라도",
            "라면",
            "라니",
            "라",
            "란",
            "나마",
            "나",
            "든지",
            "든",
            "며",
            "여",
            "시여",
            "야말로",
        ),
        *("니까", "지만", "구나", "예요", "였다", "였어요", "였어", "다"),
    }
)
"""Vowel forms that take 이 back after a consonant; 고, 지, 네, 면, 니 are left alone (too often a word of their own)."""


def _forms() -> dict[str, tuple[str, str]]:
    """Map each written form to its pair; the plain particle wins over the suffixed one (하늘이가)."""
    table: dict[str, tuple[str, str]] = {}
    for pair in PAIRS:
        with_final, with_vowel = pair
        table.setdefault(with_final, pair)
        if not with_final.startswith("이") or with_vowel in _REVERSIBLE:
            table.setdefault(with_vowel, pair)
    table["가"] = ("이", "가")
    return table


_FORMS = _forms()
_AFTER_NAME = sorted({*_FORMS, *RO_FORMS, *INVARIANT, *(vowel for _, vowel in PAIRS)}, key=len, reverse=True)
_PARTICLE = "|".join(map(re.escape, _AFTER_NAME))
_TITLED = "|".join(_TITLES)
_TAIL = rf"(?P<title>(?:{_TITLED})(?:{_PARTICLE})?(?![가-힣]))|(?P<particle>{_PARTICLE})(?![가-힣])|(?![가-힣])"


@functools.lru_cache(maxsize=1024)
def name_pattern(name: str) -> re.Pattern[str]:
    """Return a pattern that finds `name` as a word of its own, with the particle that may follow (group `particle`).

    마이 is found in 마이는 and "마이!", not in 마이크; 소마 not in 소마법사; 사야 not in 회사야.
    """
    return re.compile(rf"(?<![가-힣A-Za-z0-9]){re.escape(name)}(?:{_TAIL})")


def replace_name(text: str, old: str, new: str) -> str:
    """Replace a name and refit the particle after it, never inside another word.

    >>> replace_name("하늘이 웃는다. 하늘아, 소마법사야.", "하늘", "소마")
    '소마가 웃는다. 소마야, 소마법사야.'
    """

    def fitted(match: re.Match[str]) -> str:
        if title := match["title"]:
            return new + title
        return attach(new, match["particle"]) if match["particle"] else new

    return name_pattern(old).sub(fitted, text)


def fill_placeholder(text: str, pattern: re.Pattern[str], name: str) -> str:
    """Replace every match of `pattern` by `name` and refit the particle written after it.

    Unlike `replace_name`, text that is no particle may follow directly ({{user}}0).
    """
    found = re.compile(rf"(?:{pattern.pattern})(?:(?P<particle>{_PARTICLE})(?![가-힣]))?", pattern.flags)

    def fitted(match: re.Match[str]) -> str:
        return attach(name, match["particle"]) if match["particle"] else name

    return found.sub(fitted, text)


class Leak(NamedTuple):
    """A run of a script that does not belong into Korean text."""

    kind: str
    """`han`, `kana`, `fullwidth`, `cyrillic`, `thai` or `arabic`."""
    text: str
    start: int


_SCRIPTS = {
    "kana": "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3005\U00020000-\U0003134f",
    "fullwidth": "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a",
    "cyrillic": "\u0400-\u04ff",
    "thai": "\u0e00-\u0e7f",
    "arabic": "\u0600-\u06ff",
}
_LEAK = re.compile("|".join(f"(?P<{kind}>[{chars}]+)" for kind, chars in _SCRIPTS.items()))
_FOREIGN = re.compile(f"[{''.join(_SCRIPTS.values())}]")
_KANA = re.compile(f"[{_SCRIPTS['kana']}]")
_HAN = re.compile(f"[{_SCRIPTS['han']}]")
_SYLLABLE = re.compile("[가-힣]")
_HANGUL = re.compile("[가-힣ㄱ-ㆎ\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")


def find_leaks(text: str, allowed: str = "") -> list[Leak]:
    """List the runs of foreign script (kanji, kana, full-width Latin, ...) in Korean text.

    Args:
        text: Korean text.
        allowed: Characters that a card allows.
    """
    if _FOREIGN.search(text) is None:
        return []
    return [
        Leak(str(match.lastgroup), match[0], match.start())
        for match in _LEAK.finditer(text)
        if any(char not in allowed for char in match[0])
    ]


def has_hangul(text: str) -> bool:
    """Return whether any Hangul (syllable or jamo) stands in `text`."""
    return _HANGUL.search(text) is not None


def has_kana(text: str) -> bool:
    """Return whether any hiragana or katakana stands in `text`."""
    return _KANA.search(text) is not None


def has_han(text: str) -> bool:
    """Return whether any Chinese character stands in `text`."""
    return _HAN.search(text) is not None


def korean_share(text: str) -> float:
    """Return the share (0..1) of Hangul syllables among the letters of `text`; 0 without letters."""
    num_letters = sum(map(str.isalpha, text))
    return len(_SYLLABLE.findall(text)) / num_letters if num_letters else 0.0


class Fault(NamedTuple):
    """A place where Hangul is broken."""

    kind: str
    """`replacement` (U+FFFD), `lone_jamo`, `conjoining_jamo` or `not_nfc`."""
    text: str
    start: int


_BROKEN = re.compile(
    r"(?P<replacement>\ufffd+)|(?P<lone_jamo>[ㄱ-ㅎㅏ-ㅣㅥ-ㆎ]+)|(?P<conjoining_jamo>[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]+)"
)
_EMOTIVE = re.compile(r"[ㅋㅎㅠㅜ]+")


def find_broken_hangul(text: str) -> list[Fault]:
    """List broken Hangul: U+FFFD, jamo outside a syllable (runs of ㅋ ㅎ ㅠ ㅜ are fine), text that is not NFC."""
    faults = [Fault(str(match.lastgroup), match[0], match.start()) for match in _BROKEN.finditer(text) if not _EMOTIVE.fullmatch(match[0])]
    if not faults and not unicodedata.is_normalized("NFC", text):
        faults.append(Fault("not_nfc", "", 0))
    return faults


def compose(text: str) -> str:
    """Return `text` in NFC (Hangul typed on some systems arrives in pieces)."""
    return unicodedata.normalize("NFC", text)
