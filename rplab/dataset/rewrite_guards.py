r"""Which rewrites of a turn may take its place: pure functions; a refused rewrite means that the original stays.

The predecessor compared form, and registers with a short table of endings; it took anything for a turn without quotation
marks, an empty text included. Here every rewrite must be text, Korean, of a similar length, free of meta lines, and keep
the speech level (of the original, or of the card when it is given); what had narration and one quotation must keep both,
on as many lines.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from rplab.character import Register
from rplab.text.korean import find_broken_hangul, find_leaks, has_hangul
from rplab.text.meta_lines import find_meta
from rplab.text.quotes import is_visible
from rplab.text.speech_level import Level, sentence_level, speech_level, split_sentences

_QUOTE = re.compile(r"\"([^\"\n]{1,1200})\"")
_LONGER, _SHORTER, _SLACK_CHARS = 2.0, 0.25, 6
"""A free-form rewrite may have twice the characters of its original and six more, and must have a quarter of them."""
_PART_SLACK_CHARS = 40
"""The same for narration and speech apart: short lines may grow by a clause."""


class Refusal(StrEnum):
    """Why a rewrite does not take the place of its original."""

    EMPTY = "empty"
    FORM = "lost_narration_or_speech"
    EXTRA = "more_than_narration_and_one_quotation"
    NARRATION = "narration_is_not_plain"
    LEVEL = "speech_level_changed"
    LENGTH = "length"
    SCRIPT = "foreign_script"
    BROKEN = "broken_hangul"
    META = "meta_line"


class Guarded(NamedTuple):
    """The text to keep, and why it is the original when it is."""

    text: str
    refusal: Refusal | None


class _Parts(NamedTuple):
    narration: str
    speech: str
    lines: int
    rest: str
    """Visible text behind the quotation."""


def guard_reply(original: str, rewritten: str, register: Register | None = None) -> Guarded:
    r"""Return the rewrite of an assistant turn, or its original.

    Args:
        original: The turn as it was.
        rewritten: What the model made of it.
        register: Speech level that the card asks for; None: the original's.

    >>> guard_reply('사야는 웃는다.\n"왔어?"', '사야는 웃습니다.\n"왔어?"').refusal.value
    'narration_is_not_plain'
    """
    return _guard(original, rewritten, register)


def guard_player_turn(original: str, rewritten: str) -> Guarded:
    """Return the rewrite of a player's turn, or its original: the same rules, its own speech level."""
    return _guard(original, rewritten, None)


def _guard(original: str, rewritten: str, register: Register | None) -> Guarded:
    text = re.sub(r"[^\S\n]+(?=\n)", "", rewritten.replace("\r\n", "\n")).strip()
    before = _split(original)
    refusal = _refuse_text(original, text) or (
        _refuse_free_form(original, text, register) if before is None else _refuse_form(before, text, register)
    )
    return Guarded(original, refusal) if refusal else Guarded(text, None)


def _refuse_text(original: str, text: str) -> Refusal | None:
    """Return what is wrong with a rewrite whatever its form."""
    if not is_visible(text):
        return Refusal.EMPTY
    if has_hangul(original) and not has_hangul(text):
        return Refusal.SCRIPT
    if find_leaks(text, allowed=original):
        return Refusal.SCRIPT
    if find_broken_hangul(text) and not find_broken_hangul(original):
        return Refusal.BROKEN
    kept = set(original.splitlines())
    if any(find_meta(line) for line in text.splitlines() if is_visible(line) and line not in kept):
        return Refusal.META
    return None


def _refuse_free_form(original: str, text: str, register: Register | None) -> Refusal | None:
    if not _similar_length(original, text, _SLACK_CHARS):
        return Refusal.LENGTH
    return Refusal.LEVEL if not _same_level(original, text, register) else None


def _refuse_form(before: _Parts, text: str, register: Register | None) -> Refusal | None:
    after = _split(text)
    if after is None:
        return Refusal.FORM
    if (after.rest and not before.rest) or text.count('"') != 2 or (before.lines == 2 and after.lines != 2):
        return Refusal.EXTRA
    if not is_plain_style(after.narration):
        return Refusal.NARRATION
    if not _same_level(before.speech, after.speech, register):
        return Refusal.LEVEL
    similar = all(
        _similar_length(old, new, _PART_SLACK_CHARS) for old, new in ((before.narration, after.narration), (before.speech, after.speech))
    )
    return None if similar else Refusal.LENGTH


def _split(text: str) -> _Parts | None:
    """Split into narration and the first quotation; None when either is missing."""
    match = _QUOTE.search(text)
    if match is None or not is_visible(text[: match.start()]) or not is_visible(match[1]):
        return None
    lines = sum(is_visible(line) for line in text.splitlines())
    return _Parts(text[: match.start()].strip(), match[1].strip(), lines, text[match.end() :].strip())


def _similar_length(old: str, new: str, slack: int) -> bool:
    return _SHORTER * len(old.strip()) <= len(new.strip()) <= _LONGER * len(old.strip()) + slack


def _same_level(old: str, new: str, register: Register | None) -> bool:
    """Return whether the speech level is the wanted one; what shows no level fits everywhere."""
    wanted = speech_level(old) if register is None else Level.POLITE if register is Register.POLITE else Level.CASUAL
    found = speech_level(new)
    return Level.UNKNOWN in (wanted, found) or wanted is found or (register is None and wanted is Level.MIXED)


def is_plain_style(narration: str) -> bool:
    """Return whether no sentence of a narration ends politely; polite words inside a sentence do not count.

    >>> is_plain_style("사야는 웃어요 하고 적힌 쪽지를 본다."), is_plain_style("사야는 걷는다. 웃네요.")
    (True, False)
    """
    return all(sentence_level(sentence) is not Level.POLITE for sentence in split_sentences(narration))


def last_register(speech: str) -> Register:
    """Return the speech level of the last sentence that shows one; casual when none does.

    >>> last_register("네, 알겠습니다.").value, last_register("뭐 하세요? 나 가.").value
    ('존댓말', '반말')
    """
    for sentence in reversed(split_sentences(speech)):
        level = sentence_level(sentence)
        if level is not Level.UNKNOWN:
            return Register.POLITE if level is Level.POLITE else Register.CASUAL
    return Register.CASUAL
