"""Forms in Japanese: name of a form -> how it is made. Final forms are casual (食べたよ) or polite (食べました)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from rplab.backend.scripted import conjugate_ja as ja

_Ja: TypeAlias = Callable[[str, str, bool], str]


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


def _look(casual: str, polite: str) -> _Ja:
    return lambda word, kind, level: ja.look(word, kind) + (polite if level else casual)


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
    "imp": _te("", "ください"),
    "neg": _tail(_negative, "よ", ""),
    "negp": _tail(_negative_past, "よ", ""),
    "negf": _tail(_negative, "よ", ""),
    "can": _potential("るよ", "ます"),
    "canq": _potential("る", "ますか"),
    "cannot": _potential("ない", "ません"),
    "prog": _te("いるよ", "います"),
    "progp": _te("いたよ", "いました"),
    "progq": _te("いる", "いますか"),
    "seem": _look("だよ", "です"),
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
    "fav": lambda word, kind, _p: ja.te(word, kind) + "くれて",
    "before": lambda word, _k, _p: word + "前に",
    "after": lambda word, kind, _p: ja.ta(word, kind) + "後に",
    "when": lambda word, kind, _p: ja.before_noun(word, kind) + "時",
    "adn": lambda word, kind, _p: ja.before_noun(word, kind),
    "adnp": lambda word, kind, _p: ja.ta(word, kind),
    "adnf": lambda word, _k, _p: word,
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
