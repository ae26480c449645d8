"""Quotation marks: straighten them, find speech, split a reply into narration and speech without losing text.

A reply is read line by line. Inside a line a `"` opens or closes by what stands beside it, so that
`"그는 "곧 갈게"라고만 적었어."` is one speech with a quotation inside and `"어서 와." "춥지?"` is two.
A quoted piece is *speech* when it stands by itself (at a line's start, after a finished sentence, or at a line's end);
a quoted word inside a sentence (`"비밀"이라고 적힌 상자`) stays narration. A mark without partner is repaired: an
opener runs to the end of its line, a closer from the start of its line.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

SENTENCE_END = ".!?…~。！？♪"
"""Characters that finish a spoken or narrated sentence."""

_STRAIGHT = str.maketrans({**dict.fromkeys("“”„‟〝〞〟＂«»", '"'), **dict.fromkeys("‘’‚‛", "'")})
_CORNERS = {"「": "」", "『": "』"}
_OPENING = "([{<（【《〈"
_SAYING = re.compile(r"(?:이?라)?고\b|하고|하며|라며|이?라고")
_TRAILING = re.compile(r"[.!?…~。！？,]+")


class Kind(StrEnum):
    """What a block of a reply is."""

    NARRATION = "narration"
    SPEECH = "speech"


class Block(NamedTuple):
    """A piece of a reply, in reading order."""

    kind: Kind
    text: str
    """Without the enclosing quotation marks."""
    line: int
    """0-based number of the (non-blank) line it starts on."""
    quoted: bool = False
    """Whether an opening mark stood before it."""


@dataclass(frozen=True)
class _Piece:
    """A quoted or unquoted stretch of one line."""

    text: str
    quoted: bool = False
    opened: bool = True
    """False: only the closing mark was there."""
    closed: bool = True
    """False: only the opening mark was there."""


def straighten(text: str) -> str:
    """Return `text` with typographic quotation marks replaced by `"` and `'`; corner brackets stay."""
    return text.translate(_STRAIGHT)


def is_visible(text: str) -> bool:
    """Return whether anything a reader could see stands in `text` (no whitespace, control or zero-width characters)."""
    return any(unicodedata.category(char)[0] not in "ZC" for char in text)


def has_words(text: str) -> bool:
    """Return whether letters, digits or at least an ellipsis stand in `text` beside quotation marks."""
    return is_visible(text.translate({ord(mark): None for mark in "\"'「」『』"}))


def split_lines(text: str) -> list[str]:
    """Return the visible lines of `text`, stripped; every Unicode line break counts."""
    return [line.strip() for line in text.splitlines() if is_visible(line)]


def split_blocks(text: str) -> list[Block]:
    """Split a reply into narration and speech in reading order; no letter of it is lost.

    >>> [(b.kind.value, b.text) for b in split_blocks('사야는 웃는다. “어서 와.”')]
    [('narration', '사야는 웃는다.'), ('speech', '어서 와.')]
    """
    return blocks_of_lines(split_lines(text))


def blocks_of_lines(lines: Sequence[str]) -> list[Block]:
    """Like `split_blocks` for lines that are already apart; a quotation over several lines is joined with spaces."""
    lines = _join_open_quotes([straighten(line) for line in lines])
    pieces = [_scan(line) for line in lines]
    if not any(piece.quoted and _strength(row, at) for row in pieces for at, piece in enumerate(row)):
        lines = [_promote_single_quotes(line) for line in lines]
        pieces = [_scan(line) for line in lines]
    strengths = [[_strength(row, at) for at in range(len(row))] for row in pieces]
    bar = 2 if any(2 in row for row in strengths) else 1
    blocks: list[Block] = []
    for number, (row, strength) in enumerate(zip(pieces, strengths, strict=True)):
        blocks += _blocks_of_pieces(row, [value >= bar for value in strength], number)
    return blocks


def _blocks_of_pieces(row: list[_Piece], speech: list[bool], number: int) -> list[Block]:
    """Join embedded quotations back into the narration around them; pull stray punctuation into the speech before it."""
    blocks: list[Block] = []
    narration = ""
    for piece, spoken in zip(row, speech, strict=True):
        if not spoken:
            narration += _as_written(piece)
            continue
        blocks += _narration(narration, number)
        narration = ""
        blocks.append(Block(Kind.SPEECH, _unwrap(piece.text), number, quoted=piece.opened))
    blocks += _narration(narration, number)
    return _pull_punctuation(blocks)


def _narration(text: str, number: int) -> list[Block]:
    return [Block(Kind.NARRATION, text.strip(), number)] if is_visible(text) else []


def _as_written(piece: _Piece) -> str:
    if not piece.quoted:
        return piece.text
    return '"' * piece.opened + piece.text + '"' * piece.closed


def _pull_punctuation(blocks: list[Block]) -> list[Block]:
    """`"어서 와".` -> speech `어서 와.`; a second full stop after a finished sentence is dropped."""
    merged: list[Block] = []
    for block in blocks:
        mark = _TRAILING.match(block.text) if block.kind is Kind.NARRATION and merged and merged[-1].kind is Kind.SPEECH else None
        if mark is None:
            merged.append(block)
            continue
        before = merged[-1]
        finished = before.text.rstrip()[-1:] in SENTENCE_END and before.text.strip() != ""
        merged[-1] = before if finished else before._replace(text=before.text.rstrip() + mark[0])
        rest = block.text[mark.end() :].strip()
        if is_visible(rest):
            merged.append(block._replace(text=rest))
    return merged


def _scan(line: str) -> list[_Piece]:
    """Cut one line into quoted and unquoted pieces. Every character ends up in a piece, except unpaired inner marks."""
    pieces: list[_Piece] = []
    start = at = 0
    while at < len(line):
        char = line[at]
        if char in _CORNERS and (piece := _scan_corner(line, at)):
            end, text = piece
        elif char == '"':
            if _is_stray_closer(line, at):
                pieces.append(_Piece(line[start:at], quoted=True, opened=False))
                start = at = at + 1
                continue
            end, text = _scan_quote(line, at)
        else:
            at += 1
            continue
        if at > start:
            pieces.append(_Piece(line[start:at]))
        pieces.append(_Piece(text, quoted=True, closed=end <= len(line)))
        start = at = min(end, len(line))
    if start < len(line):
        pieces.append(_Piece(line[start:]))
    return pieces


def _scan_corner(line: str, at: int) -> tuple[int, str] | None:
    """Return (index after the partner, text inside) of a corner bracket that stands by itself; None for a title in a sentence."""
    closer = _CORNERS[line[at]]
    before = line[:at].rstrip()
    end = line.find(closer, at + 1)
    if before and before[-1] not in SENTENCE_END + '」』"':
        return None
    if end < 0:
        return len(line) + 1, line[at + 1 :]
    after = line[end + 1 : end + 2]
    if after and not after.isspace() and after not in SENTENCE_END + ',「『"':
        return None
    return end + 1, line[at + 1 : end]


def _is_stray_closer(line: str, at: int) -> bool:
    """Return whether a `"` outside any quotation looks like the end of one that was never opened."""
    before, after = line[at - 1 : at] if at else "", line[at + 1 : at + 2]
    closing_shape = bool(before) and not before.isspace() and before not in _OPENING and not (after.isalnum() or after in _OPENING + "'")
    if after == "":
        closing_shape = closing_shape or (bool(before) and is_visible(line[:at]))
    return closing_shape and line.count('"', at + 1) % 2 == 0


def _scan_quote(line: str, at: int) -> tuple[int, str]:
    """Return (index after the closing mark, text inside); an index beyond the line means that it is never closed."""
    depth, kept, index = 1, "", at + 1
    while index < len(line):
        if line[index] != '"':
            kept += line[index]
            index += 1
            continue
        before, after = line[index - 1], line[index + 1 : index + 2]
        opens = (before.isspace() or before in _OPENING + '"') and after != "" and not after.isspace() and after not in '."!?…,~'
        if index == at + 1 and after == "":
            opens = False
        if opens and line.count('"', index + 1) >= depth + 1:
            depth += 1
            kept += '"'
        elif not opens:
            depth -= 1
            if depth == 0:
                return index + 1, kept
            kept += '"'
        index += 1
    return len(line) + 1, kept


def _strength(row: Sequence[_Piece], at: int) -> int:
    """Return 2 for certain speech, 1 for probable speech, 0 for narration or a word quoted inside a sentence."""
    piece = row[at]
    if not piece.quoted:
        return 0
    if not piece.opened:
        return 2
    before = row[at - 1].text if at and not row[at - 1].quoted else ""
    after = row[at + 1].text if at + 1 < len(row) and not row[at + 1].quoted else ""
    rest = after.lstrip(SENTENCE_END + ",")
    finished = piece.text.rstrip()[-1:] in SENTENCE_END and bool(piece.text.strip())
    own_start = not before.strip() or before.rstrip()[-1] in SENTENCE_END + ":;」』"
    if rest and not rest[0].isspace():
        return 1 if own_start and finished and _SAYING.match(rest) else 0
    own_end = not is_visible(rest)
    if own_start:
        return 2 if own_end or finished else 1
    if not own_end:
        return 0
    return 2 if finished or (not piece.closed and before[-1:].isspace()) else 1


_SINGLE = r"'(?:[^'\"]|(?<=\w)'(?=\w))+'"
_SINGLE_LINE = re.compile(rf"(?P<before>|.*[.!?…~]\s+)(?P<quoted>{_SINGLE}(?:\s+{_SINGLE})*)(?P<after>[.!?…~,]*)")


def _promote_single_quotes(line: str) -> str:
    """Turn `'...'` that stands by itself into `"..."` (used only when nothing else in the reply is quoted)."""
    match = _SINGLE_LINE.fullmatch(line)
    if match is None:
        return line
    doubled = re.sub(_SINGLE, lambda single: f'"{single[0][1:-1]}"', match["quoted"])
    return match["before"] + doubled + match["after"]


def _unwrap(speech: str) -> str:
    """Take a second, redundant pair of marks off a speech: `"「어서 와.」"`, `"'어서 와.'"`."""
    inside = speech.strip()
    if re.fullmatch(r"「[^「」]+」|『[^『』]+』", inside) or (re.fullmatch(_SINGLE, inside) and inside.count("'") == 2):
        return inside[1:-1]
    return speech


def _join_open_quotes(lines: list[str]) -> list[str]:
    """Join the lines of a quotation that is opened on one line and closed on a later one."""
    joined: list[str] = []
    at = 0
    while at < len(lines):
        end = _closing_line(lines, at)
        joined.append(" ".join(lines[at : end + 1]))
        at = end + 1
    return joined


def _closing_line(lines: list[str], at: int) -> int:
    """Return the index of the line on which the quotation left open on line `at` ends; `at` itself when none is open."""
    row = _scan(lines[at])
    if not row or row[-1].closed or not is_visible(row[-1].text) or _strength(row, len(row) - 1) == 0:
        return at
    for later in range(at + 1, len(lines)):
        if '"' in lines[later]:
            first = next(piece for piece in _scan(lines[later]) if piece.quoted)
            return later if not first.opened else at
    return at


def quote(text: str) -> str:
    """Return `text` in one pair of `"`."""
    return f'"{text}"'
