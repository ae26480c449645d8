"""Loss of a model on what a held-out dialogue really says, by assistant turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name

from rplab.jsonl import JsonValue
from rplab.llm.generate import TextModel
from rplab.llm.rows import Messages, without_last_exchange
from rplab.llm.template import IGNORED, Example, encode_dialogue


def measure_nll(model: TextModel, dialogues: Sequence[Messages], max_tokens: int) -> dict[str, JsonValue]:
    """Return the mean loss of assistant turns in nats a token.

    Args:
        model: The model.
        dialogues: Held-out dialogues.
        max_tokens: Longer dialogues are shortened to their first exchanges.

    Returns:
        `mean` over all turns, `per_turn` by turn index, `turns`, `shortened`, `too_long`, and `dialogues`: (summed loss, turns) of
        each, None for one that is too long, in the order given, so that two models can be compared dialogue by dialogue.
    """
    limit = min(max_tokens, model.max_positions)
    shortened = 0
    by_turn: list[list[float]] = []
    by_dialogue: list[JsonValue] = []
    too_long = 0
    for messages in dialogues:
        part, example = messages, encode_dialogue(model.tokenizer, messages)
        while len(example.input_ids) > limit and (part := without_last_exchange(part)):
            example = encode_dialogue(model.tokenizer, part)
        shortened += 0 < len(part) < len(messages)
        if not part:
            too_long += 1
            by_dialogue.append(None)
            continue
        losses = turn_losses(model, example)
        by_dialogue.append([round(sum(losses), 6), len(losses)])
        for index, value in enumerate(losses):
            if index == len(by_turn):
                by_turn.append([])
            by_turn[index].append(value)
    values = [value for turn in by_turn for value in turn]
    return {
        "mean": round(sum(values) / len(values), 6) if values else None,
        "per_turn": [round(sum(turn) / len(turn), 6) for turn in by_turn],
        "turns": len(values),
        "shortened": shortened,
        "too_long": too_long,
        "dialogues": by_dialogue,
    }


@torch.inference_mode()
def turn_losses(model: TextModel, example: Example) -> list[float]:
    """Return the mean loss of each learnt stretch (an assistant turn with its end token), in order."""
    learnt = [index for index, label in enumerate(example.labels) if label != IGNORED and index > 0]
    if not learnt:
        return []
    device = model.model.device
    keep = torch.tensor([index - 1 for index in learnt], device=device)
    logits = model.model(input_ids=torch.tensor([example.input_ids], device=device), logits_to_keep=keep, use_cache=False).logits[0]
    losses = F.cross_entropy(logits.float(), torch.tensor([example.labels[i] for i in learnt], device=device), reduction="none").tolist()
    turns: list[list[float]] = []
    for place, index in enumerate(learnt):
        if place == 0 or learnt[place - 1] != index - 1:
            turns.append([])
        turns[-1].append(losses[place])
    return [sum(turn) / len(turn) for turn in turns]
