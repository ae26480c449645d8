r"""Take out of a reply what nobody wrote for a reader: thinking, tags, template tokens, control characters.

Works character by character and holds back only what may still become a tag, so it can sit in front of the parser in a
stream. `\"` becomes `ESCAPED_QUOTE`, which the parser reads as a mark inside speech.
"""

from __future__ import annotations

import re
import unicodedata

ESCAPED_QUOTE = "\ue000"
END_TOKEN = "\ue001"
"""Stands where a chat template's token was: the reply ends there."""
_MAX_TAG = 48
_TAG = re.compile(r"</?[A-Za-z][^<>\n]*>")
_TAG_SO_FAR = re.compile(r"</?(?:[A-Za-z][^<>\n]*)?")
_TOKEN = re.compile(r"<\|[^<>\n]*\|>")
_TOKEN_SO_FAR = re.compile(r"<(?:\|[^<>\n]*)?")
_ESCAPE_SO_FAR = re.compile(r"\x1b(?:\[[0-9;?]*)?")
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[^\[])")


class Cleaner:
    """Feed raw pieces, get clean text; `flush` at the end."""

    def __init__(self) -> None:
        """Start outside of everything."""
        self._held = ""
        self._thinking = False

    def feed(self, text: str) -> str:
        """Take a piece of the reply and return what is certain to be text."""
        return "".join(self._step(character) for character in text)

    def flush(self) -> str:
        """Return what was held back: a lone `<` or backslash at the end. Unclosed thinking is dropped."""
        held, self._held = self._held, ""
        return "" if self._thinking or held.startswith("\x1b") else held

    def _step(self, character: str) -> str:
        if not self._held:
            return self._fresh(character)
        held = self._held + character
        if held[0] == "\\":
            return self._escaped(character)
        if held[0] == "\x1b":
            self._held = held if _ESCAPE_SO_FAR.fullmatch(held) else ""
            return "" if self._held or _ESCAPE.fullmatch(held) else self._fresh(character)
        return self._tag(held, character)

    def _fresh(self, character: str) -> str:
        if character in "<\\\x1b":
            self._held = character
            return ""
        if self._thinking:
            return ""
        if character in "\u2028\u2029\x85\x0b\x0c":
            return "\n"
        if character in "\n\t":
            return character if character == "\n" else " "
        if unicodedata.category(character) in ("Cc", "Cs", "Co") or character in "\ufeff\u200b\u2060":
            return ""
        return character

    def _escaped(self, character: str) -> str:
        self._held = ""
        if character in '"“”':
            return "" if self._thinking else ESCAPED_QUOTE
        if character == "n":
            return "" if self._thinking else "\n"
        return ("" if self._thinking else "\\") + self._fresh(character)

    def _tag(self, held: str, character: str) -> str:
        if _TOKEN.fullmatch(held):
            self._held = ""
            return "" if self._thinking else END_TOKEN
        if _TAG.fullmatch(held):
            self._held = ""
            name = held.strip("</>").split()[0].lower()
            if name in ("think", "thinking"):
                self._thinking = not held.startswith("</")
            return ""
        if len(held) < _MAX_TAG and (_TAG_SO_FAR.fullmatch(held) or _TOKEN_SO_FAR.fullmatch(held)):
            self._held = held
            return ""
        text = self._held
        self._held = ""
        return ("" if self._thinking else text) + self._fresh(character)
