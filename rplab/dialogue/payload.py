"""Single-turn answers: finding the JSON in a reply, and everything a row must keep to.

The predecessor's rules (spec/predecessor-data.md, 1.6) without its gaps: a clock time is no speaker label, and the
user's shape, both languages, the speech level and the agreement of `scene` with `assistant_raw` are checked too.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, cast

from rplab.character import Register
from rplab.dialogue.check_functions import has_fault
from rplab.dialogue.turn import TurnContext, is_quote, split_turn
from rplab.text.korean import find_broken_hangul, find_leaks, has_han, has_hangul, has_kana, korean_share, name_pattern

UserFormat = Literal["dialog_only", "action_plus_dialogue"]

KEYS = frozenset({"user", "assistant_raw", "scene"})
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "user": {"type": "string"},
        "assistant_raw": {"type": "string"},
        "scene": {
            "type": "object",
            "properties": {
                "speaker": {"type": "string"},
                **{
                    part: {
                        "type": "object",
                        "properties": {"ko": {"type": "string"}, "jp": {"type": "string"}},
                        "required": ["ko", "jp"],
                        "additionalProperties": False,
                    }
                    for part in ("narration", "dialogue")
                },
            },
            "required": ["speaker", "narration", "dialogue"],
            "additionalProperties": False,
        },
    },
    "required": ["user", "assistant_raw", "scene"],
    "additionalProperties": False,
}
"""JSON schema of an answer, for backends that can hold a model to it."""

MIN_KOREAN_SHARE = 0.7
_FENCE = re.compile(r"```json\s*(.*?)```", re.DOTALL)
_ASSISTANT_CHECKS = (
    *("age_cue", "speaker_label", "meta", "policy_leak", "narr_formal", "narr_not_plain", "dia_silent", "dialogue_narration"),
    *("dialogue_truncated", "too_long", "foreign_script", "broken_hangul", "degenerate", "speech_level", "echo"),
)
_USER_CHECKS = ("age_cue", "speaker_label", "meta", "policy_leak", "dialogue_truncated", "foreign_script", "broken_hangul", "degenerate")


@dataclass(frozen=True)
class Expected:
    """What a payload is checked against."""

    protagonist: str
    player: str
    user_format: UserFormat
    register: Register | None = None
    """Speech level of the protagonist; None = not checked."""


def extract_json(text: str) -> str:
    """Return the JSON part of a reply: the first ```json fence, else from the first `{` to the last `}`.

    Raises:
        ValueError: No braces, or the text between them is no JSON (two objects, a trailing comma, ...).
    """
    if fence := _FENCE.search(text):
        return fence[1].strip()
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError("No valid JSON object found")
    candidate = text[start : end + 1]
    json.loads(candidate)
    return candidate


def parse_payload(text: str) -> Any:
    """Return the JSON value of a reply.

    Raises:
        ValueError: There is none, or it does not parse.
    """
    return json.loads(extract_json(text))


def payload_fault(payload: Any, expected: Expected) -> str | None:
    """Return the reason code of the first rule that a payload breaks, or None when it is good."""
    if not isinstance(payload, dict):
        return "keys"
    fields = cast("dict[str, Any]", payload)
    if fields.keys() != KEYS:
        return "keys"
    user, assistant, scene = fields["user"], fields["assistant_raw"], fields["scene"]
    return _user_fault(user, expected) or _assistant_fault(assistant, user, expected) or _scene_fault(scene, assistant, expected)


def _user_fault(user: Any, expected: Expected) -> str | None:
    if not isinstance(user, str) or not user.strip():
        return "user_empty"
    if "*" in user:
        return "user_star"
    turn = split_turn(user)
    context = TurnContext("user", expected.protagonist, expected.player)
    for check in _USER_CHECKS:
        if has_fault(check, turn, context):
            return f"user_{check}"
    last = turn.lines[-1]
    if not is_quote(last):
        return "user_not_quoted"
    if expected.user_format == "dialog_only":
        return _dialog_only_fault(turn.lines, turn.speech, expected)
    if len(turn.lines) != 2:
        return "user_lines"
    if name_pattern(expected.player).search(last):
        return "user_name_in_dialogue"
    return "user_role_conflict" if has_fault("role_conflict", turn, context) else None


def _dialog_only_fault(lines: tuple[str, ...], speech: str, expected: Expected) -> str | None:
    if len(lines) != 1:
        return "user_lines"
    return "user_starts_with_name" if name_pattern(expected.player).match(speech) else None


def _assistant_fault(text: Any, user: str, expected: Expected) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return "assistant_empty"
    if "*" in text:
        return "assistant_star"
    turn = split_turn(text)
    if len(turn.lines) != 2:
        return "assistant_lines"
    if not name_pattern(expected.protagonist).match(turn.narration):
        return "assistant_subject"
    if '"' in turn.narration or not is_quote(turn.lines[1]):
        return "assistant_quote"
    context = TurnContext("asst", expected.protagonist, expected.player, expected.register, other=(user,))
    return next((f"assistant_{check}" for check in _ASSISTANT_CHECKS if has_fault(check, turn, context)), None)


def _scene_fault(scene: Any, assistant_raw: str, expected: Expected) -> str | None:
    if not isinstance(scene, dict) or set(scene) != {"speaker", "narration", "dialogue"}:
        return "scene_keys"
    if scene["speaker"] != expected.protagonist:
        return "scene_speaker"
    turn = split_turn(assistant_raw)
    for part, korean in (("narration", turn.narration), ("dialogue", turn.speech)):
        sides: Any = scene[part]
        if not isinstance(sides, dict) or set(sides) != {"ko", "jp"} or not all(isinstance(v, str) and v.strip() for v in sides.values()):
            return f"scene_{part}"
        if sides["ko"].strip().strip('"').strip() != korean:
            return f"scene_{part}_differs"
        if fault := language_fault(sides["ko"], sides["jp"]):
            return f"scene_{part}_{fault}"
    return None


def language_fault(korean: str, japanese: str) -> str | None:
    """Return `ko` or `jp` when that side of a pair is not in its language, else None."""
    if find_leaks(korean) or find_broken_hangul(korean) or korean_share(korean) < MIN_KOREAN_SHARE:
        return "ko"
    if has_hangul(japanese) or not (has_kana(japanese) or has_han(japanese)):
        return "jp"
    return None


EXPLANATIONS: dict[str, str] = {
    "no_json": "JSON 객체 하나만 쓴다",
    "keys": "키는 user, assistant_raw, scene 세 개뿐이다",
    "user_not_quoted": "user의 마지막 줄은 큰따옴표 대사여야 한다",
    "user_lines": "user의 줄 수를 지킨다",
    "user_name_in_dialogue": "user의 대사에 플레이어 이름을 쓰지 않는다",
    "user_starts_with_name": "user를 플레이어 이름으로 시작하지 않는다",
    "assistant_lines": "assistant_raw는 서술 한 줄과 대사 한 줄이다",
    "assistant_subject": "서술은 주인공의 이름으로 시작한다",
    "assistant_quote": "둘째 줄은 큰따옴표로 묶은 대사 하나다",
    "assistant_speech_level": "정해진 말투를 지킨다",
    "assistant_narr_not_plain": "서술은 -다로 끝낸다",
    "assistant_narr_formal": "서술은 -다로 끝낸다",
    "scene_speaker": "scene의 speaker는 주인공의 이름이다",
    "scene_narration_differs": "scene의 narration.ko는 서술과 같아야 한다",
    "scene_dialogue_differs": "scene의 dialogue.ko는 대사와 같아야 한다",
    "scene_narration_jp": "narration.jp는 일본어로만 쓴다",
    "scene_dialogue_jp": "dialogue.jp는 일본어로만 쓴다",
}
"""What a model is told when a row is asked again; other codes are shown as they are."""
