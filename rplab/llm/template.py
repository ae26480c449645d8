"""Our chat template, and tokenising with it: one wording for training and inference.

TRL recognises templates by exact text and swaps in another for training; a dialogue then reads differently in
training and in play. We ship our own, marked with `{% generation %}`, write it beside every model we make, and use it
for both. Models of another family keep their own template when it has the markers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.errors import ModelError

TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")
END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
IGNORED = -100
"""Label of a token that is not learnt."""


@dataclass(frozen=True)
class Example:
    """One dialogue as numbers."""

    input_ids: list[int]
    labels: list[int]
    """The same ids where they are learnt, else -100."""

    @property
    def num_learnt(self) -> int:
        """Tokens that are learnt."""
        return sum(label != IGNORED for label in self.labels)


def template_hash(template: str) -> str:
    """Return the identity of a template, recorded with every adapter."""
    return hashlib.sha256(template.encode()).hexdigest()


def install_template(tokenizer: Any) -> None:
    """Give `tokenizer` a template that can be trained with, and a padding token that is not its end of turn.

    Tokenizers with ChatML's tokens (the Qwen family) get ours. Others keep their own when it marks the assistant's
    turns; a known unmarked one gets TRL's marked version.

    Raises:
        ModelError: There is no way to tell the assistant's turns in this template.
    """
    vocabulary = tokenizer.get_vocab()
    if TURN_START in vocabulary and TURN_END in vocabulary:
        tokenizer.chat_template = TEMPLATE
        tokenizer.eos_token = TURN_END
        tokenizer.pad_token = END_OF_TEXT if END_OF_TEXT in vocabulary else (tokenizer.pad_token or TURN_END)
    elif "generation %}" not in (tokenizer.chat_template or ""):
        tokenizer.chat_template = _marked_by_trl(tokenizer)
    tokenizer.padding_side = "left"


def _marked_by_trl(tokenizer: Any) -> str:
    from trl.chat_template_utils import get_training_chat_template  # only for models of other families

    remedy = "Add a chat_template.jinja with {% generation %} ... {% endgeneration %} around the assistant's text to the model folder"
    if not tokenizer.chat_template:
        raise ModelError(f"{tokenizer.name_or_path}: the tokenizer has neither ChatML tokens nor a chat template. {remedy}")
    try:
        template = get_training_chat_template(tokenizer)
    except ValueError as error:
        raise ModelError(
            f"{tokenizer.name_or_path}: the chat template has no generation markers and is not a known one. {remedy}"
        ) from error
    return template or tokenizer.chat_template


def end_id(tokenizer: Any) -> int:
    """Return the token that ends a turn."""
    return int(tokenizer.eos_token_id)


def pad_id(tokenizer: Any) -> int:
    """Return the token that fills up a row."""
    return int(tokenizer.pad_token_id)


def render(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, reply_follows: bool = False) -> str:
    """Return a dialogue as the text that the model reads; with `reply_follows` it ends where the reply starts."""
    text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=reply_follows)
    return text


def encode_dialogue(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> Example:
    """Tokenise a dialogue; the assistant's turns with their end-of-turn tokens are learnt."""
    encoded = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    ids: list[int] = list(encoded["input_ids"])
    mask: list[int] = list(encoded["assistant_masks"])
    return Example(ids, [token if learnt else IGNORED for token, learnt in zip(ids, mask, strict=True)])


def encode_prompt(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Tokenise a dialogue up to where the next reply starts."""
    encoded = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True, add_generation_prompt=True)
    return list(encoded["input_ids"])


def encode_completion(tokenizer: Any, prompt: str, completion: str) -> Example:
    """Tokenise a prompt and its completion apart and join them; the completion and the closing token are learnt.

    Tokenising them apart is what inference does: no token can span the border.
    """
    head: list[int] = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    tail: list[int] = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return Example([*head, *tail], [*([IGNORED] * len(head)), *tail])
