"""What may be spoken at all: limits, the Japanese character set, and the error that says why a text cannot be.

Korean is never deleted: the predecessor's normaliser turned `오늘은 즐거웠어.` into `.` and spoke the remains. Here it is
an error with reason "hangul", and play shows the text instead. The normaliser itself is `rplab.tts.frontend`.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from rplab.errors import AudioError

MAX_CHARS = 20_000
"""Longest text that one call speaks (about an hour of sound)."""
MAX_REPEATS = 8
"""A character repeated more often in a row is shortened to this many."""

HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc]")
READABLE = re.compile(r"[0-9A-Za-zα-ωΑ-Ωぁ-ゖァ-ヺ々〇一-鿿㐀-䶿豈-﫿]")
"""A text without any of these has nothing to say."""

Unspeakable: TypeAlias = Literal["empty", "hangul", "unreadable", "too_long"]


class SpeechTextError(AudioError):
    """A text that cannot be spoken; `reason` says why in one word."""

    exit_code = 2

    def __init__(self, reason: Unspeakable, message: str) -> None:
        """Keep the reason beside the message."""
        super().__init__(message)
        self.reason: Unspeakable = reason


def quote_short(text: str) -> str:
    """Return `text` on one line in quotes, cut to 40 characters, for a message."""
    line = " ".join(text.split())
    return repr(line if len(line) <= 40 else line[:39] + "…")
