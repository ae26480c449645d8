"""Rows of the dataset's views: reading, checking, and counting what is dropped and why.

A file that is not there or is no JSON stops the run (`DataError` with the line). A row that cannot be learnt from is
dropped, and every drop has a reason that appears in stats and log.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from rplab.errors import DataError
from rplab.jsonl import read_rows
from rplab.llm.template import TemplateMismatchError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Messages = list[dict[str, str]]

_ROLES = ("system", "user", "assistant")
_CONTROL = re.compile(r"<\|im_start\|>|<\|im_end\|>|<\|endoftext\|>")


class Drop(StrEnum):
    """Why a row is not used."""

    NO_MESSAGES = "no_messages"
    BAD_MESSAGE = "bad_message"
    UNKNOWN_ROLE = "unknown_role"
    NO_ASSISTANT = "no_assistant"
    EMPTY_ASSISTANT = "empty_assistant"
    CONTROL_TOKEN = "control_token"
    NO_PROMPT = "no_prompt"
    NO_COLUMNS = "no_columns"
    """Protagonist, player or speech level is missing or wrong."""
    TOO_LONG = "too_long"
    TEMPLATE = "template"
    """The model's chat template does not take these messages: roles that do not alternate, for example."""


@dataclass
class Tally:
    """What happened to the rows of one file."""

    read: int = 0
    kept: int = 0
    shortened: int = 0
    """Dialogues that lost exchanges to fit the token limit."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> rows."""

    def as_stats(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {"read": self.read, "kept": self.kept, "shortened": self.shortened, "dropped": dict(sorted(self.dropped.items()))}


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """Usable rows of a file, and the tally of the rest."""

    rows: list[T]
    tally: Tally
    digest: str
    """sha256 of the file."""


def view_path(dataset: Path, view: str, side: str) -> Path:
    """Return the file of one side (`train` or `eval`) of a view in a dataset artefact."""
    return dataset / "views" / view / f"{side}.jsonl"


def load_rows(
    path: Path,
    check: Callable[[dict[str, Any]], Messages | Drop],
    encode: Callable[[Messages, dict[str, Any]], T | None],
    shorten: Callable[[Messages], Messages],
) -> Loaded[T]:
    """Read a JSON-lines file, check its rows and turn them into what a trainer takes.

    Args:
        path: The file.
        check: Returns the messages of a row, or why it is dropped.
        encode: Turns messages (and the row they come from) into numbers; None when they do not fit.
        shorten: Takes one exchange away, and returns nothing when none is left.

    Raises:
        DataError: No such file, a line that is no JSON object, or no usable row at all.
    """
    tally = Tally()
    rows: list[T] = []
    for number, row in read_rows(path):
        tally.read += 1
        messages = check(row)
        result = messages if isinstance(messages, Drop) else _fit(messages, row, encode, shorten, tally)
        if isinstance(result, Drop):
            if not tally.dropped[result]:
                logger.warning("%s:%d: row dropped: %s (further ones are counted)", path, number, result)
            tally.dropped[result] += 1
            continue
        rows.append(result)
    tally.kept = len(rows)
    if not rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in tally.dropped.items()) or "the file is empty"
        raise DataError(
            f"no usable row ({reasons})", file=path, remedy="Make the dataset again, or raise the token limit when rows are too long"
        )
    return Loaded(rows, tally, file_digest(path))


def _fit(
    messages: Messages,
    row: dict[str, Any],
    encode: Callable[[Messages, dict[str, Any]], T | None],
    shorten: Callable[[Messages], Messages],
    tally: Tally,
) -> T | Drop:
    """Shorten a dialogue exchange by exchange until it fits."""
    shorter = messages
    try:
        while shorter:
            if (result := encode(shorter, row)) is not None:
                tally.shortened += shorter is not messages
                return result
            shorter = shorten(shorter)
    except TemplateMismatchError as error:
        if not tally.dropped[Drop.TEMPLATE]:
            logger.warning("%s", error)
        return Drop.TEMPLATE
    return Drop.TOO_LONG


def check_messages(value: Any, control: re.Pattern[str] = _CONTROL) -> Messages | Drop:
    """Return a clean message list, or why it cannot be used for tuning.

    Args:
        value: The row's `messages`.
        control: What the tokenizer would read as a control token (`rplab.llm.template.control_pattern`).
    """
    if not isinstance(value, list) or not value:
        return Drop.NO_MESSAGES
    messages: Messages = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("content"), str):
            return Drop.BAD_MESSAGE
        if item.get("role") not in _ROLES:
            return Drop.UNKNOWN_ROLE
        if control.search(item["content"]):
            return Drop.CONTROL_TOKEN
        messages.append({"role": str(item["role"]), "content": item["content"]})
    return messages


def check_dialogue(row: dict[str, Any], control: re.Pattern[str] = _CONTROL) -> Messages | Drop:
    """Return the messages of an SFT row, which must teach at least one reply."""
    messages = check_messages(row.get("messages"), control)
    if isinstance(messages, Drop):
        return messages
    replies = [message["content"] for message in messages if message["role"] == "assistant"]
    if not replies:
        return Drop.NO_ASSISTANT
    return messages if all(reply.strip() for reply in replies) else Drop.EMPTY_ASSISTANT


def without_last_exchange(messages: Messages) -> Messages:
    """Return the dialogue up to the reply before its last one: a beginning of a dialogue is a dialogue."""
    replies = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: replies[-2] + 1] if len(replies) > 1 else []


def without_oldest_exchange(messages: Messages) -> Messages:
    """Return a prompt without its oldest exchange; system messages at its head and the last user message stay."""
    head = next((index for index, message in enumerate(messages) if message["role"] != "system"), len(messages))
    rest = messages[head:]
    after_reply = next((index + 1 for index, message in enumerate(rest[:-1]) if message["role"] == "assistant"), None)
    return [] if after_reply is None else messages[:head] + rest[after_reply:]


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
