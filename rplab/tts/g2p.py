"""Japanese text -> phones, pitch and characters' shares, in one pass through pyopenjtalk-plus.

`pyopenjtalk.g2p_mapping_prosody` returns words with phonemes, high/low and their place in the text, so nothing has to
be aligned afterwards (the predecessor ran two passes and failed where they disagreed). Differences to its output:
`cl` is `q`, devoiced vowels are lower case, an accent phrase without any fall or rise counts as low throughout (the
family's convention: pitch is marked by its changes, and a phrase of one mora has none).

Characters without a reading are counted; what happens then is the caller's choice: `read_or_skip`.

To change a reading: `rplab.tts.dictionary`. To change the text form: `rplab.tts.frontend`.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rplab.errors import AudioError
from rplab.tts.symbols import JAPANESE_ID, JAPANESE_TONE_OFFSET, PAD, PUNCTUATION, SYMBOL_IDS
from rplab.tts.word2ph import blank_word2ph, intersperse, spread_phones

UnknownPolicy: TypeAlias = Literal["raise", "skip", "use"]
"""What to do with a text that has characters without a reading: an error, leave the text out, or speak the rest."""


class UnreadableError(AudioError):
    """A text with characters that have no reading, under the policy `raise`."""


@dataclass(frozen=True)
class Reading:
    """One sentence as the network takes it. `len(word2ph) == len(text) + 2`, `sum(word2ph) == len(phones)`."""

    text: str
    """Normalised, without blanks: one entry of `word2ph` for each character, plus both ends."""
    phones: tuple[str, ...]
    """Begins and ends with `_`."""
    tones: tuple[int, ...]
    """0 low, 1 high; marks and ends are low."""
    word2ph: tuple[int, ...]
    unknown: Mapping[str, int]
    """Text without a reading -> times; it has no phones."""
    guessed: Mapping[str, int]
    """Word missing in the dictionary, read character by character -> times."""

    @property
    def has_speech(self) -> bool:
        """Whether anything but marks is to be spoken."""
        return any(phone != PAD and phone not in PUNCTUATION for phone in self.phones)


@dataclass(frozen=True)
class PhoneIds:
    """A reading as integers with blanks between, each of length 2n + 1."""

    phones: list[int]
    tones: list[int]
    languages: list[int]
    word2ph: list[int]


def read_text(text: str) -> Reading:
    """Read one normalised sentence.

    Args:
        text: As `rplab.tts.frontend.normalise` returns it, one line.

    Raises:
        AudioError: pyopenjtalk-plus is missing, or its analysis failed.

    Example:
        >>> read_text("明日.").phones
        ('_', 'a', 'sh', 'i', 't', 'a', '.', '_')
    """
    builder = _Builder(text)
    for word in _analyse(text):
        builder.add(word)
    return builder.finish()


def read_or_skip(text: str, policy: UnknownPolicy) -> Reading | None:
    """Read one normalised sentence under a policy for unknown readings.

    Returns:
        The reading; None under `skip` when something has no reading.

    Raises:
        UnreadableError: Something has no reading under `raise`.
        AudioError: As `read_text`.
    """
    reading = read_text(text)
    if not reading.unknown or policy == "use":
        return reading
    if policy == "skip":
        return None
    names = ", ".join(repr(name) for name in reading.unknown)
    raise UnreadableError(f"no reading for {names} in {text!r}. Add it to the user dictionary, or use the policy skip or use")


def phone_ids(reading: Reading) -> PhoneIds:
    """Return the integers of a reading: symbols, Japanese tones, language, with a blank between any two.

    Raises:
        AudioError: A phone that the symbol table does not have.
    """
    try:
        phones = [SYMBOL_IDS[phone] for phone in reading.phones]
    except KeyError as error:
        raise AudioError(f"phone {error} of {reading.text!r} is not in the symbol table; the dictionary gave an odd reading") from None
    return PhoneIds(
        phones=intersperse(phones),
        tones=intersperse([tone + JAPANESE_TONE_OFFSET for tone in reading.tones]),
        languages=intersperse([JAPANESE_ID] * len(phones)),
        word2ph=blank_word2ph(reading.word2ph),
    )


class _Builder:
    """Collects phones word by word; keeps the current accent phrase open to settle its tones."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._phones: list[str] = [PAD]
        self._tones: list[int] = [0]
        self._counts = [0] * len(text)
        self._phrase_start = 1
        self._unknown: Counter[str] = Counter()
        self._guessed: Counter[str] = Counter()
        self._last_character = 0

    def add(self, word: Mapping[str, Any]) -> None:
        start, end = word["char_span"]
        if end <= start:  # a part of a number that stands on no character of its own (the 十 of 26)
            start, end = self._last_character, self._last_character + 1
        before = len(self._phones)
        unknown = False
        for unit in word["phonemes"]:
            if unit["kind"] == "Phoneme" and unit["phoneme"] not in ("sp", "pau"):
                unknown |= unit["phoneme"] == "unk"
                self._add_phone(unit)
            elif unit["kind"] != "Phoneme":
                self._close_phrase()
        count = len(self._phones) - before
        if count:
            for index, share in zip(range(start, end), spread_phones(count, end - start), strict=True):
                self._counts[index] += share
            if word["is_unknown"]:
                self._guessed[self._text[start:end]] += 1
        else:
            self._add_marks(start, end, unknown)
        self._last_character = max(end - 1, 0)

    def _add_phone(self, unit: Mapping[str, Any]) -> None:
        phone: str = unit["phoneme"]
        if phone == "unk":
            return
        self._phones.append("q" if phone == "cl" else phone.lower() if phone in "AIUEO" else phone)
        self._tones.append(int(unit["pitch"] == "High"))

    def _add_marks(self, start: int, end: int, unknown: bool) -> None:
        silent = ""
        for index in range(start, end):
            character = self._text[index]
            if character in PUNCTUATION:
                self._close_phrase()
                self._phones.append(character)
                self._tones.append(0)
                self._counts[index] += 1
                self._phrase_start = len(self._phones)
            elif not character.isspace():
                silent += character
        if silent and (unknown or silent not in "ーっッゝゞヽヾ"):
            self._unknown[silent] += 1

    def _close_phrase(self) -> None:
        phrase = self._tones[self._phrase_start :]
        if phrase and min(phrase) == 1:
            self._tones[self._phrase_start :] = [0] * len(phrase)
        self._phrase_start = len(self._phones)

    def finish(self) -> Reading:
        self._close_phrase()
        kept = [index for index, character in enumerate(self._text) if not character.isspace() or self._counts[index]]
        return Reading(
            text="".join(self._text[index] for index in kept),
            phones=(*self._phones, PAD),
            tones=(*self._tones, 0),
            word2ph=(1, *(self._counts[index] for index in kept), 1),
            unknown=dict(self._unknown),
            guessed=dict(self._guessed),
        )


def _analyse(text: str) -> Sequence[Mapping[str, Any]]:
    try:
        talk: Any = importlib.import_module("pyopenjtalk")
    except ImportError as error:
        raise AudioError(f"reading Japanese needs pyopenjtalk-plus ({error}). Install it: pip install 'rplab[voice]'") from error
    try:
        return talk.g2p_mapping_prosody(text)
    except (RuntimeError, ValueError) as error:
        raise AudioError(f"the Japanese dictionary failed on {text!r}: {error}") from error
