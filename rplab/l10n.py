"""Korean for people whose locale is Korean, English for everybody else.

`RPLAB_LANG=ko|en` decides; otherwise the first of LC_ALL, LC_MESSAGES, LANG that is set. Errors, logs and reports are
English everywhere, so that they can be searched.
"""

from __future__ import annotations

import functools
import os


@functools.cache
def is_korean() -> bool:
    """Return whether people on this terminal read Korean."""
    for name in ("RPLAB_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return value.lower().startswith("ko")
    return False


def tr(korean: str, english: str) -> str:
    """Return the text in the user's language."""
    return korean if is_korean() else english
