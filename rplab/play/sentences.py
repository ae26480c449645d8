"""Cut speech into sentences while it is still being written.

The cutter looks at one character at a time and at most one further non-blank character ahead, so the way the text is
split into pieces cannot change the result. A run of marks (`?!`, `...`, `……`) is one mark; decimals, dates, list numbers
and a few abbreviations keep their full stop; an ellipsis that opens a sentence or is followed by a letter does not end one.
"""

from __future__ import annotations

import re

_STRONG = frozenset("?!。？！")
_DOTS = frozenset(".…‥⋯．｡")
_MARKS = _STRONG | _DOTS
_CLOSERS = frozenset("」』”’\"'＂)）]】》〉")
_COMMAS = frozenset(",，、")
_ABBREVIATIONS = frozenset({"dr", "mr", "mrs", "ms", "st", "vs", "no", "prof", "jr", "sr", "etc"})
MAX_CHARS = 120
"""A sentence without a mark is cut here, at a blank or comma when there is one."""


class SentenceCutter:
    """Takes characters, gives back sentences as soon as each is certain."""

    def __init__(self, *, first_clause_chars: int = 0) -> None:
        """Start empty.

        Args:
            first_clause_chars: When above 0, the first sentence may also end at a comma after that many characters, so that
                the first sound comes earlier.
        """
        self._buffer = ""
        self._first_clause_chars = first_clause_chars
        self._cut_any = False
        self._after_number = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing but blanks is waiting."""
        return not self._buffer.strip()

    @property
    def has_mark(self) -> bool:
        """Whether what is waiting ends with a sentence mark, closing brackets apart."""
        return self._at_mark()

    def feed(self, text: str) -> list[str]:
        """Take more text and return the sentences that it completed."""
        done: list[str] = []
        for character in text:
            self._step(character, done)
        return done

    def flush(self) -> list[str]:
        """Return what is left as the last sentence, and start anew."""
        done: list[str] = []
        self._emit(done)
        return done

    def _step(self, character: str, done: list[str]) -> None:
        if character == "\n":
            self._emit(done)
            return
        if self._after_number:
            if character.isspace():
                return
            self._after_number = False
            if character.isdigit():  # a date: 2026. 11. 23.
                self._buffer += " "
            else:
                self._emit(done)
        elif self._at_mark() and character not in _MARKS and character not in _CLOSERS:
            self._decide(character, done)
        elif character.isspace() and self._is_first_clause():
            self._emit(done)
        if character.isspace() and (not self._buffer or self._after_number):
            return
        self._buffer += character
        if len(self._buffer) >= MAX_CHARS:
            self._cut_long(done)

    def _at_mark(self) -> bool:
        return self._buffer.rstrip("".join(_CLOSERS))[-1:] in _MARKS if self._buffer else False

    def _decide(self, following: str, done: list[str]) -> None:
        """End the sentence before `following` unless the mark belongs inside it."""
        body = self._buffer.rstrip("".join(_CLOSERS))
        run = body[len(body.rstrip("".join(_MARKS))) :]
        before = body[: len(body) - len(run)]
        if not any(character.isalnum() for character in before):
            return
        if any(character in _STRONG for character in run):
            self._emit(done)
        elif len(run) > 1 or run in "…‥⋯":
            if following.isspace():
                self._emit(done)
        elif before[-1:].isdigit():
            self._after_number = following.isspace()
        elif not (_is_latin(before[-1:]) and (_is_latin(following) or _last_word(before) in _ABBREVIATIONS)):
            self._emit(done)

    def _is_first_clause(self) -> bool:
        wanted = self._first_clause_chars
        return bool(wanted) and not self._cut_any and len(self._buffer) >= wanted and self._buffer[-1:] in _COMMAS

    def _cut_long(self, done: list[str]) -> None:
        at = max(self._buffer.rfind(mark, MAX_CHARS // 3) for mark in " ,、，")
        at = at + 1 if at > 0 else MAX_CHARS
        rest = self._buffer[at:]
        self._buffer = self._buffer[:at]
        self._emit(done)
        self._buffer = rest.lstrip()

    def _emit(self, done: list[str]) -> None:
        sentence = self._buffer.strip()
        self._buffer = ""
        self._after_number = False
        if sentence:
            done.append(sentence)
            self._cut_any = True


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a whole text.

    Example:
        >>> split_sentences("글쎄... 3.5 정도야. 맞지?")
        ['글쎄...', '3.5 정도야.', '맞지?']
    """
    cutter = SentenceCutter()
    return [*cutter.feed(text), *cutter.flush()]


def _is_latin(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _last_word(text: str) -> str:
    match = re.search(r"[A-Za-z]+$", text)
    return match[0].lower() if match else ""
