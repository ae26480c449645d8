"""GRPO rows from dialogues: every assistant turn gives a prompt that ends with the player, and its reference.

Differences from the predecessor (whose pairs are otherwise kept): system turns always stay in the prompt and the rest
is trimmed by whole exchanges; assistant turns in a row are merged; generator rows (`assistant_raw`) are read; empty
system turns are left out; equal samples are kept once; ids are hashes of the content; train and eval never share a
scenario; everything that is left out is counted.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from rplab.dataset.counts import RowCounts, read_usable_rows, refuse_nothing
from rplab.dataset.names import person_name
from rplab.dataset.split import Groups, choose_eval, shuffled, squash
from rplab.dataset.token_count import TokenCounter
from rplab.errors import DataError
from rplab.jsonl import dumps, write_text
from rplab.seeding import content_id

Messages = list[dict[str, str]]

_ROLES = ("system", "user", "assistant")


class Unusable(StrEnum):
    """Why a row or an assistant turn gives no sample."""

    NO_MESSAGES = "no_messages"
    NO_ASSISTANT = "no_assistant_turn"
    NO_USER_BEFORE = "no_user_turn_before"
    SHORT_PROMPT = "short_prompt"
    SHORT_REFERENCE = "short_reference"
    LONG_PROMPT = "long_prompt"
    LONG_REFERENCE = "long_reference"
    DUPLICATE = "duplicate"


@dataclass(frozen=True)
class GrpoLimits:
    """What a sample may look like; a sample over a limit is left out, never cut inside a turn."""

    max_context_messages: int = 12
    """Messages of a prompt, system turns included; 0 = no limit."""
    min_prompt_chars: int = 8
    min_reference_chars: int = 4
    max_prompt_tokens: int = 0
    """0 = no limit."""
    max_reference_tokens: int = 0


@dataclass(frozen=True)
class Sample:
    """A prompt and the reply that was written to it."""

    prompt_messages: Messages
    reference: str
    turn: int
    """Index of the reference among the row's usable messages."""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def prompt(self) -> str:
        """The prompt as one text, for reading; a role word inside a turn cannot be told from a role here."""
        return flatten(self.prompt_messages)

    @property
    def id(self) -> str:
        """Hash of prompt and reference: equal samples, equal ids."""
        turns = itertools.chain.from_iterable((item["role"], item["content"]) for item in self.prompt_messages)
        return content_id("grpo", *turns, self.reference)


def flatten(messages: Sequence[Mapping[str, str]]) -> str:
    """Return messages as `ROLE: content` lines."""
    return "\n".join(f"{message['role'].upper()}: {message['content']}" for message in messages)


def usable_messages(row: Mapping[str, Any]) -> Messages:
    """Return the turns of a row: known roles, text that is not blank, trimmed; assistant turns in a row merged.

    `{messages}` rows come first; without a usable message the fields system, user and assistant (or assistant_raw).
    """
    raw = row.get("messages")
    found = [turn for item in raw if (turn := _usable(item))] if isinstance(raw, list) else []
    if not found:
        reply = row.get("assistant_raw") if row.get("assistant") is None else row.get("assistant")
        fields = {"system": row.get("system"), "user": row.get("user"), "assistant": reply}
        if not (isinstance(fields["user"], str) and isinstance(reply, str)):
            return []
        found = [turn for role, content in fields.items() if (turn := _usable({"role": role, "content": content}))]
    return _merge_replies(found)


def _usable(item: Any) -> dict[str, str] | None:
    if not isinstance(item, dict):
        return None
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        return None
    role, content = role.strip().lower(), content.strip()
    return {"role": role, "content": content} if role in _ROLES and content else None


def _merge_replies(messages: Messages) -> Messages:
    merged: Messages = []
    for message in messages:
        if merged and message["role"] == merged[-1]["role"] == "assistant":
            merged[-1] = {"role": "assistant", "content": f"{merged[-1]['content']}\n{message['content']}"}
        else:
            merged.append(message)
    return merged


def samples_of(messages: Messages, limits: GrpoLimits, tokens: TokenCounter | None = None) -> Iterator[Sample | Unusable]:
    """Yield a sample, or the reason against it, for every assistant turn."""
    replies = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    if not replies:
        yield Unusable.NO_ASSISTANT if messages else Unusable.NO_MESSAGES
    for at in replies:
        if at == 0 or messages[at - 1]["role"] != "user":
            yield Unusable.NO_USER_BEFORE
            continue
        sample = Sample(trim_context(messages[:at], limits.max_context_messages), messages[at]["content"], at)
        yield _reason_against(sample, limits, tokens) or sample


def trim_context(prompt: Messages, limit: int) -> Messages:
    """Shorten a prompt to `limit` messages: leading system turns stay, whole exchanges go from the front.

    The result ends with the last user turn and, when anything was cut, starts (after the system turns) with a user
    turn. The last user turn stays even when the limit is smaller.
    """
    if limit <= 0 or len(prompt) <= limit:
        return prompt
    num_system = next((at for at, message in enumerate(prompt) if message["role"] != "system"), len(prompt))
    system, rest = prompt[:num_system], prompt[num_system:]
    room = max(1, limit - num_system)
    starts = [at for at in range(len(rest)) if rest[at]["role"] == "user" and (at == 0 or rest[at - 1]["role"] != "user")]
    start = next((at for at in starts if len(rest) - at <= room), len(rest) - 1)
    return [*system, *rest[start:]]


def _reason_against(sample: Sample, limits: GrpoLimits, tokens: TokenCounter | None) -> Unusable | None:
    if len(sample.reference) < limits.min_reference_chars:
        return Unusable.SHORT_REFERENCE
    if len(sample.prompt) < limits.min_prompt_chars:
        return Unusable.SHORT_PROMPT
    if tokens and limits.max_prompt_tokens and tokens.count_prompt(sample.prompt_messages, sample.prompt) > limits.max_prompt_tokens:
        return Unusable.LONG_PROMPT
    if tokens and limits.max_reference_tokens and tokens.count_text(sample.reference) > limits.max_reference_tokens:
        return Unusable.LONG_REFERENCE
    return None


def group_keys(messages: Messages) -> list[str]:
    """Return what ties a conversation to others: its system texts, and its turns apart from spaces and punctuation."""
    system = [squash(message["content"]) for message in messages if message["role"] == "system"]
    turns = [squash(message["content"]) for message in messages if message["role"] != "system"]
    scenario = ["scenario:" + "\x1f".join(system)] if any(system) else []
    return [*scenario, "opening:" + "\x1f".join([*([] if scenario else system), *turns[: 2 if scenario else 1]])]


def make_grpo_files(
    inputs: Sequence[Path],
    train: Path,
    evaluation: Path,
    *,
    eval_ratio: float = 0.05,
    seed: int = 42,
    limits: GrpoLimits = GrpoLimits(),
    tokens: TokenCounter | None = None,
    strict: bool = False,
) -> RowCounts:
    """Write the train and eval rows `{id, prompt, prompt_messages, reference, meta}` of some files.

    Rows whose metadata names them also get the columns protagonist, player and register, which our rewards read.

    Args:
        inputs: Files with `{messages}` rows or generator rows; a file named twice is read once.
        train: Target of the training rows.
        evaluation: Target of the held-out rows.
        eval_ratio: Share to hold out, 0 <= ratio < 1, in whole scenarios.
        seed: Decides the split and the order of the rows.
        limits: What a sample may look like.
        tokens: Counts tokens; needed when a token limit is set.
        strict: A line that is no JSON object stops the run; otherwise it is counted.

    Raises:
        DataError: No usable sample at all, or a broken line when `strict`.
    """
    counts = RowCounts()
    groups = Groups()
    samples: dict[str, tuple[Sample, str]] = {}
    files = _unique_files(inputs, counts)
    for path in files:
        for line, row in read_usable_rows(path, counts, strict=strict):
            messages = usable_messages(row)
            keys = group_keys(messages) if messages else []
            groups.tie(keys)
            for sample in samples_of(messages, limits, tokens):
                if isinstance(sample, Unusable):
                    counts.drop(sample.value, path, line)
                elif sample.id in samples:
                    groups.tie([keys[0], samples[sample.id][1]])
                    counts.drop(Unusable.DUPLICATE.value, path, line)
                else:
                    meta = {"source_path": str(path), "source_line": line, "assistant_turn_index": sample.turn, "who": _who(row)}
                    samples[sample.id] = (Sample(sample.prompt_messages, sample.reference, sample.turn, meta), keys[0])
    counts.kept = len(samples)
    refuse_nothing(counts, "sample", files)
    if not samples:
        reasons = ", ".join(f"{reason} {number}" for reason, number in counts.dropped.most_common()) or "no rows"
        raise DataError(f"no usable sample in {len(files)} file(s) ({reasons})", file=files[0], remedy="Check the format and the limits")
    group_of = {key: groups.name_of(group) for key, (_, group) in samples.items()}
    held_out = choose_eval(Counter(group_of.values()), eval_ratio, seed)
    order = shuffled(samples, seed)
    sides = {
        train: [key for key in order if group_of[key] not in held_out],
        evaluation: [key for key in order if group_of[key] in held_out],
    }
    write_together({path: [dumps(_row(samples[key][0], group_of[key])) + "\n" for key in keys] for path, keys in sides.items()})
    counts.notes.update({"train": len(sides[train]), "eval": len(sides[evaluation]), "scenarios": len(set(group_of.values()))})
    counts.notes["eval_scenarios"] = len(held_out)
    return counts


def write_together(files: Mapping[Path, Sequence[str]]) -> None:
    """Replace several files: all are on disk before the first is put in place (a device or pipe is written to directly).

    Raises:
        StorageError: Disk full or not writable; every target is unchanged then.
    """
    waiting = {path: path.with_name(f".{path.name}.{os.getpid()}.ready") for path in files if path.is_file() or not path.exists()}
    try:
        for path, chunks in files.items():
            write_text(waiting.get(path, path), chunks)
        for path, ready in waiting.items():
            os.replace(ready, path)
    finally:
        for ready in waiting.values():
            ready.unlink(missing_ok=True)


def _unique_files(inputs: Sequence[Path], counts: RowCounts) -> list[Path]:
    files: dict[Path, Path] = {}
    for path in inputs:
        if path.resolve() in files:
            counts.drop("input_named_twice", path, 0)
        files.setdefault(path.resolve(), path)
    return list(files.values())


def _who(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that rewards need, when the row's metadata states them."""
    meta = row.get("meta")
    if not isinstance(meta, dict):
        return {}
    who = {"protagonist": person_name(meta.get("protagonist")), "player": person_name(meta.get("player")), "register": meta.get("register")}
    return {name: value for name, value in who.items() if isinstance(value, str) and value}


def _row(sample: Sample, group: str) -> dict[str, Any]:
    meta = dict(sample.meta)
    who = meta.pop("who")
    return {
        "id": sample.id,
        "prompt": sample.prompt,
        "prompt_messages": sample.prompt_messages,
        "reference": sample.reference,
        **who,
        "meta": {**meta, "scenario": group},
    }
