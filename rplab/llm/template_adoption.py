"""Giving a tokenizer a template that can be trained with; for a model of another family its own, with end of turn and padding.

A template is tried on a dialogue with two system texts and three exchanges. What it must do: every prompt's render is the
beginning of the dialogue's render (training and inference read the same), every reply stands there as it is, and a
control token ends it. Where it fails on system texts they are joined, or put before the first player message, in the
template itself, so that training, evaluation, play and any other program that reads the folder do the same.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from rplab.errors import DataError, ModelError
from rplab.llm.template import (
    END_OF_TEXT,
    IGNORED,
    MARK,
    TEMPLATE,
    TURN_END,
    TURN_START,
    TemplateMismatchError,
    control_texts,
    encode_dialogue,
    render,
    reply_spans,
)

logger = logging.getLogger(__name__)

_PLAIN = (Path(__file__).parent / "plain_template.jinja").read_text(encoding="utf-8")
_BOTH_MARKS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
_REMEDY = (
    "Add a chat_template.jinja with {% generation %} ... {% endgeneration %} around the assistant's text and its end token to the folder"
)
_REPLY = '사야는 고개를 든다.\n"왔구나 {}."'
_PROBE = [
    {"role": "system", "content": "「사야」 책"},
    {"role": "system", "content": "규칙"},
    *(
        message
        for turn in range(3)
        for message in ({"role": "user", "content": f"안녕 {turn}"}, {"role": "assistant", "content": _REPLY.format(turn)})
    ),
]

_LEADING = (
    "{%- set lead = namespace(text='', count=0, open=true) -%}"
    "{%- for message in messages -%}{%- if lead.open and message['role'] == 'system' -%}"
    "{%- set lead.text = lead.text ~ ('\\n\\n' if lead.count else '') ~ message['content'] -%}{%- set lead.count = lead.count + 1 -%}"
    "{%- else -%}{%- set lead.open = false -%}{%- endif -%}{%- endfor -%}"
)
_JOINED = (
    _LEADING + "{%- if lead.count > 1 -%}"
    "{%- set messages = [{'role': 'system', 'content': lead.text}] + messages[lead.count:] -%}{%- endif -%}"
)
_FOLDED = (
    _LEADING + "{%- if lead.count and messages | length > lead.count -%}"
    "{%- set first = {'role': 'user', 'content': lead.text ~ '\\n\\n' ~ messages[lead.count]['content']} -%}"
    "{%- set messages = [first] + messages[lead.count + 1:] -%}"
    "{%- elif lead.count -%}{%- set messages = [{'role': 'user', 'content': lead.text}] -%}{%- endif -%}"
)
_FIXED_DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
"""Some templates write today's date into the prompt; a model would train and play under different ones."""


def install_template(tokenizer: Any) -> None:
    """Give `tokenizer` a template that can be trained with, its end of turn as end token, and a padding token.

    Tokenizers with ChatML's tokens (the Qwen family) get ours. Others keep their own; one without any gets a plain one
    that ends every turn with the end token. Doing it twice changes nothing.

    Raises:
        ModelError: There is no way to tell the assistant's turns in this template; says why, and what to do.
    """
    vocabulary = tokenizer.get_vocab()
    if TURN_START in vocabulary and TURN_END in vocabulary and _is_chatml(tokenizer):
        tokenizer.chat_template = TEMPLATE
        tokenizer.eos_token = TURN_END
        tokenizer.pad_token = END_OF_TEXT if END_OF_TEXT in vocabulary else (tokenizer.pad_token or TURN_END)
    else:
        adopt_template(tokenizer)
    tokenizer.padding_side = "left"


def _is_chatml(tokenizer: Any) -> bool:
    """Return whether a model that has ChatML's tokens also writes its turns in ChatML (Phi-4, for one, does not)."""
    if not tokenizer.chat_template:
        return True
    try:
        return f"{TURN_START}user\n" in render(tokenizer, [{"role": "user", "content": "-"}], reply_follows=True)
    except (TemplateMismatchError, TypeError, ValueError):
        return False


def adopt_template(tokenizer: Any) -> None:
    """Make the template of a foreign tokenizer fit for training, and set its end and padding tokens.

    Raises:
        ModelError: The replies cannot be told from the rest, or nothing ends them.
    """
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default") or next(iter(own.values()), None)
    if not own:
        _use_plain(tokenizer)
        return
    if "strftime_now" in own and _FIXED_DATE not in own:
        own = _FIXED_DATE + own
    variants = [own, *([_BOTH_MARKS.sub("", own)] if MARK.search(own) else [])]
    problems: list[str] = []
    for before, what in (
        ("", ""),
        (_JOINED, "several system texts are joined"),
        (_FOLDED, "the system text goes before the first message"),
    ):
        for variant in variants:
            tokenizer.chat_template = before + variant
            problem = _try(tokenizer)
            if problem is None:
                if what and before not in own:
                    logger.info("%s: %s, since the model's template takes no other", tokenizer.name_or_path, what)
                return
            problems.append(problem)
    tokenizer.chat_template = own
    raise ModelError(f"{tokenizer.name_or_path}: the chat template cannot be trained with: {problems[0]}. {_REMEDY}")


def _use_plain(tokenizer: Any) -> None:
    if tokenizer.eos_token is None:
        raise ModelError(f"{tokenizer.name_or_path}: the tokenizer has neither a chat template nor an end token. {_REMEDY}")
    first: list[int] = list(tokenizer("-")["input_ids"])
    adds_bos = tokenizer.bos_token_id is not None and first[:1] == [tokenizer.bos_token_id]
    tokenizer.chat_template = _PLAIN.replace("{{- BOS }}", "{{- bos_token }}" if adds_bos else "")
    _set_padding(tokenizer)
    logger.info("%s: no chat template; turns are headed in plain text and end with %s", tokenizer.name_or_path, tokenizer.eos_token)


def _try(tokenizer: Any) -> str | None:
    """Set end and padding tokens by the template, and return what is wrong with it (None: nothing)."""
    before = tokenizer.eos_token
    try:
        end = _end_of_turn(tokenizer)
        if end is None:
            return "no control token stands after a reply, so that the model would never learn to stop"
        tokenizer.eos_token = end
        text, spans = reply_spans(tokenizer, _PROBE)
        missing = [message["content"] for message in _PROBE if message["content"] not in text]
        if missing:
            return f"it leaves out {missing[0]!r}"
        wanted = [text[first:last] for first, last in spans]
        problem = _mask_problem(tokenizer, wanted) if MARK.search(str(tokenizer.chat_template)) else None
    except (TemplateError, DataError, TypeError, ValueError, KeyError) as error:
        tokenizer.eos_token = before
        return str(error).splitlines()[0]
    if problem is not None:
        tokenizer.eos_token = before
        return problem
    _set_padding(tokenizer)
    return None


def _end_of_turn(tokenizer: Any) -> str | None:
    """Return the control token that follows a reply in the middle of a dialogue."""
    text = render(tokenizer, _PROBE)
    reply = _PROBE[3]["content"]
    rest = text[text.index(reply) + len(reply) :].lstrip() if reply in text else ""
    return next((token for token in control_texts(tokenizer) if rest.startswith(token) and token in tokenizer.get_vocab()), None)


def _mask_problem(tokenizer: Any, wanted: list[str]) -> str | None:
    """Return what the template's own marks get wrong: each reply with its end of turn must be inside, and nothing else."""
    example = encode_dialogue(tokenizer, _PROBE)
    ends = sum(label == tokenizer.eos_token_id for label in example.labels)
    if ends != len(wanted):
        return f"its marks leave out the end of turn {tokenizer.eos_token}, so that the model would never learn to stop"
    learnt = tokenizer.decode([label for label in example.labels if label != IGNORED])
    same = "".join(learnt.split()) == "".join("".join(wanted).split())
    return None if same else "its marks hold something else than the replies"


def _set_padding(tokenizer: Any) -> None:
    """Choose a padding token, best one that is not the end of turn (labels are masked by position all the same)."""
    if tokenizer.pad_token is not None and tokenizer.pad_token != tokenizer.eos_token:
        return
    vocabulary = tokenizer.get_vocab()
    known = ("<pad>", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "[PAD]", END_OF_TEXT, "<|end_of_text|>", "<unk>")
    names = [name for name in known if name in vocabulary and name != tokenizer.eos_token]
    tokenizer.pad_token = names[0] if names else tokenizer.eos_token
