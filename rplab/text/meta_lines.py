"""Lines that are about the text instead of being part of it: rules, headings, choices, states, announcements.

Models leave such lines in role-play replies. Each pattern must hold for a whole line without quotation marks, so that
nothing anybody says is ever taken for one: `"이제 축제를 시작하자."` is speech, `아래는 다듬은 결과입니다.` is not.

To add a kind: write its pattern into `_KINDS`; the tests list lines that must stay.
"""

from __future__ import annotations

import re
from enum import StrEnum


class MetaKind(StrEnum):
    """What a line is instead of story."""

    RULE = "rule_line"
    """`---`, `===`."""
    TAG = "slash_tag"
    """`/미소/`; not 1/2/3, dates, URLs or 남/녀/노소."""
    BOLD = "bold_line"
    """`**장면 1**`."""
    DIRECTION = "scene_direction"
    """`[장면 전환]`, `(잠시 뒤)`, `배경: 서점`."""
    STATE = "state_line"
    """`현재 상태: BOND`."""
    CHOICE = "choice_line"
    """`1. 따라간다.`, `A) 남는다.`, `② 돌아간다.`."""
    SELF_INSTRUCTION = "self_instruction"
    """`아래는 다듬은 결과입니다.`."""


_RULE = re.compile(r"\s*(?:-{3,}|={3,})\s*")
_PRODUCT = (
    r"(?:결과|결과물|답변|응답|출력|버전|문장|초안|대사|서술|답|글|대화|장면|시나리오|롤플레이|"
    r"역할극|역할|형식|지시|규칙|작성|내용|텍스트|번역)"
)
_SAYS = r"(?:입니다|합니다|습니다|할게요|하겠습니다|드립니다|드릴게요|드리겠습니다|세요|니까|이에요|예요|할게|하겠다|하자|해\s?줘)"

_KINDS: tuple[tuple[MetaKind, re.Pattern[str]], ...] = (
    (MetaKind.RULE, re.compile(r"[-=─—_*~·#]{3,}")),
    (
        MetaKind.TAG,
        re.compile(r"(?:.*(?<![0-9:/\w]))?/(?=[^/]*[^\W\d])[^/]{1,40}/(?![0-9/]).*|.*(?<![0-9:/])/(?=[^/]*[^\W\d])[^/]{1,40}/(?:\s.*)?"),
    ),
    (MetaKind.BOLD, re.compile(r"\*\*[^*]+\*\*[:：]?|__[^_]+__[:：]?|#{1,6}\s.*")),
    (
        MetaKind.DIRECTION,
        re.compile(
            r"\[[^\]]*\]|【[^】]*】|[(（][^()（）]*[)）]|<[^>]*>|(?:장면|씬|배경|무대|효과음|컷|Scene|scene|SCENE|BGM)(?:\s?\d+|\s전환)?\s*(?:[:：].*|[.]?)"
        ),
    ),
    (
        MetaKind.STATE,
        re.compile(
            r"(?:(?:현재|다음|이전)\s?)?(?:(?:관계|행동|감정|대화)\s?)?(?:상태|단계|신호|전이|의도)(?:\s?(?:전이|머신|기계))?\s*[:：=→].*"
            r"|(?i:(?:current|next|relation|action|dialogue|fsm)?[ _-]?(?:state|signals?|action|intent|fsm|phase))\s*[:：=→].*"
            r"|[A-Z][A-Z_]{2,}(?:\s*(?:->|→|,|/|=>)\s*[A-Z_]{3,})*[.]?"
            r"|(?:FSM|상태\s?머신|상태\s?기계).*"
        ),
    ),
    (
        MetaKind.CHOICE,
        re.compile(r"(?:\d{1,2}[.)](?!\d)|[A-Ca-c][.)]|\([A-Ca-c1-9]\)|[A-C]\s?[:：]|[①-⑳]|(?:선택지|선택)\s?\w?\s?[:：])\s*\S?.*"),
    ),
    (
        MetaKind.SELF_INSTRUCTION,
        re.compile(
            rf"(?:아래는|다음은|이하는|이상은|여기|위는)\s.*{_PRODUCT}.*{_SAYS}[.!:]?"
            rf"|(?:이제|그럼|그러면|지금부터|먼저|바로)\s.*{_PRODUCT}.*{_SAYS}[.!:]?"
            rf"|(?:네|예|좋습니다|알겠습니다|물론입니다)[,.!]?\s.*{_PRODUCT}.*{_SAYS}[.!:]?"
            rf"|.*{_PRODUCT}\S{{0,2}}\s(?:다시\s)?(?:수정|작성|생성|출력|정리|재작성|변환|교정|준수|시작)\S{{0,2}}(?:했습니다|하겠습니다|합니다|할게요|하였습니다|해야\s합니다)[.!]?"
            r"|.*(?:프롬프트|시스템 메시지|출력 형식|지시 사항|지시사항|시나리오북).*"
            r"|(?i:(?:sure|certainly|of course)[,!. ].*|here(?: is|'s) .*|below is .*|as an ai\b.*|(?:output|note|response|answer)\s*:.*)"
        ),
    ),
)
_QUOTED = re.compile(r"[\"“”「『‘'].*")
_QUOTABLE = frozenset({MetaKind.RULE, MetaKind.TAG})


def find_meta(line: str) -> MetaKind | None:
    """Return what kind of meta line a line is; None for story. A line that starts with a quotation mark is story.

    >>> find_meta("아래는 다듬은 결과입니다.").value, find_meta('"이제 축제를 시작하자."')
    ('self_instruction', None)
    """
    text = line.strip()
    if _QUOTED.match(text):
        return None
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(text)), None)


def is_rule_line(line: str) -> bool:
    """Return whether a line is a separator (`---`, `===`)."""
    return _RULE.fullmatch(line) is not None


_POLICY_HEAD = re.compile(
    r"[\[【(<#*\s]*(?:(?:고정|공통|최우선|시스템|기본|출력|응답|작성|형식)\s?)*(?:정책|규칙|지침|규정|POLICY|Policy|policy|RULES|Rules|rules)(?![가-힣A-Za-z])"
)
_POLICY_WORDS = ("정책", "지침", "규칙", "금지", "반드시", "하지 않는다", "하지 마", "대사", "must", "never", "롤플레이")
_FORM_WORDS = ("출력", "형식", "두 줄", "큰따옴표", "서술", "메타", "다체", "format", "system prompt")
"""Words about the form of an answer count double: a setting hardly has them."""


def is_policy(text: str) -> bool:
    """Return whether a system text reads like fixed rules of output instead of a setting (its heading, or three points of words)."""
    if _POLICY_HEAD.match(text):
        return True
    return sum(word in text for word in _POLICY_WORDS) + 2 * sum(word in text for word in _FORM_WORDS) >= 3
