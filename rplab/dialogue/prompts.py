"""Fills the pack's prompt templates: `{name}` is the value, `{name:은/는}` the value with the particle that fits it."""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping

from rplab.errors import ConfigError
from rplab.text.korean import attach


class Word(str):
    """Text that takes a particle when formatted: `f"{Word('사야'):은/는}"` is 사야는."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return attach(str(self), spec.partition("/")[0]) if spec else str(self)


def fill(template: str, /, **values: object) -> str:
    """Return the template with its places filled.

    Raises:
        ConfigError: The template names something that is not given, or cannot be read.
    """
    try:
        return "".join(
            literal if name is None else literal + (attach(str(values[name]), particle) if particle else str(values[name]))
            for literal, name, particle in _parse(template)
        )
    except KeyError as error:
        known = ", ".join(sorted(values))
        raise ConfigError(
            f"prompts: no value is called {error} in {template[:60]!r}. Use one of: {known}; write a brace as {{{{ }}}}"
        ) from None


@functools.lru_cache(maxsize=1024)
def _parse(template: str) -> tuple[tuple[str, str | None, str], ...]:
    """Take a template apart, once: (text, name of the value after it or None, particle that the value takes)."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"prompts: {template[:60]!r}: {error}. Write a brace as {{{{ }}}}") from None
    return tuple((literal, name, (spec or "").partition("/")[0]) for literal, name, spec, _ in parts)


def placeholders(template: str) -> set[str]:
    """Return the names that a template asks for."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def squeeze(text: str) -> str:
    """Drop lines that a filled-in empty value left blank, keeping single blank lines between paragraphs."""
    lines = [line.rstrip() for line in text.split("\n")]
    kept = [line for index, line in enumerate(lines) if line or (index and lines[index - 1])]
    return "\n".join(kept).strip()


def describe_signals(labels: Mapping[str, str], values: Mapping[str, int], highs: Mapping[str, int]) -> str:
    """Return the signals as one line: `마음의 동요 1/3, 친밀감 2/3`."""
    return ", ".join(f"{label} {values.get(name, 0)}/{highs[name]}" for name, label in labels.items())
