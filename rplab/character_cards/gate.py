"""What an imported card may not hold: this project is for general audiences and every character is an adult.

A conservative word list over every text of the card, the parts that nothing reads included. A hit refuses the whole card:
nothing is rewritten or cut out, and the message names field and reason code but never quotes the text. Harmless cards
may be refused (a teacher's card that names a school); that is the safe side, and the card's author can reword it.

To add a word: put it into the tuple it belongs to; Latin words match whole words, others are patterns that match anywhere
(with the neighbours that make another word of it excluded: 전성기, 칼로리).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from rplab.character import MIN_AGE


class Refused(StrEnum):
    """Reason codes."""

    SEXUAL = "sexual_content"
    CHILDLIKE = "childlike_cue"
    UNDERAGE = "age_below_limit"


class Finding(NamedTuple):
    """Where a card is refused and why."""

    field: str
    reason: Refused


_SEXUAL = (
    *(
        "섹스",
        "성관계",
        "성행위",
        "음란",
        "에로틱",
        "알몸",
        "나체",
        "자위(?!대)",
        "(?<!전)성기(?!사)",
        "(?<!개)발정",
        "페티시",
        "성노예",
        "강간",
        "성폭행",
        "19금",
        "야설",
    ),
    *("성인물", "매춘", "창녀", "정액(?!제|권)", "가학성애", "エロ", "セックス", "全裸", "18禁", "淫", "性交", "性行為", "調教"),
    *("nsfw", "erotic", "erotica", "nude", "naked", "porn", "porno", "pornographic", "hentai", "lewd", "fetish", "bdsm", "orgasm", "horny"),
    *("smut", "genitals", "rape", "sexual", "sexually", "sexy", "masturbate", "blowjob", "r18", "18+", "nsfl", "ecchi"),
)
_CHILDLIKE = (
    *(
        "초등학생",
        "중학생",
        "고등학생",
        "초등학교",
        "중학교",
        "고등학교",
        "여고생",
        "남고생",
        "여중생",
        "남중생",
        "초딩",
        "중딩",
        "고딩",
        "미성년",
    ),
    *(
        "어린이",
        "어린아이",
        "어린 아이",
        "아동",
        "유아",
        "유치원",
        "소녀",
        "소년",
        "꼬마",
        "(?<!칼)로리",
        "쇼타(?!임)",
        "10대",
        "십대",
        "교복",
        "어린 외모",
        r"(?<![가-힣])[초중고]\s?[1-6](?!\d)",
        r"(?<!대학 )(?<!대학교 )(?<!대학생 )(?<!대학원 )[1-6]\s?학년",
    ),
    *(
        "小学生",
        "中学生",
        "高校生",
        "ロリ",
        "ショタ",
        "幼女",
        "未成年",
        "少女",
        "少年",
        "女子高",
        "制服",
        "幼稚園",
        "こども",
        "子供",
        "児童",
    ),
    *(
        "child",
        "kid",
        "kids",
        "underage",
        "loli",
        "lolita",
        "shota",
        "teen",
        "teens",
        "teenage",
        "teenager",
        "preteen",
        "schoolgirl",
        "schoolboy",
    ),
    *("high school", "middle school", "elementary school", "kindergarten", "minors", "toddler", "little girl", "little boy", "childlike"),
    *("young-looking", "school uniform", "highschool", "jailbait", "petite girl", "juvenile"),
    *("grader", "high schooler"),
)
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]")
_AGES = re.compile(
    r"(?:나이|연령|年齢|歳は|\bage[ds]?\b)\W{0,6}(?:is\W{0,3})?(\d{1,5})|(\d{1,5})\s?(?:세(?![계기대상월])|살(?![아았]))|(\d{1,5})\s?[歳才]"
    r"|(\d{1,5})[\s-]?(?:years?[\s-]old|y/?o\b|yrs?\b)"
)
_AGE_KEYS = frozenset({"age", "나이", "연령", "年齢"})
_WORD_AGES = re.compile(
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen)[\s-]years?[\s-]old"
    r"|\b\d{1,2}(?:st|nd|rd|th)[\s-]grade"
    r"|(?<![二三四五六七八九])十[一二三四五六七八九]?[歳才]|(?<![十一二三四五六七八九百千])[一二三四五六七八九][歳才]"
)
_TENS = "".join(rf"(?<!{ten})(?<!{ten}\s)" for ten in ("스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔"))
_NATIVE_TEENS = re.compile(
    _TENS + r"(?:열\s?(?:한|두|세|네|다섯|여섯|일곱|여덟|아홉)?|한|두|세|네|다섯|여섯|일곱|여덟|아홉)\s?살(?![아았])"
)


_FIRST = re.compile(r"((?:\(\?<![^)]*\))*)(\[[^\]]+\]|\\?.)")
"""Look-behinds, then the first character or class of a pattern."""


def _compile(words: tuple[str, ...]) -> re.Pattern[str]:
    """Build one pattern; Latin words stand alone, their spaces match any separator; other words are patterns."""
    parts: list[str] = []
    for word in words:
        body = r"[\s_-]*".join(map(re.escape, word.split(" ")))
        parts.append(rf"(?<![a-z0-9]){body}(?![a-z0-9])" if word.isascii() else word)
    heads = "".join(_first_characters(part) for part in parts)
    return re.compile(f"(?=[{heads}])(?:{'|'.join(parts)})")  # a hundred alternatives are tried only where one can begin


def _first_characters(pattern: str) -> str:
    """Return the inside of a character class that holds every character which a match of `pattern` can begin with."""
    match = _FIRST.match(pattern)
    assert match is not None, "every pattern has a first character"
    return match[2][1:-1] if match[2].startswith("[") else match[2] if match[2].startswith("\\") else re.escape(match[2])


_PATTERNS = ((Refused.SEXUAL, _compile(_SEXUAL)), (Refused.CHILDLIKE, _compile(_CHILDLIKE)))


def texts_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, text) of every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield path or "card", value
    elif isinstance(value, dict):
        for key, item in value.items():
            where = f"{path}.{_safe(str(key))}" if path else _safe(str(key))
            yield where, str(key)
            yield from texts_of(item, where)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from texts_of(item, f"{path}[{number}]")


def numbers_of_age(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield (field, years) of every field called age (or 나이) that holds a number, or a text that starts with one."""
    if isinstance(value, dict):
        for key, item in value.items():
            where = f"{path}.{_safe(str(key))}" if path else _safe(str(key))
            if fold(str(key)).strip() in _AGE_KEYS and (years := _as_years(item)) is not None:
                yield where, years
            yield from numbers_of_age(item, where)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from numbers_of_age(item, f"{path}[{number}]")


def _as_years(value: Any) -> float | None:
    if isinstance(value, str):
        match = re.match(r"\s*(\d{1,6})", fold(value))
        return float(match[1]) if match else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _safe(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", key) else "(field)"


def fold(text: str) -> str:
    """Return text as it is searched: compatibility forms and case folded, invisible characters out."""
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()


def find_refused(card: Any) -> list[Finding]:
    """List why a card is refused, each field and reason once; empty when it is not."""
    found: dict[Finding, None] = {}
    for field, text in texts_of(card):
        folded = fold(text)
        for reason, pattern in _PATTERNS:
            if pattern.search(folded):
                found[Finding(field, reason)] = None
        if any(age < MIN_AGE for age in stated_ages(text)) or _NATIVE_TEENS.search(folded) or _WORD_AGES.search(folded):
            found[Finding(field, Refused.UNDERAGE)] = None
    for field, age in numbers_of_age(card):
        if age < MIN_AGE:
            found[Finding(field, Refused.UNDERAGE)] = None
    return list(found)


def stated_ages(text: str) -> list[int]:
    """Return the ages in years that a text states (`나이: 27`, `27살`, `27 years old`).

    >>> stated_ages("나이: 27"), stated_ages("She is 24 years old."), stated_ages("21세기의 3세대")
    ([27], [24], [])
    """
    return [int(next(filter(None, groups))) for groups in _AGES.findall(fold(text))]
