"""Token counts as the trainer will see them: the model's `tokenizer.json` and its chat template, without transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rplab.errors import ConfigError, ModelError


class TokenCounter:
    """Counts tokens with the tokenizer of a model folder."""

    def __init__(self, folder: Path) -> None:
        """Load `tokenizer.json` and, when there is one, the chat template of a model folder.

        Raises:
            ModelError: No folder, no usable tokenizer.json, or a broken template.
            ConfigError: The packages for it are not installed.
        """
        try:
            import jinja2  # both belong to the train extra; the data half works without them
            from jinja2.sandbox import ImmutableSandboxedEnvironment
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ConfigError(f"token limits need the package {error.name!r}. Install it: pip install 'rplab[train]'") from None
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"{path}: no such file. Name the folder of a model (with tokenizer.json)")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001 - the Rust library raises plain Exception for a bad file
            raise ModelError(f"{path}: not a tokenizer ({error}). Download or make the model again") from None
        source = _read_template(folder)
        self._template = None
        if source is not None:
            environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
            environment.filters["tojson"] = _to_json
            names: dict[str, Any] = environment.globals
            names["raise_exception"] = _raise_template_error
            self._error = jinja2.TemplateError
            try:
                self._template = environment.from_string(_without_generation_marks(source))
            except jinja2.TemplateError as error:
                raise ModelError(f"{folder}: the chat template is broken ({error}). Download or make the model again") from None

    def count_text(self, text: str) -> int:
        """Return the tokens of a text without special tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def count_prompt(self, messages: Sequence[Mapping[str, str]], flat: str) -> int:
        """Return the tokens of a prompt as the model gets it: through the chat template, or `flat` when there is none.

        Raises:
            ModelError: The template refuses these messages.
        """
        if self._template is None:
            return self.count_text(flat)
        try:
            return self._count_rendered(messages, add_generation_prompt=True)
        except self._error as error:
            raise ModelError(f"the chat template refuses a prompt ({error}). Use a template that accepts system and user turns") from None

    def count_chat(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Return the tokens of a whole conversation through the chat template, or of `role: content` lines when there is none.

        Raises:
            ModelError: The template refuses these messages.
        """
        if self._template is None:
            return self.count_text("\n".join(f"{message['role']}: {message['content']}" for message in messages))
        try:
            return self._count_rendered(messages, add_generation_prompt=False)
        except self._error as error:
            raise ModelError(f"the chat template refuses a conversation ({error}). Use a template that accepts system turns") from None

    def _count_rendered(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> int:
        assert self._template is not None, "checked by the callers"
        rendered = self._template.render(messages=[dict(message) for message in messages], add_generation_prompt=add_generation_prompt)
        return self.count_text(rendered)


def _to_json(value: Any, **_options: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _raise_template_error(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _read_template(folder: Path) -> str | None:
    """Return the chat template from its own file or from tokenizer_config.json; None when the model has none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        return None
    try:
        loaded: Any = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{config}: not valid JSON ({error}). Download or make the model again") from None
    template = loaded.get("chat_template") if isinstance(loaded, dict) else None
    return template if isinstance(template, str) else None


def _without_generation_marks(source: str) -> str:
    """Replace the training-only `generation` block by one that jinja knows, keeping its whitespace control."""
    source = re.sub(r"\{%(-?)\s*generation\s*(-?)%\}", r"{%\1 if true \2%}", source)
    return re.sub(r"\{%(-?)\s*endgeneration\s*(-?)%\}", r"{%\1 endif \2%}", source)
