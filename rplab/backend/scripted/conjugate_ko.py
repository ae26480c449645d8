"""Korean verbs and adjectives: dictionary form -> the forms that the grammar uses.

Regular by rule, irregular by the class of the stem (ㅂ, ㄷ, ㅅ, 르, 으, ㅎ, ㄹ, 하). `pos` is "v" for verbs and "a" for
adjectives: they differ in the plain present (먹는다, 작다) and before nouns (먹는, 작은).
"""

from __future__ import annotations

from rplab.backend.scripted.hangul import final, is_syllable, vowel, with_final, with_vowel

_REGULAR_B = ("입", "잡", "뽑", "씹", "접", "좁", "집", "업", "꼽")
_IRREGULAR_D = ("듣", "걷", "묻", "닫")  # 닫 only in 깨닫다, see _is_irregular_d
_IRREGULAR_S = ("낫", "짓", "긋", "붓", "잇", "젓")
_REGULAR_REU = ("따르", "치르", "들르", "다다르")
_IRREGULAR_H = {"그렇": "그래", "이렇": "이래", "어떻": "어때", "하얗": "하얘"}
_HONORIFIC = {"먹": "드시", "마시": "드시", "자": "주무시", "있": "있으시"}


def _is_irregular_b(stem: str) -> bool:
    return final(stem[-1]) == "ㅂ" and not stem.endswith(_REGULAR_B)


def _is_irregular_d(stem: str) -> bool:
    return stem.endswith(_IRREGULAR_D) and (not stem.endswith("닫") or stem.endswith("깨닫"))


def _is_irregular_s(stem: str) -> bool:
    return stem.endswith(_IRREGULAR_S)


def _irregular_h(stem: str) -> str:
    return next((key for key in _IRREGULAR_H if stem.endswith(key)), "")


def linked(stem: str) -> str:
    """Return the stem joined to 어/아 (the casual present): 마시 -> 마셔, 돕 -> 도와, 부르 -> 불러."""
    head, last = stem[:-1], stem[-1]
    if last == "하":
        return head + "해"
    if stem.endswith("아니"):
        return stem + "야"
    if key := _irregular_h(stem):
        return stem[: -len(key)] + _IRREGULAR_H[key]
    if not final(last):
        return head + _linked_open(stem) if last != "르" or stem.endswith(_REGULAR_REU) else _linked_reu(stem)
    if _is_irregular_b(stem):
        return head + with_final(last, "") + ("와" if last in "돕곱" else "워")
    if _is_irregular_d(stem):
        return head + with_final(last, "ㄹ") + ("아" if vowel(last) in "ㅏㅗ" else "어")
    if _is_irregular_s(stem):
        return head + with_final(last, "") + ("아" if vowel(last) in "ㅏㅗ" else "어")
    return stem + ("아" if vowel(last) in "ㅏㅑㅗ" else "어")


def _linked_open(stem: str) -> str:
    last = stem[-1]
    sound = vowel(last)
    if sound == "ㅡ":
        before = stem[-2] if len(stem) > 1 and is_syllable(stem[-2]) else "어"
        return with_vowel(last, "ㅏ" if vowel(before) in "ㅏㅑㅗ" else "ㅓ")
    contracted = {"ㅗ": "ㅘ", "ㅜ": "ㅝ", "ㅣ": "ㅕ", "ㅚ": "ㅙ"}.get(sound)
    if contracted:
        return with_vowel(last, contracted)
    return last + "어" if sound in "ㅟㅢ" else last


def _linked_reu(stem: str) -> str:
    before = stem[-2]
    return stem[:-2] + with_final(before, "ㄹ") + ("라" if vowel(before) in "ㅏㅗ" else "러")


def past(stem: str) -> str:
    """Return the past stem: 마시 -> 마셨, 먹 -> 먹었."""
    text = linked(stem)
    return text[:-1] + with_final(text[-1], "ㅆ")


def _open(stem: str) -> tuple[str, str]:
    """Return (stem before 으-endings, "으" or "")."""
    head, last = stem[:-1], stem[-1]
    if _is_irregular_b(stem):
        return head + with_final(last, "") + "우", ""
    if _is_irregular_d(stem):
        return head + with_final(last, "ㄹ"), "으"
    if _is_irregular_s(stem):
        return head + with_final(last, ""), "으"
    if _irregular_h(stem):
        return head + with_final(last, ""), ""
    return stem, "" if final(last) in ("", "ㄹ") else "으"


def with_eu(stem: str, ending: str) -> str:
    """Join an ending that takes 으 after a consonant: 면, 며, 면서, 니까, 세요, 려고, 러."""
    base, link = _open(stem)
    if not link and final(base[-1]) == "ㄹ" and ending[0] in "니시세":
        base = base[:-1] + with_final(base[-1], "")
    return base + link + ending


def with_n(stem: str) -> str:
    """Join ㄴ/은: 마신, 먹은, 무거운, 긴."""
    return _with_consonant(stem, "ㄴ", "은")


def with_l(stem: str) -> str:
    """Join ㄹ/을: 마실, 먹을, 들을, 만들."""
    return _with_consonant(stem, "ㄹ", "을")


def _with_consonant(stem: str, consonant: str, syllable: str) -> str:
    base, link = _open(stem)
    if link:
        return base + syllable
    return base[:-1] + with_final(base[-1], consonant)


def without_l(stem: str) -> str:
    """Drop a final ㄹ, as before ㄴ, ㅂ, ㅅ: 만들 -> 만드."""
    return stem[:-1] + with_final(stem[-1], "") if final(stem[-1]) == "ㄹ" else stem


def plain(stem: str, pos: str) -> str:
    """Return the plain present of narration: 마신다, 먹는다, 작다."""
    if pos == "a" or stem.endswith(("있", "없")):
        return stem + "다"
    if final(stem[-1]) in ("", "ㄹ"):
        return stem[:-1] + with_final(stem[-1], "ㄴ") + "다"
    return stem + "는다"


def before_noun(stem: str, pos: str) -> str:
    """Return the present form before a noun: 마시는, 작은, 재미있는."""
    if pos == "v" or stem.endswith(("있", "없")):
        return without_l(stem) + "는"
    return with_n(stem)


def formal(stem: str) -> str:
    """Return the 합니다 form: 마십니다, 먹습니다."""
    if final(stem[-1]) in ("", "ㄹ"):
        return stem[:-1] + with_final(stem[-1], "ㅂ") + "니다"
    return stem + "습니다"


def honorific(stem: str) -> str:
    """Return the stem with 시: 가 -> 가시, 먹 -> 드시."""
    last = stem.rsplit(" ", 1)[-1]
    if last in _HONORIFIC:
        return stem[: len(stem) - len(last)] + _HONORIFIC[last]
    return with_eu(stem, "시")
