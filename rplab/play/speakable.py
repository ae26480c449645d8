"""Whether a line can be spoken by a Japanese voice."""

from __future__ import annotations

import re

from rplab.l10n import tr

_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_JAPANESE = re.compile(r"[ぁ-ゖァ-ヺ一-鿿]")


def is_japanese(text: str) -> bool:
    """Whether a sentence of the reply is Japanese already and needs no translation."""
    return not _HANGUL.search(text) and bool(_JAPANESE.search(text))


def find_problem(korean: str, japanese: str) -> str:
    """Say why a translation cannot be spoken; empty when it can."""
    if not japanese:
        return tr("번역이 비어 있습니다", "the translation is empty")
    if _HANGUL.search(japanese):
        return tr("번역에 한글이 남아 있습니다", "Korean is left in the translation")
    if not _JAPANESE.search(japanese) and any(character.isalpha() for character in korean):
        return tr("번역이 일본어가 아닙니다", "the translation is not Japanese")
    if len(japanese) > 4 * len(korean) + 24:
        return tr("번역이 원문보다 지나치게 깁니다", "the translation is far longer than the text")
    return ""
