"""What `{마시다.p}` in a template becomes, in Korean and in Japanese.

Final forms depend on the speech level: "c" casual (먹었어 / 食べたよ), "p" polite (먹었어요 / 食べました), "h" formal
polite (먹었습니다 / 食べました). Linking forms do not. To add a form: one entry in `forms_ko.KO` and one in `forms_ja.JA`.
"""

from __future__ import annotations

from functools import cache

from rplab.backend.scripted.forms_ja import JA
from rplab.backend.scripted.forms_ko import KO, Level


@cache
def inflect_ko(lemma: str, pos: str, form: str, level: Level) -> str:
    """Return the Korean form of a dictionary form (`마시다`, with or without words before it)."""
    return KO[form](lemma[:-1], pos, level)


@cache
def inflect_ja(word: str, kind: str, form: str, polite: bool) -> str:
    """Return the Japanese form of a dictionary form."""
    return JA[form](word, kind, polite)


# Nouns as predicates: (after a consonant, after a vowel) for c, p, h; then Japanese casual, polite.
COPULA: dict[str, tuple[dict[Level, tuple[str, str]], tuple[str, str]]] = {
    "cop": ({"c": ("이야", "야"), "p": ("이에요", "예요"), "h": ("입니다", "입니다")}, ("だよ", "です")),
    "copq": ({"c": ("이야", "야"), "p": ("이에요", "예요"), "h": ("이에요", "예요")}, ("", "ですか")),
    "copp": ({"c": ("이었어", "였어"), "p": ("이었어요", "였어요"), "h": ("이었습니다", "였습니다")}, ("だったよ", "でした")),
    "copne": ({"c": ("이네", "네"), "p": ("이네요", "네요"), "h": ("이네요", "네요")}, ("だね", "ですね")),
    "copji": ({"c": ("이지", "지"), "p": ("이죠", "죠"), "h": ("이죠", "죠")}, ("だよね", "ですよね")),
    "copgeo": ({"c": ("이거든", "거든"), "p": ("이거든요", "거든요"), "h": ("이거든요", "거든요")}, ("なんだ", "なんです")),
}
