"""Chat templates, and tokenising with them: one wording for training and inference.

TRL recognises templates by exact text and swaps in another for training; a dialogue then reads differently in
training and in play. We ship our own for ChatML models (the Qwen family), marked with `{% generation %}`, write it beside
every model we make, and use it for both. Models of another family keep the template they were made with
(`rplab.llm.template_adoption`); where it has no marks, the replies are found by rendering: what a prompt's render leaves over of the
dialogue's render is the reply.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from rplab.errors import DataError, ModelError

TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")
END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
IGNORED = -100
"""Label of a token that is not learnt."""
MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


class TemplateMismatchError(DataError):
    """A dialogue that the model's chat template does not take as it is."""


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


def end_id(tokenizer: Any) -> int:
    """Return the token that ends a turn."""
    return int(tokenizer.eos_token_id)


def pad_id(tokenizer: Any) -> int:
    """Return the token that fills up a row."""
    return int(tokenizer.pad_token_id)


def control_texts(tokenizer: Any) -> list[str]:
    """Return what the tokenizer reads as a control token wherever it stands in a text, longest first.

    A message that holds one could end a turn or write a system message; it must never reach a template.
    """
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
    return sorted({*special, TURN_START, TURN_END, END_OF_TEXT}, key=lambda text: (-len(text), text))


def control_pattern(tokenizer: Any) -> re.Pattern[str]:
    """Return what finds `control_texts` in a text."""
    return re.compile("|".join(map(re.escape, control_texts(tokenizer))))


def _apply(tokenizer: Any, messages: Sequence[Mapping[str, str]], **options: Any) -> Any:
    """Apply the chat template; what it refuses (a role, two messages in a row by the same one) is a `TemplateMismatchError`."""
    try:
        return tokenizer.apply_chat_template(list(messages), **options)
    except TemplateError as error:
        roles = " ".join(message.get("role", "?") for message in messages)
        raise TemplateMismatchError(f"the model's chat template refuses these messages ({roles[:120]}): {error}") from error


def render(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, reply_follows: bool = False) -> str:
    """Return a dialogue as the text that the model reads; with `reply_follows` it ends where the reply starts.

    Raises:
        TemplateMismatchError: The template refuses the messages.
    """
    text: str = _apply(tokenizer, messages, tokenize=False, add_generation_prompt=reply_follows)
    return text


def encode_dialogue(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> Example:
    """Tokenise a dialogue; the assistant's turns with their end-of-turn tokens are learnt.

    Raises:
        TemplateMismatchError: The template refuses the messages, or writes a reply otherwise than it stands in the dialogue.
    """
    if not MARK.search(tokenizer.chat_template or ""):
        return _encode_located(tokenizer, messages)
    encoded = _apply(tokenizer, messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    ids: list[int] = list(encoded["input_ids"])
    mask: list[int] = list(encoded["assistant_masks"])
    return Example(ids, [token if learnt else IGNORED for token, learnt in zip(ids, mask, strict=True)])


def reply_spans(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[str, list[tuple[int, int]]]:
    """Return the render of a dialogue and where its replies stand in it: from after the prompt to after the end of turn.

    Raises:
        TemplateMismatchError: A reply is not where the prompt before it ends, or is written otherwise than it stands in the dialogue.
    """
    text = render(tokenizer, messages)
    spans: list[tuple[int, int]] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render(tokenizer, messages[:index], reply_follows=True)
        if not text.startswith(prompt):
            raise TemplateMismatchError(
                f"reply {len(spans) + 1}: the template writes the messages before it differently when a reply follows"
            )
        closed = re.compile(rf"\s*{re.escape(message['content'].strip())}\s*{re.escape(str(tokenizer.eos_token))}")
        found = closed.match(text, len(prompt))
        if found is None:
            raise TemplateMismatchError(
                f"reply {len(spans) + 1}: the template does not write it as its text followed by {tokenizer.eos_token}"
            )
        spans.append((len(prompt), found.end()))
    return text, spans


def _encode_located(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> Example:
    """Tokenise a dialogue whose template has no marks."""
    text, spans = reply_spans(tokenizer, messages)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets: list[tuple[int, int]] = [(int(start), int(end)) for start, end in encoded["offset_mapping"]]
    crossed = any(start < border < end for start, end in offsets for border, _ in spans)
    if crossed:  # in inference no token can span the border between prompt and reply
        return _encode_pieces(tokenizer, text, spans)
    ids: list[int] = list(encoded["input_ids"])
    learnt = [any(start >= first and end <= last and end > start for first, last in spans) for start, end in offsets]
    return Example(ids, [token if taught else IGNORED for token, taught in zip(ids, learnt, strict=True)])


def _encode_pieces(tokenizer: Any, text: str, spans: Sequence[tuple[int, int]]) -> Example:
    """Tokenise prompts and replies apart and join them."""
    ids: list[int] = []
    labels: list[int] = []
    place = 0
    for first, last in [*spans, (len(text), len(text))]:
        for start, end, taught in ((place, first, False), (first, last, True)):
            piece: list[int] = list(tokenizer(text[start:end], add_special_tokens=False)["input_ids"]) if end > start else []
            ids += piece
            labels += piece if taught else [IGNORED] * len(piece)
        place = last
    return Example(ids, labels)


def encode_prompt(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Tokenise a dialogue up to where the next reply starts."""
    encoded = _apply(tokenizer, messages, tokenize=True, return_dict=True, add_generation_prompt=True)
    return list(encoded["input_ids"])


def encode_completion(tokenizer: Any, prompt: str, completion: str) -> Example:
    """Tokenise a prompt and its completion apart and join them; the completion and the closing token are learnt.

    Tokenising them apart is what inference does: no token can span the border.
    """
    head: list[int] = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    tail: list[int] = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return Example([*head, *tail], [*([IGNORED] * len(head)), *tail])


def check_vocabulary(tokenizer: Any, num_embeddings: int) -> None:
    """Make sure that a model has a row for every token that its tokenizer may write.

    Raises:
        ModelError: It has fewer.
    """
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= num_embeddings:
        raise ModelError(
            f"{tokenizer.name_or_path}: the tokenizer's highest token is {highest}, but the model has only {num_embeddings} embedding "
            "rows: they do not belong together. Copy the tokenizer files that came with these weights; adding tokens is not supported"
        )
