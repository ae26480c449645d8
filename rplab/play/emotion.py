"""How a line is to be spoken, read from the words around it.

The narration of a reply ends before its speech begins and a sentence is known before it is spoken, so looking for feeling
words costs no time: no second call of a language model stands between the text and the voice. Only what the character does
and says counts. The player's message does not (the predecessor let `너 미워` from the player make the character angry), and
words are looked for as words (it found 울다 in 서울).

To add a feeling: a row in `_CUES`, its style names in `_STYLES`, and its name in `Feeling`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

Feeling: TypeAlias = Literal["neutral", "happy", "sad", "angry", "calm"]

_START = r"(?<![가-힣])"
_TEARS, _STRONG, _PLAIN, _WEAK = 3.0, 2.0, 1.0, 0.5
_CUES: Mapping[Feeling, Sequence[tuple[str, float]]] = {
    # of equal weight, the first wins; tears are heard through a smile
    "angry": (
        (rf"{_START}(?:화를? ?[내났낸]|화가 ?[나났난치]|짜증|분노|성을? ?[내냈낸]|성난|열받|노려|쏘아보|쏘아붙|이를 (?:갈|악물))", _STRONG),
        (
            rf"{_START}(?:소리(?:를|치)? ?(?:지르|질렀|쳤|치며)|고함|호통|윽박|버럭|발끈|미간을|눈썹을 (?:치켜|찌푸)|눈을 (?:부라|흘기))",
            _STRONG,
        ),
        (rf"{_START}(?:싫어!|그만해|닥쳐|꺼져|저리 가|용서 못|용서하지 않|너무하|어떻게 그럴)", _PLAIN),
        (rf"{_START}(?:찌푸리|찡그리|찡그렸|찌푸렸|투덜|쏘았다|날카롭|차갑게|퉁명)", _PLAIN),
    ),
    "sad": (
        (rf"{_START}(?:눈물|울먹|흐느|훌쩍|글썽|울음|울었|울며|울면서|울고 있|울 것 같|오열|통곡)", _TEARS),
        (rf"{_START}(?:슬프|슬펐|슬픈|슬픔|서글프|서글픈|서러|서럽|쓸쓸|외로|외롭|외톨|그리워|그립)", _STRONG),
        (rf"{_START}(?:미안|잘못했|죄송|보고 싶었|가지 마|혼자 두지|헤어지|이별|마지막이)", _PLAIN),
        (rf"{_START}(?:고개를 (?:숙|떨구|떨궜|푹)|어깨를 (?:늘어|떨구|떨)|어깨가 (?:처|축)|한숨|시무룩|풀이 죽|침울|우울|힘없)", _PLAIN),
        (rf"{_START}(?:떨리는 목소리|목소리가 떨|입술을 깨물|말끝을 흐)", _WEAK),
    ),
    "happy": (
        (rf"{_START}(?:웃음|웃었|웃으며|웃으면서|웃는|웃어|웃고|웃는다|미소|방긋|활짝|싱긋|생긋|빙긋|깔깔|까르르|배시시|히죽)", _STRONG),
        (rf"{_START}(?:기쁘|기뻐|기쁜|기쁨|신나|신난|신이 ?[나났난]|들뜬|들떠|설레|행복|즐거|즐겁|환하게|환한|반짝)", _STRONG),
        (rf"{_START}(?:반가워|반갑|좋아!|좋아해|정말 좋|너무 좋|고마워|고맙|최고야|다행이|야호|만세|잘됐|축하|사랑해)", _PLAIN),
        (rf"{_START}(?:손뼉|박수|폴짝|깡충|손을 흔들|콧노래|흥얼|볼을 붉|얼굴을 붉|뺨을 붉)", _WEAK),
    ),
    "calm": (
        (rf"{_START}(?:속삭|소곤|나직|나지막|조용히|차분|가만히|잔잔|나긋|조곤)", _PLAIN),
        (rf"{_START}(?:천천히|부드럽게|다정하게|따뜻하게)", _WEAK),
    ),
}
_COMPILED: Mapping[Feeling, Sequence[tuple[re.Pattern[str], float]]] = {
    feeling: [(re.compile(pattern), weight) for pattern, weight in cues] for feeling, cues in _CUES.items()
}
_NEGATED_AFTER = re.compile(r"^[가-힣]{0,4}(?:지 ?(?:는|도|를)? ?(?:않|못|말)|[기]는커녕| 없[이었다]|이 없|도 없)")
_NEGATED_BEFORE = re.compile(r"(?:^|\s)(?:안|못|덜)\s$")
_THRESHOLD = 0.8
_SPEECH_WEIGHT = 0.8
"""What is said may be said in play; what the narration tells is meant."""

_STYLES: Mapping[Feeling, Sequence[str]] = {
    "neutral": (),
    "happy": ("happy", "joy", "cheerful", "嬉", "うれし", "楽し", "たのし", "喜", "明る", "笑"),
    "sad": ("sad", "sorrow", "悲", "かなし", "哀", "泣", "しょんぼり"),
    "angry": ("angry", "anger", "怒", "ツン", "不機嫌"),
    "calm": ("calm", "whisper", "gentle", "soft", "ささやき", "落ち着", "穏やか", "静か"),
}
"""Parts of style names, as voices of this family name them."""


def feel(narration: str, speech: str = "") -> Feeling:
    """Return the feeling of a sentence.

    Args:
        narration: What was told since the last sentence of speech before this utterance; may be empty.
        speech: The sentence itself.

    Example:
        >>> feel("사야는 환하게 웃었다.", "왔구나."), feel("사야는 서울을 생각했다.", "응, 괜찮아.")
        ('happy', 'neutral')
    """
    best: Feeling = "neutral"
    highest = 0.0
    for feeling in _COMPILED:
        score = _score(feeling, narration) + _SPEECH_WEIGHT * _score(feeling, speech)
        if score > highest and score >= _THRESHOLD:  # the first of equals
            best, highest = feeling, score
    return best


def _score(feeling: Feeling, text: str) -> float:
    total = 0.0
    for pattern, weight in _COMPILED[feeling]:
        for match in pattern.finditer(text):
            if not _NEGATED_AFTER.match(text[match.end() :]) and not _NEGATED_BEFORE.search(text[: match.start()]):
                total += weight
                break
    return total


def choose_style(feeling: Feeling, styles: Sequence[str]) -> str:
    """Return the style of a voice for a feeling; empty (the voice's own) when it has none.

    Example:
        >>> choose_style("sad", ["Neutral", "悲しい", "Happy"]), choose_style("angry", ["Neutral"])
        ('悲しい', '')
    """
    for part in _STYLES[feeling]:
        for style in styles:
            if part in style.casefold():
                return style
    return ""
