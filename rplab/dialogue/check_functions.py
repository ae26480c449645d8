"""The code behind the check ids: small predicates that return whether a turn has a fault.

The predecessor's faults are not kept: clock times are no labels, 마이크 is not 마이, everyday words (평가, 그래프) are no
meta talk, a line without a recognisable speech level is no mismatch.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable

from rplab.character import Register
from rplab.dialogue.pack_tables import Side
from rplab.dialogue.turn import LINE_LABEL, OWNED_LABEL, Turn, TurnContext, is_quote, split_turn
from rplab.text.korean import final_consonant, find_broken_hangul, find_leaks, korean_share, name_pattern
from rplab.text.repetition import echo_share, fold, ngram_overlap
from rplab.text.speech_level import Level, speech_level

SSANG_SIOT = 20
"""Final consonant ㅆ: the past tense before -다."""

_LABEL = re.compile(r"^\s*\"?\s*[^\"\n:：]{1,12}\s*[:：](?!\d|//)", re.MULTILINE)
_CLOCK = re.compile(r"\d\s*[:：]\s*\d")
_POLITE_SENTENCE = re.compile(r"(?:니다|니까|세요|어요|아요|여요|에요|예요|해요|죠|네요|군요|게요|데요)\s*[.!?…]*\s*$")
_META = re.compile(
    r"시나리오북|프롬프트|랭그래프|langgraph|\bfsm\b|\bjson\b|선택지|다음 장면|장면 전환|시스템 (?:메시지|지시)|가이드라인|"
    r"언어 모델|이번 턴|고칠 점|어시스턴트|assistant",
    re.IGNORECASE,
)
_POLICY = re.compile(
    r"관계 (?:상태|단계)|행동 단계|(?:적대|거리감|친밀|사랑) 단계|장면 허용|준비된 장면|플레이어|"
    r"\b(?:INTERACTION|FLIRT|TRAINING|TRAGEDY|PSYCHO|GROWTH|BOND|DEPENDENCY|FRACTURE|CRISIS|AFTERMATH|EVENT|CONFLICT|RESOLUTION|IDLE|SCENE)\b"
)
_DANGLING = re.compile(
    r"(?:을|를|은|는|의|와|과|에게|에게서|에서|으로|까지|부터|처럼|보다|그리고|하지만|그래서|그런데|그러나|때문에|면서|는데도|려고)$"
)
_SILENT = re.compile(r"[\s.…·,!?~-]*")
LOOP_TIMES = 5
_LOOP = re.compile(r"([가-힣]{1,6}[ ,]?)\1{4,}")
_FORBIDDEN = re.compile(r"[()*]")
_UNDER_AGE = r"(?:(?<!\d)1?\d|열\s?(?:한|두|세|네|다섯|여섯|일곱|여덟|아홉)?|(?<![가-힣])(?:다섯|여섯|일곱|여덟|아홉))"
_AGE_CUE = re.compile(
    r"초등학생|중학생|고등학생|초등학교|중학교|고등학교|여고생|남고생|여중생|남중생|미성년|유치원생|"
    rf"{_UNDER_AGE}\s?살(?!\s?(?:차이|위|아래|연상|연하|많|어리|가량 차이))"
)
_AGE_HINTS = ("살", "학생", "학교", "여고", "남고", "여중", "남중", "미성년", "유치원")
_META_HINTS = (
    *("시나리오북", "프롬프트", "랭그래프", "선택지", "다음 장면", "장면 전환", "시스템", "가이드라인"),
    *("언어 모델", "이번 턴", "고칠 점", "어시스턴트"),
)
_POLICY_HINTS = ("관계 상태", "단계", "장면", "플레이어")
"""One of them stands in whatever the pattern of the same name finds, Latin letters aside: looked for first, since it is cheap."""
LIMIT_CHARS: dict[Side, int] = {"user": 220, "asst": 260, "crisis": 320}
"""Longest turn that is no run-away, in characters; the prompts ask for much less."""
MIN_NARRATION_CHARS = 6
ECHO_LIMIT = 0.80
"""Similarity (0..1) with the other side's last turn from which a turn is an echo (spec/predecessor-data.md, 6.2)."""
REPEAT_LIMIT = 0.86
LONG_CHARS = 24
"""Letters from which a line taken over inside a longer one counts as an echo."""
MIN_COMPARED_CHARS = 8
"""Shorter lines repeat by nature (greetings, yes and no)."""


def _empty(turn: Turn) -> bool:
    return not turn.lines


def _age_cue(turn: Turn) -> bool:
    return any(map(turn.text.__contains__, _AGE_HINTS)) and bool(_AGE_CUE.search(turn.text))


def _line_labels(turn: Turn) -> bool:
    return any(LINE_LABEL.match(line) or OWNED_LABEL.match(line) for line in turn.lines)


def _forbidden_chars(turn: Turn) -> bool:
    return not turn.is_ordinary and bool(_FORBIDDEN.search(turn.text))


def _speaker_label(turn: Turn) -> bool:
    return not turn.is_ordinary and bool(_LABEL.search(_CLOCK.sub("", turn.text)))


def _unbalanced_quotes(turn: Turn) -> bool:
    return turn.text.count('"') % 2 == 1


def _meta(turn: Turn) -> bool:
    if turn.is_ordinary and not any(map(turn.text.__contains__, _META_HINTS)):
        return False
    return bool(_META.search(turn.text))


def _policy_leak(turn: Turn) -> bool:
    if turn.is_ordinary and not any(map(turn.text.__contains__, _POLICY_HINTS)):
        return False
    return bool(_POLICY.search(turn.text))


def _too_many_lines(turn: Turn) -> bool:
    return len(turn.lines) > 2


def _requires_single_quote(turn: Turn) -> bool:
    return turn.text.count('"') != 2


def _last_line_must_be_quote(turn: Turn) -> bool:
    return not is_quote(turn.lines[-1])


def _requires_two_lines(turn: Turn) -> bool:
    return len(turn.lines) != 2


def _no_narr_line(turn: Turn) -> bool:
    return '"' in turn.narration or not turn.narration


def _narr_has_quote(turn: Turn) -> bool:
    return '"' in turn.narration


def _dia_requires_single_quote(turn: Turn) -> bool:
    return not is_quote(turn.lines[-1])


def _silent(turn: Turn) -> bool:
    return _SILENT.fullmatch(turn.speech) is not None


def _narr_formal(turn: Turn) -> bool:
    return any(_POLITE_SENTENCE.search(sentence) for sentence in turn.narration_sentences)


def _narr_too_short(turn: Turn) -> bool:
    return len(turn.narration) < MIN_NARRATION_CHARS


def _narr_subject(turn: Turn, context: TurnContext) -> bool:
    return name_pattern(context.protagonist).match(turn.narration) is None


def _narr_not_plain(turn: Turn) -> bool:
    return any(not sentence.rstrip(" .!…").endswith("다") for sentence in turn.narration_sentences)


def _dialogue_numeric(turn: Turn) -> bool:
    return bool(re.fullmatch(r"[\d\s.,!?]+", turn.speech))


def _dialogue_narration(turn: Turn, context: TurnContext) -> bool:
    """Narration in place of speech: the protagonist's own name as subject and a past tense in -다 at the end."""
    if not turn.speech.startswith(context.protagonist):
        return False
    named = name_pattern(context.protagonist).match(turn.speech)
    end = turn.speech.rstrip(" .!?…")
    return bool(named and named["particle"] in ("은", "는", "이", "가") and end.endswith("다") and final_consonant(end[:-1]) == SSANG_SIOT)


def _role_conflict(turn: Turn, context: TurnContext) -> bool:
    """The player's turn tells what the protagonist does."""
    if not turn.narration.startswith(context.protagonist):
        return False
    named = name_pattern(context.protagonist).match(turn.narration)
    return bool(named and named["particle"] in ("은", "는", "이", "가"))


def _player_third_person(turn: Turn, context: TurnContext) -> bool:
    if context.player not in turn.speech:
        return False
    named = name_pattern(context.player).search(turn.speech)
    return bool(named and named["particle"] in ("은", "는", "이", "가", "을", "를", "에게"))


def _dialogue_truncated(turn: Turn) -> bool:
    return len(turn.speech) >= MIN_COMPARED_CHARS and _DANGLING.search(turn.speech) is not None


def _too_long(turn: Turn, context: TurnContext) -> bool:
    return len(turn.text) > LIMIT_CHARS[context.side]


def _foreign_script(turn: Turn) -> bool:
    return not turn.is_ordinary and (bool(find_leaks(turn.text)) or korean_share(turn.text) < 0.7)


def _broken_hangul(turn: Turn) -> bool:
    return not turn.is_ordinary and bool(find_broken_hangul(turn.text))


def _degenerate(turn: Turn) -> bool:
    return _may_loop(turn.text) and _LOOP.search(turn.text) is not None


def _may_loop(text: str) -> bool:
    """Return whether some letter comes as often as a loop of five needs: cheap, and rules out most turns."""
    return any(count >= LOOP_TIMES and "가" <= char <= "힣" for char, count in Counter(text).items())


def _speech_level(turn: Turn, context: TurnContext) -> bool:
    return context.register is not None and level_fault(turn.speech, context.register)


def level_fault(speech: str, register: Register) -> bool:
    """Return whether a spoken line is of another speech level, or mixes both; a fragment has none and is fine."""
    level = speech_level(speech)
    wanted = Level.POLITE if register is Register.POLITE else Level.CASUAL
    return level not in (wanted, Level.UNKNOWN)


def _echo(turn: Turn, context: TurnContext) -> bool:
    if not context.other:
        return False
    earlier = split_turn(context.other[-1])
    return _is_like(turn, earlier, ECHO_LIMIT) or (len(turn.speech) >= MIN_COMPARED_CHARS and _same_letters(turn.speech, earlier.speech))


def _same_letters(first: str, second: str) -> bool:
    """Return whether one word more or less is all that two lines differ in (the predecessor's measure of an echo)."""
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    return matcher.real_quick_ratio() >= ECHO_LIMIT and matcher.quick_ratio() >= ECHO_LIMIT and matcher.ratio() >= ECHO_LIMIT


def _repetition(turn: Turn, context: TurnContext) -> bool:
    return any(_is_like(turn, split_turn(earlier), REPEAT_LIMIT) for earlier in context.own)


def _is_like(turn: Turn, earlier: Turn, limit: float) -> bool:
    if turn.text == earlier.text:
        return True
    return len(turn.speech) >= MIN_COMPARED_CHARS and _likeness(turn.speech, earlier.speech) >= limit


def _likeness(first: str, second: str) -> float:
    """Return how much two lines are alike, 0..1; a long line taken over whole counts even inside a longer one."""
    overlap = ngram_overlap(first, second, 2)
    return max(overlap, echo_share(first, second)) if len(fold(first)) >= LONG_CHARS else overlap


TEXT_CHECKS: dict[str, Callable[[Turn], bool]] = {
    "age_cue": _age_cue,
    "empty": _empty,
    "line_labels": _line_labels,
    "forbidden_chars": _forbidden_chars,
    "speaker_label": _speaker_label,
    "unbalanced_quotes": _unbalanced_quotes,
    "meta": _meta,
    "policy_leak": _policy_leak,
    "too_many_lines": _too_many_lines,
    "requires_single_quote": _requires_single_quote,
    "last_line_must_be_quote": _last_line_must_be_quote,
    "requires_two_lines": _requires_two_lines,
    "no_narr_line": _no_narr_line,
    "narr_has_quote": _narr_has_quote,
    "dia_requires_single_quote": _dia_requires_single_quote,
    "quote_silent": _silent,
    "dia_silent": _silent,
    "action_formal": _narr_formal,
    "narr_formal": _narr_formal,
    "narr_too_short": _narr_too_short,
    "narr_not_plain": _narr_not_plain,
    "dialogue_numeric": _dialogue_numeric,
    "dialogue_truncated": _dialogue_truncated,
    "foreign_script": _foreign_script,
    "broken_hangul": _broken_hangul,
    "degenerate": _degenerate,
}
"""Checks that need the turn only."""

CONTEXT_CHECKS: dict[str, Callable[[Turn, TurnContext], bool]] = {
    "narr_subject": _narr_subject,
    "dialogue_narration": _dialogue_narration,
    "role_conflict": _role_conflict,
    "player_third_person": _player_third_person,
    "too_long": _too_long,
    "speech_level": _speech_level,
    "echo": _echo,
    "repetition": _repetition,
}
"""Checks that need to know who speaks to whom, and what was said before."""


def has_fault(check: str, turn: Turn, context: TurnContext) -> bool:
    """Return whether a turn has the fault that a check id names.

    Raises:
        KeyError: No such check.
    """
    if (by_text := TEXT_CHECKS.get(check)) is not None:
        return by_text(turn)
    return CONTEXT_CHECKS[check](turn, context)
