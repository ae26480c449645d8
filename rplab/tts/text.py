"""Japanese text made ready for speech.

What a translator or a person writes is not what a voice can read: half-width kana, wave dashes, clock times, currency,
emoji, Markdown. `prepare_speech` normalises it, counts everything it takes out, and cuts it into sentences of a length
that a voice handles well. Numbers stay digits where OpenJTalk reads them with the right counter (第3回, 2026年); only
signs it would swallow become words.

Korean is never deleted: the predecessor's normaliser turned `오늘은 즐거웠어.` into `.` and spoke the remains. Here it is
an error with reason "hangul", and play shows the text instead.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from rplab.errors import AudioError

MAX_CHARS = 20_000
"""Longest text that one call speaks (about an hour of sound)."""
MAX_SENTENCE_CHARS = 80
"""Longer sentences are cut at a comma, or hard: an HTS voice drifts on very long ones."""
MAX_REPEATS = 8
"""A character repeated more often in a row is shortened to this many."""

HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc]")
READABLE = re.compile(r"[0-9A-Za-zα-ωΑ-Ωぁ-ゖァ-ヺ々〇一-鿿㐀-䶿豈-﫿]")
"""A text without any of these has nothing to say."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_URL = re.compile(r"(?:https?://|www\.)[\w\-.~:/?#\[\]@!$&'()*+,;=%]+")
_KEPT = re.compile(r"[0-9A-Za-zα-ωΑ-Ωぁ-ゖァ-ヺーゝゞヽヾ々〇一-鿿㐀-䶿豈-﫿\U00020000-\U0003ffff、。！？・.,%:/\s-]")
_CLOCK = re.compile(r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])")
_DATE = re.compile(r"(?<!\d)(\d{4})[/.-](1[0-2]|0?[1-9])[/.-](3[01]|[12]\d|0?[1-9])(?!\d)")
_CURRENCIES = {"$": "ドル", "¥": "円", "€": "ユーロ", "£": "ポンド", "₩": "ウォン"}
_MONEY = re.compile(r"([$¥€£₩])\s?(\d[\d,]*(?:\.\d+)?)")
_LAUGH = re.compile(r"(?<=[ぁ-ヺー一-鿿!?！？。])[wW]+(?![A-Za-z])")
_REPEATS = re.compile(rf"(.)\1{{{MAX_REPEATS},}}")
_WORDS = {"+": "プラス", "=": "イコール", "×": "かける", "÷": "わる", "&": "アンド", "@": "アット", "°": "度", "℃": "度", "‰": "パーミル"}
_QUIET = frozenset("「」『』〈〉《》【】〔〕()[]{}<>\"'“”‘’«»〝〟`´*_#|\\^;")
"""Marks that carry no sound: left out without being counted, brackets as a short pause."""
_BRACKETS = frozenset("()[]{}【】〔〕;")


class SpeechTextError(AudioError):
    """A text that cannot be spoken; `reason` says why in one word."""

    exit_code = 2

    def __init__(self, reason: Literal["empty", "hangul", "unreadable", "too_long"], message: str) -> None:
        """Keep the reason beside the message."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class SpeechText:
    """What will be spoken, and what was taken out."""

    sentences: tuple[str, ...]
    """Normalised sentences, each at most `MAX_SENTENCE_CHARS` long and with something readable in it."""
    dropped: Mapping[str, int]
    """Reason -> characters: emoji, symbol, control, foreign, laugh, repeat, url."""


def prepare_speech(text: str) -> SpeechText:
    """Normalise `text` and cut it into sentences.

    Raises:
        SpeechTextError: Empty, Korean in it, nothing readable, or longer than `MAX_CHARS`.

    Example:
        >>> prepare_speech("えっ、10:30に?😀 うん!").sentences
        ('えっ、10時30分に？', 'うん！')
    """
    normalised, dropped = normalise_speech(text)
    sentences = tuple(sentence for sentence in split_sentences(normalised) if READABLE.search(sentence))
    if not sentences:
        raise SpeechTextError("unreadable", f"nothing in {_short(text)} can be spoken in Japanese")
    return SpeechText(sentences, dropped)


def normalise_speech(text: str) -> tuple[str, Mapping[str, int]]:
    """Return `text` as a voice should read it, and how many characters were taken out for which reason.

    Applying it to its own result changes nothing.

    Raises:
        SpeechTextError: Empty, Korean in it, or longer than `MAX_CHARS`.
    """
    dropped: Counter[str] = Counter()
    if not text.strip():
        raise SpeechTextError("empty", "there is no text to speak")
    if len(text) > MAX_CHARS:
        raise SpeechTextError("too_long", f"the text has {len(text)} characters; speak at most {MAX_CHARS} at a time")
    for _ in range(6):  # one pass nearly always; a removal may join what only the next pass sees
        passed = _pass(text, dropped)
        if passed == text:
            break
        text = passed
    return text, dict(dropped)


def _pass(text: str, dropped: Counter[str]) -> str:
    text = unicodedata.normalize("NFKC", text)
    if found := HANGUL.findall(text):
        raise SpeechTextError("hangul", f"{len(found)} Korean characters in {_short(text)}; this voice speaks Japanese only")
    text = _replace_counted(_ANSI, "", text, dropped, "control")
    text = _replace_counted(_URL, "リンク", text, dropped, "url")
    text = _replace_counted(_LAUGH, "", text, dropped, "laugh")
    text = _MONEY.sub(lambda match: match[2] + _CURRENCIES[match[1]], text)
    text = _DATE.sub(r"\1年\2月\3日", text)
    text = _CLOCK.sub(lambda match: f"{int(match[1])}時" + (f"{int(match[2])}分" if int(match[2]) else ""), text)
    text = re.sub(r"(?<=\d)\s?[~〜]\s?(?=\d)", "から", text)
    text = re.sub(r"(?<![0-9A-Za-z.])[-−–](?=\d)", "マイナス", text)
    text = re.sub(r"(?<=[ぁ-ヺー一-鿿])[~〜ー]+", lambda match: "ー" * min(len(match[0]), 3), text)
    text = re.sub(r"°\s?C\b", "度", text)
    text = re.sub(r"(?:\.{2,}|…|‥|・{2,}|。{2,}|[—―─–]+)", "、", text)
    text = "".join(_keep(character, dropped) for character in text)
    text = text.replace("!", "！").replace("?", "？").replace("｡", "。")
    text = _replace_counted(_REPEATS, lambda match: match[1] * MAX_REPEATS, text, dropped, "repeat")
    return _tidy(text)


def _keep(character: str, dropped: Counter[str]) -> str:
    """Return what stands for one character, and count it when nothing does."""
    if word := _WORDS.get(character):
        return word
    if character in "!?":
        return character
    if character in _QUIET:
        return "、" if character in _BRACKETS else ""
    if _KEPT.match(character):
        return character
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Co", "Cn", "Mn", "Me"):
        dropped["control"] += 1
    elif category == "So":
        dropped["emoji"] += 1
    elif category[0] in "LN":
        dropped["foreign"] += 1
    else:
        dropped["symbol"] += 1
    return ""


def _replace_counted(
    pattern: re.Pattern[str], replacement: str | Callable[[re.Match[str]], str], text: str, dropped: Counter[str], reason: str
) -> str:
    def replace(match: re.Match[str]) -> str:
        text = replacement if isinstance(replacement, str) else replacement(match)
        dropped[reason] += max(0, len(match[0]) - len(text))
        return text

    return pattern.sub(replace, text)


def _tidy(text: str) -> str:
    """Settle pauses: one mark where several met, none at the start of a line or before a full stop."""
    lines: list[str] = []
    for line in text.splitlines():
        line = re.sub(r"\s+", " ", line).strip(" ")
        line = re.sub(r"\s*([、。！？])\s*", r"\1", line)
        line = re.sub(r"、{2,}", "、", line)
        line = re.sub(r"、(?=[。！？])", "", line)
        line = re.sub(r"(?<=[。！？])、", "", line)
        line = re.sub(r"^[、。ー・.,:/ -]+", "", line)
        line = re.sub(r"[、・:/ -]+$", "", line)
        if line:
            lines.append(line)
    return "\n".join(lines)


def split_sentences(text: str, *, max_chars: int = MAX_SENTENCE_CHARS) -> list[str]:
    """Cut normalised text after 。！？ and at line ends; cut long sentences at a comma near the limit, else hard.

    Joining the result without line ends gives the text back, except for blanks at the cuts.
    """
    sentences: list[str] = []
    for line in text.splitlines():
        for match in re.finditer(r"[^。！？]*(?:[。！？]+|$)", line):
            if sentence := match[0].strip():
                sentences.extend(_shorten(sentence, max_chars))
    return sentences


def _shorten(sentence: str, max_chars: int) -> list[str]:
    parts: list[str] = []
    while len(sentence) > max_chars:
        cut = max((sentence.rfind(mark, max_chars // 3, max_chars) for mark in "、, "), default=-1)
        cut = cut + 1 if cut > 0 else max_chars
        parts.append(sentence[:cut].strip())
        sentence = sentence[cut:].strip()
    return [*parts, sentence] if sentence else parts


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 40 else line[:39] + "…")
