"""The table of forms: what `{마시다.p}` in a template becomes, in Korean and in Japanese.

Final forms depend on the speech level: "c" casual (먹었어 / 食べたよ), "p" polite (먹었어요 / 食べました), "h" formal
polite (먹었습니다 / 食べました). Linking forms do not. To add a form: one entry in `KO` and one in `JA`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, TypeAlias

from rplab.backend.scripted import conjugate_ja as ja
from rplab.backend.scripted import conjugate_ko as ko

Level: TypeAlias = Literal["c", "p", "h"]

_Ko: TypeAlias = Callable[[str, str, Level], str]
_Ja: TypeAlias = Callable[[str, str, bool], str]


def _levels(casual: Callable[[str], str], formal: Callable[[str], str] | None = None) -> _Ko:
    """Final form: casual + 요 when polite, or its own formal form."""

    def render(stem: str, _pos: str, level: Level) -> str:
        if level == "h" and formal is not None:
            return formal(stem)
        return casual(stem) + ("" if level == "c" else "요")

    return render


def _link(function: Callable[[str, str], str]) -> _Ko:
    return lambda stem, pos, _level: function(stem, pos)


def _aux(first: Callable[[str], str], second: _Ko, pos: str = "v") -> _Ko:
    """Main verb in a linking form + a conjugated auxiliary."""
    return lambda stem, _pos, level: second(first(stem), pos, level)


_say = _levels(ko.linked, ko.formal)
_said = _levels(lambda s: ko.past(s) + "어", lambda s: ko.past(s) + "습니다")
_asked = _levels(lambda s: ko.past(s) + "어")
_ask = _levels(ko.linked)
_will = _levels(lambda s: ko.with_l(s) + "게", lambda s: s + "겠습니다")


def _request(stem: str, _pos: str, level: Level) -> str:
    if stem.endswith("주"):  # 들려주다: the giving is in the verb already
        return ko.linked(stem) if level == "c" else stem + "세요"
    return ko.linked(stem) + (" 줘" if level == "c" else " 주세요")


def _request_question(stem: str, _pos: str, level: Level) -> str:
    head = stem[:-1] if stem.endswith("주") else ko.linked(stem) + " "
    return head + ("줄래" if level == "c" else "주실래요")


def _suggest(stem: str, _pos: str, level: Level) -> str:
    return stem + "자" if level == "c" else ko.linked(stem) + "요"


def _forbid(stem: str, _pos: str, level: Level) -> str:
    return stem + ("지 마" if level == "c" else "지 마세요")


def _urge(stem: str, _pos: str, level: Level) -> str:
    return ko.linked(stem) if level == "c" else ko.with_eu(stem, "세요")


def _ask_person(stem: str, _pos: str, level: Level) -> str:
    return ko.linked(stem) if level == "c" else ko.honorific(stem)[:-1] + "세요"


def _asked_person(stem: str, _pos: str, level: Level) -> str:
    return ko.past(stem) + "어" if level == "c" else ko.past(ko.honorific(stem)) + "어요"


def _gonna(stem: str, _pos: str, level: Level) -> str:
    return ko.with_l(stem) + {"c": " 거야", "p": " 거예요", "h": " 겁니다"}[level]


def _know(stem: str, _pos: str, level: Level) -> str:
    return stem + ("지" if level == "c" else "죠")


def _knew(stem: str, _pos: str, level: Level) -> str:
    return ko.past(stem) + ("지" if level == "c" else "죠")


def _background(stem: str, pos: str) -> str:
    if pos == "v" or stem.endswith(("있", "없")):
        return ko.without_l(stem) + "는데"
    return ko.with_n(stem) + "데"


KO: dict[str, _Ko] = {
    "e": _say,
    "eb": _say,
    "p": _said,
    "pb": _said,
    "q": _ask,
    "pq": _asked,
    "hq": _ask_person,
    "hpq": _asked_person,
    "f": _will,
    "lets": _suggest,
    "shall": _levels(lambda s: ko.with_l(s) + "까"),
    "wil": _levels(lambda s: ko.with_l(s) + "래"),
    "want": _aux(lambda s: s + "고 싶", _say),
    "wantp": _aux(lambda s: s + "고 싶", _said),
    "wantq": _aux(lambda s: s + "고 싶", _ask),
    "nowant": _aux(lambda s: s + "고 싶지 않", _say),
    "req": _request,
    "reqq": _request_question,
    "must": _aux(lambda s: ko.linked(s) + "야 하", _say),
    "may": _aux(lambda s: ko.linked(s) + "도 되", _say),
    "mayq": _aux(lambda s: ko.linked(s) + "도 되", _ask),
    "dont": _forbid,
    "imp": _urge,
    "neg": _aux(lambda s: s + "지 않", _say),
    "negp": _aux(lambda s: s + "지 않", _said),
    "negf": _aux(lambda s: s + "지 않", _will),
    "can": _aux(lambda s: ko.with_l(s) + " 수 있", _say),
    "canq": _aux(lambda s: ko.with_l(s) + " 수 있", _ask),
    "cannot": _aux(lambda s: ko.with_l(s) + " 수 없", _say),
    "prog": _aux(lambda s: s + "고 있", _say),
    "progp": _aux(lambda s: s + "고 있", _said),
    "progq": _aux(lambda s: s + "고 있", _ask),
    "seem": _aux(lambda s: ko.with_l(s) + " 것 같", _say),
    "ne": _levels(lambda s: ko.without_l(s) + "네"),
    "nep": _levels(lambda s: ko.past(s) + "네"),
    "ji": _know,
    "jip": _knew,
    "geo": _levels(lambda s: s + "거든"),
    "geop": _levels(lambda s: ko.past(s) + "거든"),
    "everq": _aux(lambda s: ko.with_n(s) + " 적 있", _ask),
    "ever": _aux(lambda s: ko.with_n(s) + " 적 있", _say),
    "never": _aux(lambda s: ko.with_n(s) + " 적 없", _say),
    "will": _gonna,
    "try": _aux(lambda s: ko.linked(s) + " 보", _will),
    "tryl": _aux(lambda s: ko.linked(s) + " 보", _suggest),
    "tryp": _aux(lambda s: ko.linked(s) + " 보", _said),
    "give": _aux(lambda s: ko.linked(s) + " 주", _will),
    "gave": _aux(lambda s: ko.linked(s) + " 주", _said),
    "become": _aux(lambda s: ko.linked(s) + "지", _say),
    "became": _aux(lambda s: ko.linked(s) + "지", _said),
    "go": _link(lambda s, _p: s + "고"),
    "but": _link(lambda s, _p: s + "지만"),
    "pbut": _link(lambda s, _p: ko.past(s) + "지만"),
    "if": _link(lambda s, _p: ko.with_eu(s, "면")),
    "since": _link(lambda s, _p: ko.with_eu(s, "니까")),
    "so": _link(lambda s, _p: ko.linked(s) + "서"),
    "inten": _link(lambda s, _p: ko.with_eu(s, "려고")),
    "while": _link(lambda s, _p: ko.with_eu(s, "면서")),
    "and": _link(lambda s, _p: ko.with_eu(s, "며")),
    "before": _link(lambda s, _p: s + "기 전에"),
    "after": _link(lambda s, _p: ko.with_n(s) + " 뒤에"),
    "when": _link(lambda s, _p: ko.with_l(s) + " 때"),
    "adn": _link(ko.before_noun),
    "adnp": _link(lambda s, _p: ko.with_n(s)),
    "adnf": _link(lambda s, _p: ko.with_l(s)),
    "adv": _link(lambda s, _p: s + "게"),
    "even": _link(lambda s, _p: ko.linked(s) + "도"),
    "bg": _link(_background),
    "thing": _link(lambda s, p: ko.before_noun(s, p) + " 게"),
    "thingo": _link(lambda s, p: ko.before_noun(s, p) + " 걸"),
    "as": _link(lambda s, _p: ko.with_n(s) + " 채"),
    "mustn": _link(lambda s, _p: ko.linked(s) + "야"),
    "n": _link(ko.plain),
    "np": _link(lambda s, _p: ko.past(s) + "다"),
    "ncont": _link(lambda s, _p: s + "고 있다"),
}


def _plain(word: str, kind: str, _polite: bool = False) -> str:
    return word + "だ" if kind == "n" else word


def _statement(word: str, kind: str, polite: bool) -> str:
    if polite:
        return word + "です" if kind in "an" else ja.masu(word, kind) + "ます"
    return _plain(word, kind) + "よ"


def _bare(word: str, kind: str, polite: bool) -> str:
    return _statement(word, kind, polite) if polite else _plain(word, kind)


def _past(word: str, kind: str, polite: bool) -> str:
    if not polite:
        return ja.ta(word, kind)
    if kind == "a":
        return ja.ta(word, kind) + "です"
    return word + "でした" if kind == "n" else ja.masu(word, kind) + "ました"


def _tail(function: _Ja, casual: str, polite: str) -> _Ja:
    return lambda word, kind, level: function(word, kind, level) + (polite if level else casual)


def _question(word: str, kind: str, polite: bool) -> str:
    if polite:
        return _statement(word, kind, polite) + "か"
    return word


def _negative(word: str, kind: str, polite: bool) -> str:
    if not polite:
        return ja.nai_stem(word, kind) + "ない"
    return ja.nai_stem(word, kind) + "ないです" if kind in "an" else ja.masu(word, kind) + "ません"


def _negative_past(word: str, kind: str, polite: bool) -> str:
    if not polite:
        return ja.nai_stem(word, kind) + "なかった"
    return ja.nai_stem(word, kind) + "なかったです" if kind in "an" else ja.masu(word, kind) + "ませんでした"


def _te(ending: str, polite: str) -> _Ja:
    return lambda word, kind, level: ja.te(word, kind) + (polite if level else ending)


def _masu(ending: str, polite: str) -> _Ja:
    return lambda word, kind, level: ja.masu(word, kind) + (polite if level else ending)


def _nai(ending: str, polite: str) -> _Ja:
    return lambda word, kind, level: ja.nai_stem(word, kind) + (polite if level else ending)


def _plain_plus(ending: str, polite: str) -> _Ja:
    return lambda word, kind, level: _plain(word, kind) + (polite if level else ending)


def _noun_plus(ending: str, polite: str) -> _Ja:
    return lambda word, kind, level: ja.before_noun(word, kind) + (polite if level else ending)


def _potential(ending: str, polite: str) -> _Ja:
    return lambda word, kind, level: ja.masu(ja.potential(word, kind), "i") + (polite if level else ending)


def _volitional(ending: str, polite: str) -> _Ja:
    return lambda word, kind, level: (ja.masu(word, kind) + polite) if level else (ja.volitional(word, kind) + ending)


def _ta(ending: str, polite: str) -> _Ja:
    return lambda word, kind, level: ja.ta(word, kind) + (polite if level else ending)


def _become(casual: str, polite: str) -> _Ja:
    def render(word: str, kind: str, level: bool) -> str:
        head = ja.adverb(word, kind) + "な" if kind in "an" else word + "ようにな"
        return head + (polite if level else casual)

    return render


def _invite(word: str, kind: str, polite: bool) -> str:
    return ja.masu(word, kind) + "ませんか" if polite else ja.nai_stem(word, kind) + "ない"


JA: dict[str, _Ja] = {
    "e": _statement,
    "eb": _bare,
    "p": _tail(_past, "よ", ""),
    "pb": _past,
    "q": _question,
    "pq": _tail(_past, "", "か"),
    "hq": _question,
    "hpq": _tail(_past, "", "か"),
    "f": _tail(_bare, "ね", "ね"),
    "lets": _volitional("", "ましょう"),
    "shall": _volitional("か", "ましょうか"),
    "wil": _invite,
    "want": _masu("たい", "たいです"),
    "wantp": _masu("たかった", "たかったです"),
    "wantq": _masu("たい", "たいですか"),
    "nowant": _masu("たくない", "たくないです"),
    "req": _te("", "ください"),
    "reqq": _te("くれる", "くれますか"),
    "must": _nai("ないといけない", "ないといけません"),
    "may": _te("もいいよ", "もいいですよ"),
    "mayq": _te("もいい", "もいいですか"),
    "dont": _nai("ないで", "ないでください"),
    "imp": _te("ね", "くださいね"),
    "neg": _tail(_negative, "よ", ""),
    "negp": _tail(_negative_past, "よ", ""),
    "negf": _tail(_negative, "ね", ""),
    "can": _potential("るよ", "ます"),
    "canq": _potential("る", "ますか"),
    "cannot": _potential("ない", "ません"),
    "prog": _te("いるよ", "います"),
    "progp": _te("いたよ", "いました"),
    "progq": _te("いる", "いますか"),
    "seem": _plain_plus("と思う", "と思います"),
    "ne": _tail(_bare, "ね", "ね"),
    "nep": _tail(_past, "ね", "ね"),
    "ji": _tail(_bare, "よね", "よね"),
    "jip": _tail(_past, "よね", "よね"),
    "geo": _noun_plus("んだ", "んです"),
    "geop": _ta("んだ", "んです"),
    "everq": _ta("ことある", "ことがありますか"),
    "ever": _ta("ことがあるよ", "ことがあります"),
    "never": _ta("ことがない", "ことがありません"),
    "will": _plain_plus("つもりだよ", "つもりです"),
    "try": _te("みるね", "みますね"),
    "tryl": _te("みよう", "みましょう"),
    "tryp": _te("みたよ", "みました"),
    "give": _te("あげるね", "あげますね"),
    "gave": _te("くれたよ", "くれました"),
    "become": _become("るよ", "ります"),
    "became": _become("ったよ", "りました"),
    "go": lambda word, kind, _p: ja.te(word, kind),
    "but": lambda word, kind, _p: _plain(word, kind) + "けど",
    "pbut": lambda word, kind, _p: ja.ta(word, kind) + "けど",
    "if": lambda word, kind, _p: ja.tara(word, kind),
    "since": lambda word, kind, _p: _plain(word, kind) + "から",
    "so": lambda word, kind, _p: ja.te(word, kind),
    "inten": lambda word, kind, _p: ja.volitional(word, kind) + "と",
    "while": lambda word, kind, _p: ja.masu(word, kind) + "ながら",
    "and": lambda word, kind, _p: ja.masu(word, kind) + "ながら",
    "before": lambda word, kind, _p: word + "前に",
    "after": lambda word, kind, _p: ja.ta(word, kind) + "後に",
    "when": lambda word, kind, _p: ja.before_noun(word, kind) + "時",
    "adn": lambda word, kind, _p: ja.before_noun(word, kind),
    "adnp": lambda word, kind, _p: ja.ta(word, kind),
    "adnf": lambda word, kind, _p: word,
    "adv": lambda word, kind, _p: ja.adverb(word, kind),
    "even": lambda word, kind, _p: ja.te(word, kind) + "も",
    "bg": lambda word, kind, _p: _plain(word, kind) + "けど",
    "thing": lambda word, kind, _p: ja.before_noun(word, kind) + "のが",
    "thingo": lambda word, kind, _p: ja.before_noun(word, kind) + "のを",
    "as": lambda word, kind, _p: ja.ta(word, kind) + "まま",
    "mustn": lambda word, kind, _p: ja.te(word, kind) + "こそ",
    "n": _plain,
    "np": lambda word, kind, _p: ja.ta(word, kind),
    "ncont": lambda word, kind, _p: ja.te(word, kind) + "いる",
}


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
