"""Forms in Korean: name of a form -> how it is made.

Final forms depend on the speech level: "c" casual (먹었어), "p" polite (먹었어요), "h" formal polite (먹었습니다).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from rplab.backend.scripted import conjugate_ko as ko

Level: TypeAlias = Literal["c", "p", "h"]

_Ko: TypeAlias = Callable[[str, str, Level], str]


def _levels(casual: Callable[[str], str], formal: Callable[[str], str] | None = None) -> _Ko:
    """Final form: casual + 요 when polite, or its own formal form."""

    def render(stem: str, _pos: str, level: Level) -> str:
        if level == "h" and formal is not None:
            return formal(stem)
        text = casual(stem)
        if level == "c":
            return text
        return (text[:-1] + "에요") if text.endswith("아니야") else text + "요"

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
    "fav": _link(lambda s, _p: (ko.linked(s) + "서") if s.endswith("주") else ko.linked(s) + " 줘서"),
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
