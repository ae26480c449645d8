"""Scoring the replies of a group with their prompt read once.

GRPO scores many replies to one prompt. Padded rows read the prompt again for every reply; here a micro-batch is one row

    prompt A without its last token | last token, reply 1 | last token, reply 2 | ... | prompt B without its last token | ...

in which every reply sees its prompt and itself. For a group of 8 with prompts five times as long as the replies that is
a quarter of the tokens, and the probabilities are the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from rplab.llm.attention import Prefixes
from rplab.llm.template import IGNORED

ROUND = 128
"""Rows are filled up to a multiple of this: the libraries beneath keep code and buffers for every length that they meet (on
a CPU 40 MiB a length, measured)."""


@dataclass
class _Row:
    """A row under construction."""

    ids: list[int] = field(default_factory=list[int])
    places: list[int] = field(default_factory=list[int])
    """Position of each token in its own sequence."""
    labels: list[int] = field(default_factory=list[int])
    keys: list[int] = field(default_factory=list[int])
    """Places of the keys, segment by segment."""
    before: list[int | None] = field(default_factory=list["int | None"])
    """Number of the segment that each segment sees before itself."""
    borders_q: list[int] = field(default_factory=lambda: [0])
    borders_k: list[int] = field(default_factory=lambda: [0])

    def add(self, ids: list[int], labels: list[int], before: int | None) -> int:
        """Append a segment that sees segment `before` and itself; return its number."""
        prefix = range(0) if before is None else range(self.borders_q[before], self.borders_q[before + 1])
        own = range(len(self.ids), len(self.ids) + len(ids))
        self.ids += ids
        self.labels += labels
        self.places += range(len(prefix), len(prefix) + len(ids))
        self.keys += [*prefix, *own]
        self.borders_q.append(len(self.ids))
        self.borders_k.append(len(self.keys))
        self.before.append(before)
        return len(self.before) - 1


@dataclass(frozen=True)
class SharedRow:
    """A micro-batch as one row."""

    inputs: dict[str, Any]
    """What the model takes: ids, positions, borders, keys, labels."""
    source: torch.Tensor
    """(learnt tokens, 2) row and column of the padded replies, in the order of the learnt tokens of the row."""


def share_prefixes(ids: torch.Tensor, mask: torch.Tensor, num_reply_columns: int) -> SharedRow:
    """Lay out a padded micro-batch as one row.

    Args:
        ids: (rows, prompt + reply), prompts padded on the left, replies on the right.
        mask: Same shape, 1 where a token is real.
        num_reply_columns: Columns that belong to the replies.
    """
    border = ids.shape[1] - num_reply_columns
    groups: dict[tuple[int, ...], list[int]] = {}
    real = [(row.tolist(), seen.bool().tolist()) for row, seen in zip(ids, mask, strict=True)]
    for index, (row, seen) in enumerate(real):
        groups.setdefault(tuple(token for token, is_real in zip(row[:border], seen[:border], strict=True) if is_real), []).append(index)
    packed, source = _Row(), list[tuple[int, int]]()
    for prompt, members in groups.items():
        *head, last = prompt
        prefix = packed.add(head, [IGNORED] * len(head), None) if head else None
        for index in members:
            row, seen = real[index]
            columns = [column for column in range(num_reply_columns) if seen[border + column]]
            reply = [row[border + column] for column in columns]
            packed.add([last, *reply], [IGNORED, *reply], prefix)
            source += [(index, column) for column in columns]
    if filler := -len(packed.ids) % ROUND:
        packed.add([0] * filler, [IGNORED] * filler, None)
    device = ids.device
    borders = [torch.tensor(values, dtype=torch.int32, device=device) for values in (packed.borders_q, packed.borders_k)]
    inputs = {
        "input_ids": torch.tensor([packed.ids], device=device),
        "position_ids": torch.tensor([packed.places], device=device),
        "labels": torch.tensor([packed.labels], device=device),
        "cu_seq_lens_q": borders[0],
        "cu_seq_lens_k": borders[1],
        "max_length_q": int(borders[0].diff().max()),
        "max_length_k": int(borders[1].diff().max()),
        "prefixes": Prefixes(tuple(packed.before), torch.tensor(packed.keys, device=device)),
    }
    return SharedRow(inputs, torch.tensor(source, device=device).reshape(-1, 2))


def spread(values: torch.Tensor, shared: SharedRow, shape: tuple[int, int]) -> torch.Tensor:
    """Put the scores of the row's tokens back into a padded table; padding scores 0.

    Args:
        values: (1, T - 1) one score a token but the first, as TRL's fused head returns them.
        shared: The row.
        shape: (rows, reply columns).
    """
    learnt = shared.inputs["labels"][0, 1:] != IGNORED
    table = values.new_zeros(shape)
    return table.index_put((shared.source[:, 0], shared.source[:, 1]), values[0][learnt])
