"""What can be checked about a translation without reading it: script, names, politeness. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rplab.text.korean import has_hangul, name_pattern
from rplab.text.speech_level import Level, speech_level

_POLITE_JA = re.compile(
    r"(?:です|ます|でした|ました|ません|ませんでした|でしょう|ましょう|ください|下さい|なさい|ございます|いたします|くださいませ)"
    r"(?:か|ね|よ|よね|かね|わ|が|けど|から|ので|の|し|って)?$"
)
_JA_END = re.compile(r"[\s。！？!?…、~〜ー♪」』）)\"”.]+$")
_JA_SENTENCE = re.compile(r"(?<=[。！？!?…])")


def politeness_of_japanese(text: str) -> bool | None:
    """Return whether the last full sentence of a Japanese line is polite (です/ます); None when there is none.

    Args:
        text: Japanese.
    """
    sentences = [_JA_END.sub("", part.strip()) for part in _JA_SENTENCE.split(text)]
    filled = [sentence for sentence in sentences if sentence]
    return bool(_POLITE_JA.search(filled[-1])) if filled else None


def restore_names(source: str, translation: str, glossary: Mapping[str, str]) -> str:
    """Write Korean names that were left in a translation in kana.

    Args:
        source: Korean; only names that stand in it are touched.
        translation: Japanese, perhaps with Hangul left in it.
        glossary: Korean name -> kana.
    """
    for korean in sorted(glossary, key=len, reverse=True):
        if korean in source:
            translation = translation.replace(korean, glossary[korean])
    return translation


def find_flags(source: str, translation: str, *, finished: bool, glossary: Mapping[str, str]) -> tuple[str, ...]:
    """Name what is wrong with a translation.

    Returns:
        Any of `empty`, `hangul`, `cut` (the model did not stop by itself) and `name:<Korean name>` (a name of the
        glossary stands in the source, its kana not in the translation).
    """
    flags = [] if translation.strip() else ["empty"]
    if has_hangul(translation):
        flags.append("hangul")
    if not finished:
        flags.append("cut")
    flags += [f"name:{name}" for name, kana in sorted(glossary.items()) if name_pattern(name).search(source) and kana not in translation]
    return tuple(flags)


def politeness_of_korean(text: str) -> bool | None:
    """Return whether a Korean line is polite; None when it shows no level, or both."""
    return {Level.POLITE: True, Level.CASUAL: False}.get(speech_level(text))
