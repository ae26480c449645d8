"""The one prompt of the translator, for training and for play.

The predecessor trained on English headers and served Korean ones (spec/predecessor-models.md 6.1, 11). Here the wording
is written beside the weights (`translator.json`) when the translator is trained, and read from there when it is used,
so that the two cannot differ, not even after this file has changed. The layout is the model's own chat template: base
models of the Qwen family know it, and the end of turn is learnt with every answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rplab.errors import ModelError
from rplab.jsonl import write_text

INSTRUCTION = "다음 한국어 문장을 자연스러운 일본어로 번역하시오."
PROMPT_FILE = "translator.json"
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TranslationPrompt:
    """How a text is put to the translator."""

    instruction: str = INSTRUCTION

    def messages(self, text: str) -> list[dict[str, str]]:
        """Return the chat messages that ask for the translation of `text`."""
        return [{"role": "user", "content": f"{self.instruction}\n{clean_source(text)}"}]

    def save(self, folder: Path) -> None:
        """Write the prompt beside the weights."""
        body = {"schema_version": _SCHEMA_VERSION, "instruction": self.instruction, "source": "ko", "target": "ja"}
        write_text(folder / PROMPT_FILE, json.dumps(body, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> TranslationPrompt:
        """Read the prompt that the weights in `folder` were trained with.

        Raises:
            ModelError: The folder holds no translator of this version.
        """
        path = folder / PROMPT_FILE
        try:
            body: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version, instruction = body["schema_version"], body["instruction"]
        except FileNotFoundError:
            raise ModelError(
                f"{folder}: no translator ({PROMPT_FILE} is missing). Give the model/ folder of the stage `translator`"
            ) from None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ModelError(f"{path}: not readable ({error}). Run the stage `translator` again") from None
        if version != _SCHEMA_VERSION or not isinstance(instruction, str):
            raise ModelError(f"{path}: schema version {version!r}, this is {_SCHEMA_VERSION}. Run the stage `translator` again")
        return cls(instruction)


def clean_source(text: str) -> str:
    """Return a text as the translator reads it: one line, single spaces, no quotation marks around the whole."""
    line = re.sub(r"\s+", " ", text).strip()
    if len(line) >= 2 and line[0] in '"“' and line[-1] in '"”' and not re.search(r"[\"“”]", line[1:-1]):
        line = line[1:-1].strip()
    return line
