"""How much of an interrupted reply the player took in.

A reply that is cut off in mid-speech goes into the history as it was heard: a character that remembers words nobody heard
answers questions that were never asked. The screen and the store keep the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WHOLE = 0.95
"""The last word of a sentence counts as heard a little before its sound ends."""
_PAIRS = {"“": "”", "「": "」", "『": "』", "„": "”", "〝": "〟", "«": "»"}
_MARKS = '"＂' + "".join(_PAIRS) + "".join(_PAIRS.values())


@dataclass(frozen=True)
class HeardSentence:
    """A sentence of speech and how much of it was heard."""

    text: str
    share: float
    """0..1; a sentence that stays text counts as heard when it was shown."""


def heard_text(shown: str, sentences: Sequence[HeardSentence], is_speech: Sequence[bool] = ()) -> str | None:
    r"""Return what was taken in of a reply; None when that is all of it.

    Args:
        shown: The reply as it was shown.
        sentences: Its speech, in order.
        is_speech: For each character whether it was shown as speech: a short sentence can stand in the narration too.

    Example:
        >>> shown = '사야는 웃었다.\n"왔구나. 비가 와서 걱정했어."'
        >>> print(heard_text(shown, [HeardSentence("왔구나.", 1.0), HeardSentence("비가 와서 걱정했어.", 0.6)]))
        사야는 웃었다.
        "왔구나. 비가 와서…"
    """
    cursor = 0
    for sentence in sentences:
        start = _find(shown, sentence.text, cursor, is_speech)
        if start < 0:
            continue
        if sentence.share >= _WHOLE:
            cursor = start + len(sentence.text)
            continue
        words = _whole_words(sentence.text, sentence.share)
        kept = shown[: start + len(words)] if words else shown[:start]
        kept = kept.rstrip() if words else kept.rstrip().rstrip("".join(_PAIRS)).rstrip()
        if not words and _open_marks(kept)[-1:] == ['"'] and kept[-1:] in '"＂':
            kept = kept[:-1].rstrip()
        if not any(character.isalnum() for character in kept):
            return "…"
        return kept + ("…" if words else "") + "".join(reversed(_open_marks(kept)))
    return None


def _find(shown: str, text: str, cursor: int, is_speech: Sequence[bool]) -> int:
    """Return where a sentence of speech stands, -1 where it does not."""
    start = first = shown.find(text, cursor)
    while start >= 0 and is_speech and not all(is_speech[start : start + len(text)]):
        start = shown.find(text, start + 1)
    return start if start >= 0 else first


def _whole_words(text: str, share: float) -> str:
    """Return the words of a sentence that were heard in full."""
    end = round(share * len(text))
    if end >= len(text):
        return text
    return text[: max(text.rfind(" ", 0, end + 1), 0)].rstrip(" ,、")


def _open_marks(text: str) -> list[str]:
    """Return the closing marks that a text lacks, outermost first."""
    missing: list[str] = []
    for character in text.rsplit("\n", 1)[-1]:
        if character not in _MARKS:
            continue
        if missing and character in (missing[-1], "＂" if missing[-1] == '"' else missing[-1]):
            missing.pop()
        elif character in '"＂':
            missing.append('"')
        elif character in _PAIRS:
            missing.append(_PAIRS[character])
    return missing
