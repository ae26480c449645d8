"""Find what is worth remembering in an exchange: by asking the model, or by rules where the model cannot.

Both give candidates of one kind; `rplab.play.memory` scores and folds them. Rules know the plain ways in which Korean says
such things and read only the player's own words, so they find less and invent nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rplab.play.history import Messages
from rplab.play.memory import TYPE_WEIGHTS, Candidate, Slot, make_candidate
from rplab.play.tree import Node
from rplab.text.korean import compose

MAX_TOKENS = 420
_MAX_CANDIDATES = 8


@dataclass(frozen=True)
class Found:
    """What an answer of the model held."""

    candidates: list[Candidate]
    num_dropped: int = 0
    """Items that were incomplete or of no known type."""


def extraction_prompt(node: Node, *, player: str, character: str, known: Sequence[Slot]) -> Messages:
    """Return the question to the model; it answers with the JSON object that `read_candidates` reads."""
    kinds = ", ".join(TYPE_WEIGHTS)
    system = (
        "너는 대화에서 오래 기억할 것만 골라 JSON으로 적는 기록자다. 대화에 나오지 않은 것은 적지 않는다. "
        "기억할 것이 없으면 빈 목록을 낸다.\n"
        f'형식: {{"candidates": [{{"type": 종류, "subject": 누구, "key": 무엇, "value": 내용, "confidence": 0~1, "future_impact": 0~1, '
        f'"emotion_intensity": 0~1}}]}}\n종류: {kinds}\nsubject는 {player} 또는 {character}. '
        "이미 아는 것이 바뀌었으면 같은 key를 다시 쓴다. JSON만 출력한다."
    )
    facts = "\n".join(f"- {slot.text}" for slot in known) or "- 없음"
    said = f"이미 아는 것:\n{facts}\n\n대화:\n{player}: {node.user}\n{character}: {node.told}"
    return [{"role": "system", "content": system}, {"role": "user", "content": said}]


def read_candidates(answer: str) -> Found | None:
    """Read the model's answer; None when it is no such JSON object.

    Example:
        >>> read_candidates('네! {"candidates": [{"type": "fact", "subject": "카즈키", "key": "직업", "value": "목수"}]}').num_dropped
        0
    """
    start, end = answer.find("{"), answer.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        data = json.loads(answer[start : end + 1])
    except (ValueError, RecursionError):
        return None
    rows = data.get("candidates") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        return None
    made = [make_candidate(row) if isinstance(row, dict) else None for row in rows]
    good = [candidate for candidate in made if candidate is not None and candidate.type in TYPE_WEIGHTS]
    return Found(good[:_MAX_CANDIDATES], len(rows) - len(good[:_MAX_CANDIDATES]))


def find_by_rules(node: Node, *, player: str, character: str) -> list[Candidate]:
    """Return what the player's own words say plainly.

    Example:
        >>> said = Node(1, 0, "나는 민트초코를 정말 좋아해.", "")
        >>> [(found.type, found.key, found.value) for found in find_by_rules(said, player="카즈키", character="사야")]
        [('preference', '민트초코', '좋아한다')]
    """
    found: list[Candidate] = []
    for sentence in re.findall(r"[^.!?…。！？\n]+[.!?…。！？]*", _words_said(compose(node.user))):
        found += _read_sentence(" ".join(sentence.split()), player, character)
    unique = {(candidate.type, candidate.key): candidate for candidate in found}
    return list(unique.values())[:_MAX_CANDIDATES]


def _words_said(text: str) -> str:
    """Leave out stage directions: `*웃는다*`, `(웃으며)`."""
    return re.sub(r"\*[^*\n]*\*|\([^()\n]*\)", " ", text).replace('"', " ").replace("“", " ").replace("”", " ")


_ME = r"(?:(?:나는|난|내가|나도|저는|전|제가|나|저)\s+)?"
_VERY = r"(?:(?:정말로?|진짜로?|너무|아주|제일|가장|참|무척|완전|더|그렇게|사실은?|원래|역시|요즘은?|이제는?)\s+)*"
_PREFERENCE = re.compile(
    rf"^{_ME}{_VERY}(?P<key>[\w가-힣 ]{{1,30}}?)(?:을|를|이|가|은|는)?\s+{_VERY}"
    r"(?P<verb>(?:안|못)\s*좋아|좋아하지\s*않|좋아[해하한]|좋더라|좋아요|좋아$|사랑해|즐겨|싫어[해하한]?|싫더라|싫다|질색|못\s*먹)"
)
_BAD = re.compile(r"^(?:안|못|싫|질색|좋아하지)")
_MINE = re.compile(
    r"(?:^|[\s,])(?:내|제|우리)\s+(?P<key>[\w가-힣]+(?: [\w가-힣]+)?)(?:은|는|이|가)\s+(?P<value>[^,]{1,40}?)"
    r"(?:이야|이에요|예요|야|입니다|이고|고|라고 해|이라고 해|라고|다)?[.!~]*$"
)
_AM = re.compile(
    r"^(?:나는|난|저는|전)\s+(?:사실\s+)?(?P<value>[\w가-힣 ]{1,30}?)(?:이야|이에요|예요|야|입니다|거든|이거든|이라서|라서)[.!~]*$"
)
_FROM = re.compile(
    r"^(?:(?:나는|난|저는|전|내가|나|저)\s+)?(?P<value>[가-힣\w]{1,15})(?:에|에서)\s+(?P<what>살아|살고|산다|일해|일하고|태어났)"
)
_WHEN = (
    r"(?P<when>내일|모레|글피|다음에|다음 주|다음 달|이번 주말|주말|이번 주|오늘 밤|오늘 저녁|언젠가|나중에|방학|여름|겨울|봄|가을|생일)"
)
_PLAN = re.compile(rf"{_WHEN}.{{0,40}}?(?:자|할게|갈게|올게|하자|가자|할 거야|갈 거야|올 거야|만나|보자|볼까|할까|갈까)[.!?~]*$")
_PROMISE = re.compile(
    r"약속|꼭\s.{1,30}(?:게|ㄹ게|할게|줄게|올게|갈게)|(?:지킬게|잊지 않을게|기다릴게|데려갈게|돌아올게|보여 ?줄게|사 ?줄게)"
)
_BOUNDARY = re.compile(r"(?:지\s*마(?:라|요|세요)?|지\s*말아\s*(?:줘|요)?|지\s*않았으면|는\s*건\s*싫)[.!~]*$")
_BOND = re.compile(r"(?:우리는|우린|우리|너랑 나는|너와 나는)\s+(?:이제\s+)?(?P<value>친구|연인|가족|남매|동료|부부|라이벌|사제|파트너)")
_FEELING = re.compile(
    r"(?P<value>슬프|슬퍼|외롭|외로[워웠]|행복|무섭|무서[워웠]|화가? ?나|화났|기쁘|기뻐|불안|피곤|힘들|우울|설레|그리[워웠]|답답|속상|서운)"
)
_FEELINGS = {
    "슬프": "슬프다", "슬퍼": "슬프다", "외롭": "외롭다", "외로": "외롭다", "행복": "행복하다", "무섭": "무섭다", "무서": "무섭다",
    "화": "화가 났다", "기쁘": "기쁘다", "기뻐": "기쁘다", "불안": "불안하다", "피곤": "피곤하다", "힘들": "힘들다",
    "우울": "우울하다", "설레": "설렌다", "그리": "그리워한다", "답답": "답답하다", "속상": "속상하다", "서운": "서운하다",
}  # fmt: skip
_ASKS = re.compile(r"[?？]\s*$|(?:니|까|냐|나요|가요)[?.!]*$")
_NO_KEY = frozenset(
    {
        "네",
        "너",
        "니",
        "당신",
        "그",
        "이",
        "저",
        "그게",
        "이게",
        "그거",
        "이거",
        "그건",
        "이건",
        "것",
        "거",
        "사람",
        "네가",
        "너는",
        "너도",
        "",
    }
)


def _read_sentence(sentence: str, player: str, character: str) -> Iterable[Candidate]:
    plain = sentence.rstrip(" .!~…。！")
    if match := _BOND.search(sentence):
        yield _make("relationship", player, f"{character}와의 사이", match["value"], sentence, impact=0.8)
    if _ASKS.search(sentence) and not _PLAN.search(sentence):
        return
    if _BOUNDARY.search(plain):
        yield _make("boundary", player, re.sub(r"\s*(?:지\s*마|지\s*말|지\s*않|는\s*건).*$", "", plain)[-40:], plain, sentence, impact=0.8)
    elif _PROMISE.search(plain):
        yield _make("promise", player, plain[:40], plain, sentence, impact=0.8)
    elif match := _PLAN.search(plain):
        yield _make("plan", player, match["when"], plain, sentence, impact=0.7)
    elif (match := _PREFERENCE.search(plain)) and match["key"].strip() not in _NO_KEY:
        value = "싫어한다" if _BAD.match(match["verb"]) else "좋아한다"
        yield _make("preference", player, match["key"].strip(), value, sentence)
    elif match := _MINE.search(plain):
        yield _make("fact", player, match["key"], match["value"].strip(), sentence, impact=0.6)
    elif match := _FROM.search(plain):
        key = {"살": "사는 곳", "산": "사는 곳", "일": "일하는 곳", "태": "태어난 곳"}[match["what"][0]]
        yield _make("fact", player, key, match["value"], sentence, impact=0.6)
    elif (match := _AM.search(plain)) and match["value"].strip() not in _NO_KEY:
        value = match["value"].strip()
        yield _make("fact", player, "나이" if value.endswith("살") else "신분", value, sentence, impact=0.6)
    elif match := _FEELING.search(plain):
        word = next(feeling for stem, feeling in _FEELINGS.items() if match["value"].startswith(stem))
        yield _make("emotion", player, "기분", word, sentence, intensity=0.8)


def _make(kind: str, subject: str, key: str, value: str, evidence: str, *, impact: float = 0.5, intensity: float = 0.3) -> Candidate:
    row = {"type": kind, "subject": subject, "key": key or value, "value": value, "evidence": evidence, "confidence": 0.9}
    candidate = make_candidate({**row, "future_impact": impact, "emotion_intensity": intensity})
    assert candidate is not None  # all four fields come from a match
    return candidate


def summary_prompt(before: str, nodes: Sequence[Node], *, player: str, character: str, max_chars: int) -> Messages:
    """Return the question for a summary that takes the old one's place."""
    system = (
        f"{player}와 {character}의 이야기를 이어서 요약한다. 지난 요약과 새 대화를 합쳐 {max_chars}자 안의 한국어 평서문으로 쓴다. "
        "일어난 일, 약속, 두 사람의 관계와 감정만 적고, 대화에 없는 것은 적지 않는다. 요약문만 출력한다."
    )
    said = "\n".join(f"{player}: {node.user}\n{character}: {node.told}" for node in nodes)
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": f"지난 요약:\n{before or '없음'}\n\n새 대화:\n{said}\n\n요약:"},
    ]


def digest(before: str, nodes: Sequence[Node], *, player: str, character: str, max_chars: int) -> str:
    """Return a summary without a model: the beginning of what each side said, the newest kept where room is short."""
    lines = [line for line in before.split("\n") if line]
    for node in nodes:
        lines.append(f"- {player} “{_first(node.user)}” / {character} “{_first(node.told)}”")
    while len(lines) > 1 and sum(len(line) + 1 for line in lines) > max_chars:
        lines.pop(0)
    return "\n".join(lines)[:max_chars]


def _first(text: str, limit: int = 60) -> str:
    """The first line of speech (or of anything), shortened."""
    spoken = re.search(r"[\"“]([^\"”]+)", text)
    words = " ".join((spoken[1] if spoken else text).split())
    return words if len(words) <= limit else words[: limit - 1] + "…"
