"""What a line is about and in which mood it is said: topics, speech acts, moods."""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Literal, TypeAlias

from rplab.backend.scripted.hangul import initial
from rplab.backend.scripted.lexicon import Action, Noun, Words, load_lexicon

Mood: TypeAlias = Literal["warm", "shy", "calm", "guarded", "cold", "sad", "tense", "firm"]
Polarity: TypeAlias = Literal["pos", "neg"]

GENRE_CATEGORIES: dict[str, tuple[str, ...]] = {
    "연애물": (
        "drink",
        "food",
        "reading",
        "sound",
        "sky",
        "sky",
        "place",
        "room",
        "hobby",
        "plant",
        "animal",
        "item",
        "item",
        "memory",
        "dream",
    ),
    "비극": ("parting", "parting", "memory", "vow", "feeling", "danger", "weather", "item", "sky", "secret", "reading", "sound"),
    "육성물": ("skill", "skill", "skill", "task", "gear", "dream", "hobby", "place", "food", "drink"),
    "성장물": ("dream", "dream", "skill", "task", "feeling", "secret", "vow", "place", "hobby", "gear"),
    "심리 시뮬레이션": ("feeling", "feeling", "memory", "secret", "sound", "room", "reading", "vow", "item", "weather"),
}
GENRE_MOOD: dict[str, Mood] = {"연애물": "shy", "비극": "sad", "육성물": "firm", "성장물": "firm", "심리 시뮬레이션": "tense"}
STAGE_CATEGORIES: dict[str, tuple[str, ...]] = {
    "confession": ("sky", "item", "plant", "reading", "sound", "place"),
    "drill": ("skill",),
    "rescue": ("danger",),
    "truth": ("feeling", "secret", "memory"),
    "crisis": ("feeling",),
}
"""What a staged scene is about; another topic gives way when the scene begins."""
PLEASANT = GENRE_CATEGORIES["연애물"]
"""What a change of topic turns to."""
_ACT_MOOD: dict[str, Mood] = {
    "doubt": "cold",
    "worry": "calm",
    "sorry": "sad",
    "thanks": "warm",
    "resolve": "firm",
    "encourage": "warm",
    "confess": "shy",
    "request": "calm",
}
PERIL = frozenset({"danger", "weather"})
PLACES = frozenset({"place", "room", "spot", "way"})
HERE = Words("이곳", "ここ")
"""A place that the lexicon does not know."""

_AFTER = r"(?=은|는|이|가|을|를|에|의|과|와|도|만|로|으로|라|까지|부터|보다|처럼|나|이나|랑|이랑|조차|마저|뿐|들|야|예|였|[^가-힣]|$)"
_AMBIGUOUS = frozenset({"배", "책", "상처"})
"""Also parts of the body and the like: taken from speech only."""

_ACTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("news", re.compile(r"근처에서|쪽에서|소식|칭찬했|부탁받|쪽지|두고 갔|남아 있|바뀌었|다 같이|갇힌|서두르고 있")),
    ("thanks", re.compile(r"고마|고맙|감사")),
    ("sorry", re.compile(r"미안|죄송")),
    ("worry", re.compile(r"표정이|창백|지쳐 보|기운이 없|말수가|손이 차|걱정(?:했|하고 있었)|괜찮(?:아|으세요|아요)\?")),
    ("doubt", re.compile(r"왜 |믿을 수 없|틀렸|물러나|지 마(?:세요)?[.!]")),
    ("request", re.compile(r"(?:줘|주세요)[.!]|(?:줄래|주실래요|주겠어|주시겠어요)\?")),
    ("invite", re.compile(r"(?:래|래요|까|까요)\?|(?:함께|같이|이번에는|다음에도|다투지 말고|사과하고) [^.?!]*(?:자|요)[.!]|자[.!]$")),
    ("confess", re.compile(r"좋아해(?:요)?[.!]|좋아합니다|사랑|제일 (?:좋|행복)|가장 행복")),
    ("ask", re.compile(r"\?$")),
    ("offer", re.compile(r"(?:내가|제가) [^.?!]*(?:게|게요|겠습니다)[.!]")),
    ("resolve", re.compile(r"마무리|결정|문제는|끝내")),
    ("encourage", re.compile(r"포기하지|대단|노력|좋아졌|처음에 어려")),
    ("after", re.compile(r"끝나니까|마치고 나니|돌아보면|지났으니까")),
    ("notice", re.compile(r"(?:네|네요|지|죠)[.!]$")),
)


@cache
def _finder() -> re.Pattern[str]:
    words = sorted(load_lexicon().nouns, key=len, reverse=True)
    return re.compile(r"(?<![가-힣])(" + "|".join(map(re.escape, words)) + ")" + _AFTER)


def find_topics(text: str, *, narration: bool = False) -> list[Noun]:
    """Return the known nouns of a text in order; words that also name body parts only from speech."""
    nouns = load_lexicon().nouns
    found = (nouns[match[1]] for match in _finder().finditer(text))
    return [noun for noun in found if not (narration and noun.ko in _AMBIGUOUS)]


def spoken(turn: str) -> str:
    """Return the quoted words of a turn, or its last line."""
    match = re.search(r'"([^"\n]+)"', turn)
    return match[1] if match else turn.rsplit("\n", 1)[-1].strip('" ')


def find_act(speech: str, topic: Noun | None) -> str:
    """Return what a line does: invite, ask, offer, request, tell, thanks, ..."""
    act = next((name for name, pattern in _ACTS if pattern.search(speech.strip())), "tell")
    if act in ("tell", "notice") and topic is not None and topic.category in PERIL:
        return "danger"
    return act


def draw_topic(
    rng: random.Random, genre: str, era: str, *, without: frozenset[str] = frozenset(), categories: tuple[str, ...] = ()
) -> Noun:
    """Draw something that the genre likes to talk about (or of the given categories) and the era knows."""
    names = categories or GENRE_CATEGORIES.get(genre, GENRE_CATEGORIES["연애물"])
    noun: Noun | None = None
    for _ in range(4):
        nouns = _nouns(names[int(rng.random() * len(names))], era)
        noun = nouns[int(rng.random() * len(nouns))]
        if noun.ko not in without:
            break
    assert noun is not None
    return noun


@cache
def _nouns(category: str, era: str) -> tuple[Noun, ...]:
    return tuple(noun for noun in load_lexicon().categories[category].nouns if noun.era in ("", era))


@cache
def _places(era: str) -> tuple[Noun, ...]:
    return _nouns("place", era) + _nouns("room", era)


def find_action(speech: str, topic: Noun) -> Action | None:
    """Return what a line does with its topic, found by the particle and the first sound of the verb, or None."""
    best, best_score = None, 0.0
    for action in load_lexicon().categories[topic.category].actions:
        lemma = action.predicate.ko
        head = action.on(topic).before_ko
        at = speech.find(head)
        if at < 0 or not (rest := speech[at + len(head) :]):
            continue
        common = next((i for i, (a, b) in enumerate(zip(rest, lemma, strict=False)) if a != b), min(len(rest), len(lemma)))
        score = common + 0.5 * (common < len(lemma) and common < len(rest) and initial(rest[common]) == initial(lemma[common]))
        if score > best_score:
            best, best_score = action, score
    return best


def find_place(text: str, rng: random.Random, era: str) -> Words:
    """Return the place that a text names; one of the era when there is no text."""
    known = [noun for noun in find_topics(text) if noun.category in PLACES]
    if not known and text.strip():  # a place of its own, which no random one may contradict
        return HERE
    noun = known[-1] if known else _places(era)[int(rng.random() * len(_places(era)))]
    return Words(noun.ko, noun.ja)


@cache
def acts_of(group: str) -> frozenset[str]:
    """Return what can be said first about the topics of a group."""
    names = (name.split("/") for name in load_lexicon().templates)
    return frozenset(parts[1] for parts in names if parts[0] == "open" and parts[2] == group)


def choose_act(rng: random.Random, wanted: tuple[str, ...], topic: Noun) -> str:
    """Draw one of the wanted acts that fits the topic; `tell` always fits."""
    known = acts_of(load_lexicon().categories[topic.category].group)
    fitting = [act for act in wanted if act in known] or ["tell"]
    return fitting[int(rng.random() * len(fitting))]


def choose_mood(rng: random.Random, genre: str, relation: str, intent: str, action: str) -> Mood:
    """Draw the mood of a turn."""
    draw = rng.random()
    if action.startswith("CRISIS"):
        return "tense"
    rising = intent == "rise"
    if relation == "적대":
        return "guarded" if rising and draw < 0.7 else "cold"
    if relation == "거리감":
        return ("calm" if draw < 0.6 else _own(genre)) if rising else ("guarded" if draw < 0.7 else "cold")
    if not rising:
        return "sad" if relation == "사랑" and draw < 0.6 else "calm" if draw < 0.5 else _own(genre)
    return "warm" if draw < (0.5 if relation == "사랑" else 0.6) else _own(genre)


def _own(genre: str) -> Mood:
    return GENRE_MOOD.get(genre, "calm")


def mood_of_act(act: str, topic: Noun, mood: Mood) -> Mood:
    """Return how somebody looks who says this: nobody laughs while making a reproach or fleeing from a fire."""
    if topic.category in PERIL:
        return "tense"
    if act not in _ACT_MOOD and mood == "cold":
        return "calm"
    return _ACT_MOOD.get(act, mood)


def agree(mood: Mood, polarity: Polarity, topic: Noun) -> Mood:
    """Return a mood that does not contradict the answer."""
    if polarity == "neg" and mood in ("warm", "shy", "firm"):
        return "guarded" if mood == "firm" else "calm"
    if polarity == "pos" and mood == "cold":
        return "guarded"
    return "tense" if topic.category in PERIL and mood in ("warm", "shy") else mood


def tail_of(mood: Mood, polarity: Polarity, topic: Noun) -> Mood:
    """Return the mood of a second sentence: resolve and fear do not go with a cup of tea."""
    light = load_lexicon().categories[topic.category].group in ("fun", "goods")
    if light and mood in ("firm", "tense"):
        return "warm" if polarity == "pos" else "guarded"
    return mood


def choose_polarity(rng: random.Random, relation: str, intent: str) -> Polarity:
    """Draw whether a reaction agrees or turns away."""
    share = (0.9 if intent == "rise" else 0.35) - (0.35 if relation == "적대" else 0.0)
    return "pos" if rng.random() < share else "neg"
