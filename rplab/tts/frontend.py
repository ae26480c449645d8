"""Japanese text -> the text a JP-Extra voice reads: one character set, seven marks, numbers in words.

The result holds kana, kanji, Latin and Greek letters and the marks `! ? … , . ' -` only, since every other character
would break the one-to-one match of characters and BERT features. What is taken out is counted by reason and never
passed over in silence. Korean is an error (reason "hangul"): a Japanese voice would speak only what is left of it.

This is the model's own form (`。` becomes `.`); `rplab.tts.text` prepares text for the embedded OpenJTalk voice.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rplab.tts.numerals import NUMBER, spell_number
from rplab.tts.text import HANGUL, MAX_CHARS, MAX_REPEATS, READABLE, SpeechTextError

MAX_SENTENCE_CHARS = 100
"""Longest text that goes through the network at once; attention grows with the square of it."""

_MARKS = str.maketrans(
    {
        **dict.fromkeys("。．｡", "."),
        **dict.fromkeys("、，､;；:：・·", ","),
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
    "#": "シャープ", "$": "ドル", "¥": "円", "€": "ユーロ", "£": "ポンド", "₩": "ウォン", "‰": "パーミル",
}  # fmt: skip
_MONEY = re.compile(r"([$¥€£₩])\s?(\d[\d,]*(?:\.\d+)?)")
_CLOCK = re.compile(r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])")
_DATE = re.compile(r"(?<!\d)(\d{4})[/.-](1[0-2]|0?[1-9])[/.-](3[01]|[12]\d|0?[1-9])(?!\d)")
_MINUS = re.compile(r"(?<![0-9A-Za-z.,ぁ-ゖァ-ヺ一-鿿])[-−–](?=\d)")
_RANGE = re.compile(r"(?<=\d)\s?[~〜～]\s?(?=\d)")
_SPACED_LATIN = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")
_KEPT = re.compile(r"[0-9A-Za-zα-ωΑ-Ωぁ-ゖゝゞァ-ヺーヽヾ々〇一-鿿㐀-䶿豈-﫿\U00020000-\U0003ffff!?.,'\- \n]")
_URL = re.compile(r"(?:https?://|www\.)[\w\-.~:/?#\[\]@!$&'()*+,;=%]+")


@dataclass(frozen=True)
class NormalisedText:
    """Text in the model's form, and what was taken out."""

    text: str
    """Kana, kanji, letters, `! ? . , ' -`; a blank only between two Latin words, a line end between sentences."""
    dropped: Mapping[str, int]
    """Reason -> characters: emoji, symbol, control, foreign, repeat, url."""


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
    text = _pass(text, dropped)
    for _ in range(4):  # what a removal joins is seen by the next pass; one is nearly always enough
        again = _pass(text, dropped)
        if again == text:
            break
        text = again
    return NormalisedText(text, dict(dropped))


def _pass(text: str, dropped: Counter[str]) -> str:
    text = unicodedata.normalize("NFKC", text.replace("…", "...").replace("‥", ".."))
    if found := HANGUL.findall(text):
        raise SpeechTextError("hangul", f"{len(found)} Korean characters in the text; this voice speaks Japanese only")
    for match in _URL.findall(text):
        dropped["url"] += len(match)
    text = _URL.sub("リンク", text)
    text = _spell_numbers(text)
    text = text.translate(_MARKS)
    text = re.sub(r"[\t\r\f\v\u2028\u2029\x85]", "\n", text).replace("\u3000", " ")
    text = "".join(_keep(character, dropped) for character in text)
    text = _shorten_repeats(text, dropped)
    return _settle_blanks(text)


def _spell_numbers(text: str) -> str:
    text = _MONEY.sub(lambda match: match[2] + _WORDS[match[1]], text)
    text = _DATE.sub(lambda match: f"{match[1]}年{int(match[2])}月{int(match[3])}日", text)
    text = _CLOCK.sub(lambda match: f"{int(match[1])}時" + (f"{int(match[2])}分" if int(match[2]) else ""), text)
    text = _RANGE.sub("から", text)
    text = _MINUS.sub("マイナス", text)
    return NUMBER.sub(lambda match: spell_number(match[0]), text)


def _keep(character: str, dropped: Counter[str]) -> str:
    """Return what stands for one character, and count it when nothing does."""
    if word := _WORDS.get(character):
        return word
    if _KEPT.match(character):
        return character
    base = unicodedata.normalize("NFD", character)[0]
    if base.isascii() and base.isalpha():  # é and its like: read as the plain letter
        return base
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


def _shorten_repeats(text: str, dropped: Counter[str]) -> str:
    def shorten(match: re.Match[str]) -> str:
        dropped["repeat"] += len(match[0]) - MAX_REPEATS
        return match[1] * MAX_REPEATS

    return re.sub(rf"(\S)\1{{{MAX_REPEATS},}}", shorten, text)


def _settle_blanks(text: str) -> str:
    """Keep a blank only between Latin words, and no empty lines."""
    lines = (re.sub(r" +", " ", line).strip() for line in text.split("\n"))
    lines = (re.sub(r"(?<![A-Za-z]) | (?![A-Za-z])", "", line) for line in lines)
    return "\n".join(line for line in lines if line)


def split_sentences(text: str, *, max_chars: int = MAX_SENTENCE_CHARS) -> list[str]:
    """Cut normalised text after `.`, `!`, `?` (with what follows of them and of quotes) and at line ends.

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
    for line in text.split("\n"):
        for match in re.finditer(r"[^.!?]*(?:[.!?]+'*|$)", line):
            sentence = match[0].strip()
            while len(sentence) > max_chars:
                cut = max(sentence.rfind(mark, max_chars // 3, max_chars) for mark in ",' ")
                cut = cut + 1 if cut > 0 else max_chars
                yield sentence[:cut].strip()
                sentence = sentence[cut:].strip()
            if sentence:
                yield sentence
