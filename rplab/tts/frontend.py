"""Japanese text -> the text a voice reads: one character set, seven marks, numbers in words.

What a translator or a person writes is not what a voice can read: half-width kana, clock times, currency, emoji,
Markdown. `normalise` brings it into the form that JP-Extra voices were trained on: kana, kanji, Latin and Greek letters
and the marks `! ? … , . ' -` only, since every other character would break the one-to-one match of characters and BERT
features; a line end is a full stop. What is taken out is counted by reason and never passed over in silence. Korean is
an error (reason "hangul"): a Japanese voice would speak only what is left of it.

Every voice reads this one form: trained voices as it is (`split_sentences`), the embedded OpenJTalk voice with Japanese
marks (`prepare_speech`).

To add a rule: here, with a row in `tests/rplab/tts/test_g2p.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rplab.tts.numerals import NUMBER, spell_number
from rplab.tts.text import HANGUL, MAX_CHARS, MAX_REPEATS, READABLE, SpeechTextError, quote_short

MAX_SENTENCE_CHARS = 100
"""Longest text that goes through the network at once; attention grows with the square of it."""
MAX_HTS_CHARS = 80
"""The same for the embedded voice, which drifts on very long sentences."""
_PASSES = 6

_MARKS = str.maketrans(
    {
        **dict.fromkeys("。．｡\n", "."),
        **dict.fromkeys("、，､;；:：・·/|", ","),
        **dict.fromkeys("！", "!"),
        **dict.fromkeys("？", "?"),
        **dict.fromkeys("“”‘’\"'`´「」『』〈〉《》«»()（）[]［］{}｛｝【】〔〕〝〟", "'"),
        **dict.fromkeys("—―–−‐‑‒─━-", "-"),
        "…": "...",
        "‥": "..",
        "～": "ー",
        "〜": "ー",
        "~": "ー",
    }
)
_WORDS = {
    "%": "パーセント", "℃": "度", "°": "度", "+": "プラス", "=": "イコール", "×": "かける", "÷": "わる", "&": "アンド", "@": "アットマーク",
    "$": "ドル", "¥": "円", "€": "ユーロ", "£": "ポンド", "₩": "ウォン", "‰": "パーミル",
}  # fmt: skip
_QUIET = frozenset("*_#\\^<>\u3000\u200b\u200d\ufe0e\ufe0f\ufeff")
"""Markdown and invisible joiners: they carry no sound and are not worth a notice."""
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_URL = re.compile(r"(?:https?://|www\.)[\w\-.~:/?#\[\]@!$&'()*+,;=%]+")
_LAUGH = re.compile(r"(?<=[ぁ-ヺー一-鿿!?.])[wW]+(?![A-Za-z])")
_MONEY = re.compile(r"([$¥€£₩])\s?(\d[\d,]*(?:\.\d+)?)")
_DEGREES = re.compile(r"°\s?[CF](?![A-Za-z])")
_CLOCK = re.compile(r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])")
_DATE = re.compile(r"(?<!\d)(\d{4})[/.-](1[0-2]|0?[1-9])[/.-](3[01]|[12]\d|0?[1-9])(?!\d)")
_MINUS = re.compile(r"(?<![0-9A-Za-z.,ァ-ヺ一-鿿])[-−–](?=\d)")
_RANGE = re.compile(r"(?<=\d)\s?[~〜～]\s?(?=\d)")
_KEPT = re.compile(r"[0-9A-Za-zα-ωΑ-Ωぁ-ゖゝゞァ-ヺーヽヾ々〇一-鿿㐀-䶿豈-﫿\U00020000-\U0003ffff!?.,'\- ]")
_LINE_ENDS = re.compile(r"[\s\u2028\u2029\x85]*[\n\r\f\v\u2028\u2029\x85][\s\u2028\u2029\x85]*")
_REPEATS = re.compile(rf"(\S)\1{{{MAX_REPEATS},}}")
_JAPANESE_MARKS = str.maketrans({".": "。", ",": "、", "!": "！", "?": "？", "'": None, "-": "、", "…": "、"})


@dataclass(frozen=True)
class NormalisedText:
    """Text in the form that voices read, and what was taken out."""

    text: str
    """Kana, kanji, letters and `! ? … , . ' -`; a blank only between two Latin words."""
    dropped: Mapping[str, int]
    """Reason -> characters: emoji, symbol, control, foreign, laugh, repeat, url."""


@dataclass(frozen=True)
class SpeechText:
    """What the embedded voice will speak, and what was taken out."""

    sentences: tuple[str, ...]
    """Sentences with Japanese marks, each at most `MAX_HTS_CHARS` long and with something readable in it."""
    dropped: Mapping[str, int]
    """As in `NormalisedText`."""


def normalise(text: str) -> NormalisedText:
    """Bring `text` into the form that a voice was trained on. Applying it to its own result changes nothing.

    Raises:
        SpeechTextError: Empty, Korean in it, or longer than `MAX_CHARS`.

    Example:
        >>> normalise("第3回は10:30から…！😀").text
        '第三回は十時三十分から...!'
    """
    if not text.strip():
        raise SpeechTextError("empty", "there is no text to speak")
    if len(text) > MAX_CHARS:
        raise SpeechTextError("too_long", f"the text has {len(text)} characters; speak at most {MAX_CHARS} at a time")
    dropped: Counter[str] = Counter()
    for _ in range(_PASSES):  # one is nearly always enough; what a removal joins is seen by the next
        again = _pass(text, dropped)
        if again == text:
            break
        text = again
    return NormalisedText(text, dict(dropped))


def prepare_speech(text: str) -> SpeechText:
    """Normalise `text` for the embedded voice: sentences with Japanese marks.

    Raises:
        SpeechTextError: As `normalise`, or nothing readable in it.

    Example:
        >>> prepare_speech("えっ、10:30に?😀 うん!").sentences
        ('えっ、十時三十分に？', 'うん！')
    """
    normalised = normalise(text)
    sentences = tuple(
        sentence
        for part in split_sentences(normalised.text, max_chars=MAX_HTS_CHARS)
        if READABLE.search(sentence := _with_japanese_marks(part))
    )
    if not sentences:
        raise SpeechTextError("unreadable", f"nothing in {quote_short(text)} can be spoken in Japanese")
    return SpeechText(sentences, normalised.dropped)


def _with_japanese_marks(sentence: str) -> str:
    """One mark where several met, none at the start, a comma inside for dots that only hold the breath."""
    sentence = re.sub(r"\.{2,}(?=[^.!?])", ",", sentence).translate(_JAPANESE_MARKS)
    sentence = re.sub(r"[、。]+(?=[。！？])|(?<=[。！？、])[、。]+|^[、。ー]+", "", sentence)
    return sentence.strip().rstrip("、")


def _pass(text: str, dropped: Counter[str]) -> str:
    text = unicodedata.normalize("NFKC", text.replace("…", "...").replace("‥", ".."))
    if found := HANGUL.findall(text):
        raise SpeechTextError("hangul", f"{len(found)} Korean characters in {quote_short(text)}; this voice speaks Japanese only")
    text = _take_out(_ANSI, "", text, dropped, "control")
    text = _take_out(_URL, "リンク", text, dropped, "url")
    text = _spell_numbers(text)
    text = _LINE_ENDS.sub("\n", text.strip()).replace("\t", " ").translate(_MARKS)
    text = "".join(_keep(character, dropped) for character in text)
    text = _take_out(_LAUGH, "", text, dropped, "laugh")
    text = _REPEATS.sub(lambda match: _shorten(match, dropped), text)
    text = re.sub(r" +", " ", text).strip()
    return re.sub(r"(?<![A-Za-z]) | (?![A-Za-z])", "", text)


def _spell_numbers(text: str) -> str:
    text = _DEGREES.sub("度", text)
    text = _MONEY.sub(lambda match: match[2] + _WORDS[match[1]], text)
    text = _DATE.sub(lambda match: f"{match[1]}年{int(match[2])}月{int(match[3])}日", text)
    text = _CLOCK.sub(lambda match: f"{int(match[1])}時" + (f"{int(match[2])}分" if int(match[2]) else ""), text)
    text = _RANGE.sub("から", text)
    text = _MINUS.sub("マイナス", text)
    return NUMBER.sub(lambda match: spell_number(match[0]), text)


def _take_out(pattern: re.Pattern[str], replacement: str, text: str, dropped: Counter[str], reason: str) -> str:
    if taken := sum(len(match) for match in pattern.findall(text)):
        dropped[reason] += taken
        return pattern.sub(replacement, text)
    return text


def _shorten(match: re.Match[str], dropped: Counter[str]) -> str:
    dropped["repeat"] += len(match[0]) - MAX_REPEATS
    return match[1] * MAX_REPEATS


def _keep(character: str, dropped: Counter[str]) -> str:
    """Return what stands for one character, and count it when nothing does."""
    if word := _WORDS.get(character):
        return word
    if _KEPT.match(character):
        return character
    if character in _QUIET:
        return ""
    base = unicodedata.normalize("NFD", character)[0]
    if base.isascii() and base.isalpha():  # é and its like: read as the plain letter
        return base
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Co", "Cn", "Mn", "Me"):
        dropped["control"] += 1
    elif category in ("So", "Sk"):  # Sk: skin tones
        dropped["emoji"] += 1
    elif category[0] in "LN":
        dropped["foreign"] += 1
    else:
        dropped["symbol"] += 1
    return ""


def split_sentences(text: str, *, max_chars: int = MAX_SENTENCE_CHARS) -> list[str]:
    """Cut normalised text after `.`, `!`, `?` (with what follows of them and of quotes).

    A longer sentence is cut at a comma, a blank, or hard. Parts with nothing readable in them join the part before.
    """
    sentences: list[str] = []
    for part in _cut(text, max_chars):
        if READABLE.search(part):
            sentences.append(part)
        elif sentences and len(sentences[-1]) + len(part) <= max_chars:
            sentences[-1] += part
    return sentences


def _cut(text: str, max_chars: int) -> Iterator[str]:
    for match in re.finditer(r"[^.!?]*(?:[.!?]+'*|$)", text):
        sentence = match[0].strip()
        while len(sentence) > max_chars:
            cut = max(sentence.rfind(mark, max_chars // 3, max_chars) for mark in ",' ")
            cut = cut + 1 if cut > 0 else max_chars
            yield sentence[:cut].strip()
            sentence = sentence[cut:].strip()
        if sentence:
            yield sentence
