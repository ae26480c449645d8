"""The shape of a reply: one line of third-person narration, one quoted line of speech.

This is the strict reading that rewards and evaluation use: it says what is there and what is too much, and repairs
nothing. (Play reads tolerantly, `rplab.play.parse`.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_QUOTES = '"“”„‟'
_CURLY = re.compile(r"^[“”„‟](?P<speech>[^“”„‟\"\n]+)[“”„‟]$")
_STRAIGHT = re.compile(r'^"(?P<speech>[^"\n]+)"$')
_TERMINAL = re.compile(r"[.!?…~]['’)\]]*$")


@dataclass(frozen=True)
class Reply:
    """What a completion holds."""

    narration: str
    """First line when it is no speech, else empty."""
    speech: str
    """First quoted line without its quotes, else empty."""
    extra: tuple[str, ...]
    """Non-blank lines that are neither."""
    has_blank_lines: bool
    curly: bool
    """Typographic instead of straight quotes."""

    @property
    def is_exact(self) -> bool:
        """Whether it is exactly one narration line and one straight-quoted line, each ended properly."""
        complete = bool(self.narration and self.speech) and not (self.extra or self.has_blank_lines or self.curly)
        return complete and ends_sentence(self.narration) and ends_sentence(self.speech)


def ends_sentence(line: str) -> bool:
    """Return whether a line ends with a sentence mark, so that it was not cut short."""
    return bool(_TERMINAL.search(line.strip()))


def parse_reply(text: str) -> Reply:
    """Split a completion into narration, speech and what does not belong.

    Args:
        text: The completion; white space around it does not count.

    Returns:
        The parts; all empty for an empty completion.
    """
    lines = [line.strip() for line in text.strip().split("\n")]
    filled = [line for line in lines if line]
    narration, speech, curly, extra = "", "", False, list[str]()
    for index, line in enumerate(filled):
        straight, typographic = _STRAIGHT.match(line), _CURLY.match(line)
        if index == 0 and not any(mark in line for mark in _QUOTES):
            narration = line
        elif index > 0 and not speech and (straight or typographic):
            match = straight or typographic
            speech, curly = (match["speech"].strip() if match else ""), straight is None
            if not speech:
                extra.append(line)
        else:
            extra.append(line)
    return Reply(narration, speech, tuple(extra), has_blank_lines=len(filled) != len(lines) and bool(filled), curly=curly)
