"""Japanese verbs and adjectives: dictionary form -> the forms that the grammar uses.

`kind`: "g" godan (飲む), "i" ichidan (食べる), "s" suru (練習する), "k" kuru (来る), "a" i-adjective (温かい),
"n" na-adjective or noun predicate (静か; the entry is written without だ).
"""

from __future__ import annotations

_ROWS = {
    "う": "わいえお",
    "く": "かきけこ",
    "ぐ": "がぎげご",
    "す": "さしせそ",
    "つ": "たちてと",
    "ぬ": "なにねの",
    "ぶ": "ばびべぼ",
    "む": "まみめも",
    "る": "らりれろ",
}
_TE = {"う": "って", "く": "いて", "ぐ": "いで", "す": "して", "つ": "って", "ぬ": "んで", "ぶ": "んで", "む": "んで", "る": "って"}


def _row(word: str, index: int) -> str:
    return word[:-1] + _ROWS[word[-1]][index]


def masu(word: str, kind: str) -> str:
    """Return the stem before ます: 飲み, 食べ, 練習し, 来."""
    if kind == "g":
        return _row(word, 1)
    if kind == "s":
        return word[:-2] + "し"
    return word[:-1]


def te(word: str, kind: str) -> str:
    """Return the te-form; of adjectives くて / で."""
    if kind == "g":
        return word[:-1] + ("って" if word.endswith("行く") else _TE[word[-1]])
    if kind == "a":
        return adverb(word, kind) + "て"
    if kind == "n":
        return word + "で"
    return masu(word, kind) + "て"


def ta(word: str, kind: str) -> str:
    """Return the plain past: 飲んだ, 温かかった, 静かだった."""
    if kind == "a":
        return _i_stem(word) + "かった"
    if kind == "n":
        return word + "だった"
    form = te(word, kind)
    return form[:-1] + ("た" if form[-1] == "て" else "だ")


def nai_stem(word: str, kind: str) -> str:
    """Return what stands before ない / なかった: 飲ま, 食べ, 温かく, 静かじゃ."""
    if kind == "g":
        return "" if word == "ある" else word[:-2] if word.endswith("がある") else _row(word, 0)
    if kind == "a":
        return adverb(word, kind)
    if kind == "n":
        return word + "じゃ"
    return "来" if kind == "k" else masu(word, kind)


def volitional(word: str, kind: str) -> str:
    """Return the plain volitional: 飲もう, 食べよう."""
    if kind == "g":
        return _row(word, 3) + "う"
    return masu(word, kind) + "よう"


def potential(word: str, kind: str) -> str:
    """Return the potential as an ichidan verb: 飲める, 食べられる, 練習できる."""
    if kind == "g":
        return _row(word, 2) + "る"
    if kind == "s":
        return word[:-2] + "できる" if not word.endswith("をする") else word[:-3] + "ができる"
    return word[:-1] + "られる"


def adverb(word: str, kind: str) -> str:
    """Return the adverb of an adjective: 温かく, 静かに."""
    return word + "に" if kind == "n" else _i_stem(word) + "く"


def _i_stem(word: str) -> str:
    return word[:-2] + "よ" if word.endswith("いい") else word[:-1]


def before_noun(word: str, kind: str) -> str:
    """Return the form before a noun: 飲む, 温かい, 静かな."""
    return word + "な" if kind == "n" else word


def tara(word: str, kind: str) -> str:
    """Return the conditional: 飲んだら, 温かかったら, 静かだったら."""
    return ta(word, kind) + "ら"


def look(word: str, kind: str) -> str:
    """Return the form of likelihood: 降りそう, 痛そう, よさそう, 静かそう."""
    if kind == "a":
        stem = _i_stem(word)
        return stem + ("さそう" if stem.endswith(("よ", "な")) and word.endswith(("いい", "ない")) else "そう")
    return (word if kind == "n" else masu(word, kind)) + "そう"
