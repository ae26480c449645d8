"""KO->JA pairs: single-turn rows and dialogues -> `{instruction, input, output}`.

A pair must look like what it says: Hangul on the Korean side; kana or kanji and no Hangul at all on the Japanese side.
Equal pairs are kept once; one Korean line with several translations is kept and counted. The predecessor checked
neither, and left narration out although it said otherwise; here narration is a switch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from rplab.dataset.counts import RowCounts, read_usable_rows, refuse_nothing
from rplab.errors import DataError
from rplab.jsonl import dumps, write_text
from rplab.text.korean import has_han, has_hangul, has_kana
from rplab.text.quotes import Kind, split_blocks

INSTRUCTION = "다음 한국어 문장을 자연스러운 일본어로 번역하시오."
"""The instruction of every row: training and use share it."""


class Pair(NamedTuple):
    """A Korean text and its Japanese translation."""

    korean: str
    japanese: str

    def as_row(self) -> dict[str, str]:
        """Return the training row."""
        return {"instruction": INSTRUCTION, "input": self.korean, "output": self.japanese}


class Unusable(StrEnum):
    """Why a row or a pair gives nothing to learn."""

    NO_SCENE = "no_scene"
    NO_DIALOGUE = "no_dialogue"
    EMPTY_KOREAN = "empty_korean"
    EMPTY_JAPANESE = "empty_japanese"
    NOT_KOREAN = "korean_side_without_hangul"
    NOT_JAPANESE = "japanese_side_without_kana_or_kanji"
    HANGUL_IN_JAPANESE = "hangul_in_japanese"
    DUPLICATE = "duplicate"


def pairs_of_row(row: Mapping[str, Any], *, narration: bool = False) -> list[Pair | Unusable]:
    """Return what one row has to offer: pairs, and reasons where a pair is not usable.

    Args:
        row: A single-turn row (`scene`), a converted one (`meta.scene`), or a dialogue (`messages` and `turns`).
        narration: Also take narration lines.

    Raises:
        DataError: A field has a wrong type (no file or line yet).
    """
    if isinstance(row.get("turns"), list):
        return [check_pair(*pair) for pair in _dialogue_lines(row)] or [Unusable.NO_DIALOGUE]
    scene = row.get("scene")
    if scene is None and isinstance(row.get("meta"), dict):
        scene = row["meta"].get("scene")
    if scene is None or scene == {}:
        return [Unusable.NO_SCENE]
    scene = _mapping(scene, "scene")
    if scene.get("dialogue") is None:
        return [Unusable.NO_DIALOGUE]
    parts = ("narration", "dialogue") if narration else ("dialogue",)
    texts = [_mapping(scene[part], f"scene.{part}") for part in parts if scene.get(part) is not None]
    return [check_pair(_text(item, "ko"), _text(item, "jp")) for item in texts]


def check_pair(korean: str, japanese: str) -> Pair | Unusable:
    """Return the trimmed pair, or why it is not one."""
    korean, japanese = korean.strip(), japanese.strip()
    if not korean:
        return Unusable.EMPTY_KOREAN
    if not japanese:
        return Unusable.EMPTY_JAPANESE
    if not has_hangul(korean):
        return Unusable.NOT_KOREAN
    if has_hangul(japanese):
        return Unusable.HANGUL_IN_JAPANESE
    if not (has_kana(japanese) or has_han(japanese)):
        return Unusable.NOT_JAPANESE
    return Pair(korean, japanese)


def _dialogue_lines(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (Korean speech, Japanese) of every turn whose backend wrote both."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise DataError("a dialogue needs 'messages' beside 'turns'", remedy="Use the file that `rplab data dialogues` wrote")
    said: dict[str, list[str]] = defaultdict(list)
    for message in messages:
        said[message["role"]].append(speech_of(message["content"]))
    for role, field in (("user", "player_japanese"), ("assistant", "japanese")):
        for korean, turn in zip(said[role], row["turns"], strict=False):
            japanese = _mapping(turn, "turns").get(field)
            if isinstance(japanese, str) and korean:
                yield korean, japanese


def speech_of(content: str) -> str:
    """Return what is spoken in a turn, without quotation marks; an empty string when nobody speaks."""
    return " ".join(block.text.strip() for block in split_blocks(content) if block.kind is Kind.SPEECH)


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{name!r} must be an object, not {type(value).__name__}", remedy="Repair or delete this line")
    return value


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{key!r} must be text, not {type(value).__name__}", remedy="Repair or delete this line")
    return value or ""


def make_translation_file(source: Path, target: Path, *, narration: bool = False, strict: bool = False) -> RowCounts:
    """Write the pairs of a file; `target` is replaced only at the end.

    Args:
        source: Single-turn rows or dialogues.
        target: Rows `{instruction, input, output}`.
        narration: Also take narration lines.
        strict: A line that is no JSON stops the run; otherwise it is counted.

    Raises:
        DataError: A field of a wrong type; no usable line but broken ones.
    """
    counts = RowCounts()
    pairs = list(_unique_pairs(source, counts, narration=narration, strict=strict))
    counts.kept = len(pairs)
    refuse_nothing(counts, "pair", [source])
    counts.notes["conflicting_inputs"] = count_conflicts(pairs)
    write_text(target, (dumps(pair.as_row()) + "\n" for pair in pairs))
    return counts


def _unique_pairs(source: Path, counts: RowCounts, *, narration: bool, strict: bool) -> Iterator[Pair]:
    seen: set[Pair] = set()
    for line, row in read_usable_rows(source, counts, strict=strict):
        try:
            found = pairs_of_row(row, narration=narration)
        except DataError as error:
            raise DataError(str(error), file=source, line=line) from None
        for item in found:
            if isinstance(item, Unusable):
                counts.drop(item.value, source, line)
            elif item in seen:
                counts.drop(Unusable.DUPLICATE.value, source, line)
            else:
                seen.add(item)
                yield item


def count_conflicts(pairs: list[Pair]) -> int:
    """Count the Korean lines that have more than one translation."""
    translations: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        translations[pair.korean].add(pair.japanese)
    return sum(len(found) > 1 for found in translations.values())
