r"""Make any `{messages}` file fit for training: clean lines, real names, strict alternation, and no more tokens than asked.

What is done to a row, in this order:

1. the first system turn stays, later ones too unless they are fixed output rules; turns of other roles leave;
2. rule lines (`---`) and notes behind names (`사야(주인공)`) leave; 주인공 and 플레이어 become the names that metadata or the
   scenario book give, with the particle that fits (플레이어를 -> 하야토를). In replies, 주인공 with a particle becomes 그녀 or 그,
   or the name when the gender is not known; when nothing is known the word stays;
3. meta lines of replies leave (`rplab.text.meta_lines`);
4. lines that are not finished: a reply's line gets its full stop (and its closing mark); of a player's turn such lines
   leave while finished ones are there, otherwise they are mended, too;
5. a reply before the first player turn leaves; turns of one role in a row are joined; a player turn at the end leaves;
6. while the row is longer than `max_tokens` through the chat template, the oldest exchange leaves; system turns never do.

Whatever is taken away is counted. The result is a fixed point: running it again changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rplab.dataset.counts import RowCounts
from rplab.dataset.people import People, find_people, name_people
from rplab.errors import DataError
from rplab.jsonl import dumps, read_rows, write_text
from rplab.text.korean import compose
from rplab.text.meta_lines import find_meta, is_policy, is_rule_line
from rplab.text.quotes import is_visible

CountTokens = Callable[[Sequence[Mapping[str, str]]], int]
"""Returns the tokens of messages as the trainer sees them."""

_MAX_ROUNDS = 6
_ROLES = ("system", "user", "assistant")
_FINISHED = re.compile(r".*[.!?…\"“”。！？」』'’]", re.DOTALL)
_LOOSE_END = re.compile(r"[\s,，:：;；、\-–—]+$")
_ROLE_NOTE = re.compile(
    r"(?<=[가-힣A-Za-z])[ \t]?[(（](?:주인공|플레이어|유저|사용자|캐릭터|남주|여주|화자|상대|assistant|user|player|protagonist|NPC|PC)[)）]"
)


class Dropped(StrEnum):
    """Why a row does not come out."""

    NO_MESSAGES = "no_messages"
    NO_CONTENT = "content_is_null"
    NOT_TEXT = "content_is_not_text"
    NO_SYSTEM = "no_system_turn"
    LATE_SYSTEM = "system_turn_inside_dialogue"
    NO_EXCHANGE = "no_exchange"
    TOO_LONG = "one_exchange_is_longer_than_max_tokens"
    UNSTABLE = "no_stable_form"


@dataclass(frozen=True)
class Preprocessed:
    """A row's new messages and what was done to get there."""

    messages: list[dict[str, str]]
    notes: Counter[str]


def preprocess_messages(messages: Sequence[Any], meta: Any, count_tokens: CountTokens | None, max_tokens: int) -> Preprocessed | Dropped:
    """Preprocess the messages of one row (see the module's description).

    Args:
        messages: `{role, content}` objects.
        meta: The row's `meta` (its `protagonist` and `player` come before the book's), or anything else.
        count_tokens: Counts a whole conversation; None: no limit.
        max_tokens: Largest number of tokens.
    """
    if not messages:
        return Dropped.NO_MESSAGES
    turns = _read_turns(messages)
    if isinstance(turns, Dropped):
        return turns
    notes: Counter[str] = Counter()
    people: People | None = None
    for _ in range(_MAX_ROUNDS):
        before = [dict(turn) for turn in turns]
        people = people or find_people(meta, next((turn["content"] for turn in turns if turn["role"] == "system"), ""))
        shaped = _shape([_clean_turn(turn, people, notes) for turn in _without_policy(turns, notes)], notes)
        if isinstance(shaped, Dropped):
            return shaped
        turns = shaped
        if turns == before:
            break
    else:
        return Dropped.UNSTABLE
    fitted = trim_pairs(turns, count_tokens, max_tokens) if count_tokens else turns
    if not fitted:
        return Dropped.TOO_LONG
    if removed := len(turns) - len(fitted):
        notes["pairs_trimmed"] += removed // 2
        notes["rows_trimmed"] += 1
    return Preprocessed(fitted, notes)


def _read_turns(messages: Sequence[Any]) -> list[dict[str, str]] | Dropped:
    turns: list[dict[str, str]] = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str):
            return Dropped.NOT_TEXT
        content: Any = message.get("content")
        if role.strip().lower() not in _ROLES:
            turns.append({"role": "other", "content": ""})
        elif content is None:
            return Dropped.NO_CONTENT
        elif not isinstance(content, str):
            return Dropped.NOT_TEXT
        else:
            turns.append({"role": role.strip().lower(), "content": compose(content)})
    return turns


def _without_policy(turns: Sequence[dict[str, str]], notes: Counter[str]) -> Iterator[dict[str, str]]:
    """Leave out turns of unknown roles and later system turns that are rules of output."""
    systems = 0
    for turn in turns:
        if turn["role"] == "other":
            notes["turns_of_other_roles"] += 1
            continue
        systems += turn["role"] == "system"
        if turn["role"] == "system" and systems > 1 and is_policy(turn["content"]):
            notes["policy_turns"] += 1
            continue
        yield turn


def _clean_turn(turn: Mapping[str, str], people: People, notes: Counter[str]) -> dict[str, str]:
    role, text = turn["role"], turn["content"].replace("\r\n", "\n").replace("\r", "\n")
    text = "\n".join(line for line in text.split("\n") if not is_rule_line(line))
    text = name_people(_ROLE_NOTE.sub("", text), people, pronoun=role == "assistant")
    if role == "system":
        return {"role": role, "content": text.strip()}
    lines = [line.strip() for line in text.split("\n") if is_visible(line)]
    if role == "assistant":
        kinds = [find_meta(line) for line in lines]
        notes.update(f"lines_left_out_{kind}" for kind in kinds if kind)
        lines = [line for line, kind in zip(lines, kinds, strict=True) if kind is None]
    return {"role": role, "content": "\n".join(_finish(lines, notes, mend_all=role == "assistant"))}


def _finish(lines: Sequence[str], notes: Counter[str], *, mend_all: bool) -> list[str]:
    """Return lines that all end like a sentence (see step 4)."""
    finished = [line for line in lines if _FINISHED.fullmatch(line) and line.count('"') % 2 == 0]
    if len(finished) == len(lines):
        return finished
    if finished and not mend_all:
        notes["player_lines_left_out"] += len(lines) - len(finished)
        return finished
    notes["lines_mended"] += len(lines) - len(finished)
    return [mended for line in lines if (mended := mend_line(line))]


def mend_line(line: str) -> str:
    """Give a line its full stop and its closing quotation mark; an empty string when there is no word in it.

    >>> mend_line('사야는 고개를 든다'), mend_line('"어서 와')
    ('사야는 고개를 든다.', '"어서 와."')
    """
    if not any(char.isalnum() for char in line):
        return line if _FINISHED.fullmatch(line) and line.count('"') % 2 == 0 else ""
    if line.count('"') % 2 == 1:
        if line.endswith('"') and not line.startswith('"'):
            return f'"{line}' if _FINISHED.fullmatch(line[:-1]) else f'"{line[:-1].rstrip()}."'
        return mend_line(_LOOSE_END.sub("", line)) if _LOOSE_END.search(line) else f'{line}"' if _FINISHED.fullmatch(line) else f'{line}."'
    return line if _FINISHED.fullmatch(line) else f"{_LOOSE_END.sub('', line)}."


def _shape(turns: Sequence[dict[str, str]], notes: Counter[str]) -> list[dict[str, str]] | Dropped:
    """Bring turns into the order system+, (user, assistant)+ (see step 5)."""
    visible = [turn for turn in turns if is_visible(turn["content"])]
    notes["empty_turns"] += len(turns) - len(visible)
    if not any(turn["role"] == "system" for turn in visible):
        return Dropped.NO_SYSTEM
    head = next((at for at, turn in enumerate(visible) if turn["role"] != "system"), len(visible))
    systems, talk = visible[:head], visible[head:]
    if not systems or any(turn["role"] == "system" for turn in talk):
        return Dropped.NO_SYSTEM if not systems else Dropped.LATE_SYSTEM
    while talk and talk[0]["role"] == "assistant":
        talk = talk[1:]
        notes["replies_before_first_player_turn"] += 1
    joined: list[dict[str, str]] = []
    for turn in talk:
        if joined and joined[-1]["role"] == turn["role"]:
            joined[-1] = {"role": turn["role"], "content": f"{joined[-1]['content']}\n{turn['content']}"}
            notes["turns_joined"] += 1
        else:
            joined.append(turn)
    if joined and joined[-1]["role"] == "user":
        joined.pop()
        notes["player_turns_without_reply"] += 1
    return [*systems, *joined] if joined else Dropped.NO_EXCHANGE


def trim_pairs(turns: Sequence[dict[str, str]], count_tokens: CountTokens, max_tokens: int) -> list[dict[str, str]]:
    """Return the turns without as many of the oldest exchanges as it takes to fit; an empty list when one is too long.

    Args:
        turns: System turns, then user and assistant in turn.
        count_tokens: Counts a whole conversation.
        max_tokens: Largest number of tokens.
    """
    head = sum(turn["role"] == "system" for turn in turns)
    pairs = (len(turns) - head) // 2
    low, high = 0, pairs  # exchanges to leave out; fewer tokens with each, so the least number is searched by halving
    while low < high:
        middle = (low + high) // 2
        if count_tokens([*turns[:head], *turns[head + 2 * middle :]]) <= max_tokens:
            high = middle
        else:
            low = middle + 1
    return [] if low == pairs else [*turns[:head], *turns[head + 2 * low :]]


def preprocess_file(source: Path, target: Path, *, max_tokens: int, count_tokens: CountTokens | None) -> RowCounts:
    """Preprocess a `{messages}` file; `target` is replaced only when every line was good JSON.

    Raises:
        DataError: A line that is no JSON object, or has no list of messages (file, line, what to do).
    """
    counts = RowCounts()

    def lines() -> Iterator[str]:
        for line, row in read_rows(source):
            counts.rows += 1
            messages = row.get("messages")
            if not isinstance(messages, list):
                raise DataError(
                    "'messages' is missing or no list", file=source, line=line, remedy="Convert the file first: rplab data convert"
                )
            result = preprocess_messages(messages, row.get("meta"), count_tokens, max_tokens)
            if isinstance(result, Dropped):
                counts.drop(result.value, source, line)
                continue
            counts.kept += 1
            counts.notes["changed"] += result.messages != messages
            counts.notes.update({name: number for name, number in result.notes.items() if number})
            yield dumps({**row, "messages": result.messages}) + "\n"

    write_text(target, lines())
    return counts
