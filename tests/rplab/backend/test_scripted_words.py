"""Conjugation and particles of the scripted grammar, against forms that a reader knows by heart."""

import pytest

from rplab.backend.scripted.forms import inflect_ja, inflect_ko
from rplab.backend.scripted.hangul import fit_particle


@pytest.mark.parametrize(
    ("word", "particle", "expected"),
    [
        ("사야", "은", "사야는"),
        ("책", "을", "책을"),
        ("별", "으로", "별로"),
        ("공원", "으로", "공원으로"),
        ("커피", "이라면", "커피라면"),
        ("약속", "에서", "약속에서"),
        ("RP", "은", "RP는"),
    ],
)
def test_particles_follow_the_last_sound(word, particle, expected):
    assert fit_particle(word, particle) == expected


KOREAN = {
    ("마시다", "v"): {"e": "마셔요", "p": "마셨어요", "f": "마실게요", "n": "마신다", "hq": "드세요", "adn": "마시는"},
    ("듣다", "v"): {"e": "들어요", "if": "들으면", "n": "듣는다", "adnp": "들은", "hq": "들으세요"},
    ("돕다", "v"): {"e": "도와요", "f": "도울게요", "n": "돕는다"},
    ("만들다", "v"): {"n": "만든다", "since": "만드니까", "f": "만들게요", "ne": "만드네요", "imp": "만드세요"},
    ("고르다", "v"): {"e": "골라요", "n": "고른다"},
    ("짓다", "v"): {"e": "지어요", "n": "짓는다", "if": "지으면"},
    ("무겁다", "a"): {"e": "무거워요", "n": "무겁다", "adn": "무거운"},
    ("재미있다", "a"): {"adn": "재미있는", "n": "재미있다"},
    ("예쁘다", "a"): {"e": "예뻐요", "adn": "예쁜", "bg": "예쁜데"},
    ("되다", "v"): {"e": "돼요"},
    ("들려주다", "v"): {"req": "들려주세요", "reqq": "들려주실래요"},
    ("아니다", "a"): {"e": "아니에요"},
}


@pytest.mark.parametrize(("lemma", "pos", "form", "expected"), [(*word, f, e) for word, forms in KOREAN.items() for f, e in forms.items()])
def test_korean_forms(lemma, pos, form, expected):
    assert inflect_ko(lemma, pos, form, "p") == expected


@pytest.mark.parametrize(
    ("form", "casual", "polite", "formal"),
    [
        ("p", "갔어", "갔어요", "갔습니다"),
        ("f", "갈게", "갈게요", "가겠습니다"),
        ("will", "갈 거야", "갈 거예요", "갈 겁니다"),
        ("lets", "가자", "가요", "가요"),
        ("dont", "가지 마", "가지 마세요", "가지 마세요"),
    ],
)
def test_speech_levels_of_final_forms(form, casual, polite, formal):
    assert [inflect_ko("가다", "v", form, level) for level in ("c", "p", "h")] == [casual, polite, formal]


JAPANESE = {
    ("飲む", "g"): {
        "e": ("飲むよ", "飲みます"),
        "p": ("飲んだよ", "飲みました"),
        "req": ("飲んで", "飲んでください"),
        "can": ("飲めるよ", "飲めます"),
    },
    ("行く", "g"): {"p": ("行ったよ", "行きました"), "wil": ("行かない", "行きませんか"), "lets": ("行こう", "行きましょう")},
    ("来る", "k"): {"neg": ("来ないよ", "来ません"), "p": ("来たよ", "来ました"), "lets": ("来よう", "来ましょう")},
    ("練習する", "s"): {"cannot": ("練習できない", "練習できません"), "want": ("練習したい", "練習したいです")},
    ("いい", "a"): {"p": ("よかったよ", "よかったです"), "neg": ("よくないよ", "よくないです")},
    ("静か", "n"): {"e": ("静かだよ", "静かです"), "q": ("静か", "静かですか"), "geo": ("静かなんだ", "静かなんです")},
}


@pytest.mark.parametrize(
    ("word", "kind", "form", "expected"), [(*word, f, e) for word, forms in JAPANESE.items() for f, e in forms.items()]
)
def test_japanese_forms(word, kind, form, expected):
    assert (inflect_ja(word, kind, form, False), inflect_ja(word, kind, form, True)) == expected
