"""Korean speech in, Japanese speech out: greedy, batched, checked, with one second try."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rplab.llm.eval_config import DecodingConfig, Precision
from rplab.llm.generate import Completion, TextModel
from rplab.translator.checks import find_flags, restore_names
from rplab.translator.prompt import TranslationPrompt, clean_source

logger = logging.getLogger(__name__)

DEFAULT_MAX_NEW_TOKENS = 128
_SERIOUS = ("empty", "hangul", "cut")
"""Flags that are worth a second try."""


@dataclass(frozen=True)
class Translation:
    """A translated line."""

    source: str
    text: str
    """Japanese; empty for an empty source."""
    flags: tuple[str, ...] = ()
    """What is still wrong with it, see `rplab.translator.checks.find_flags`. With `hangul` or `empty` it is not fit to be spoken."""
    retried: bool = False
    """The first try was not good and another one was made."""

    @property
    def is_speakable(self) -> bool:
        """Whether a Japanese voice can read it."""
        return bool(self.text.strip()) and not {"hangul", "empty"} & set(self.flags)


class Translator:
    """A translation model with its prompt."""

    def __init__(self, model: TextModel, prompt: TranslationPrompt, glossary: Mapping[str, str] | None = None) -> None:
        """Take over a loaded model; use `Translator.load` to read a folder."""
        self.model = model
        self.prompt = prompt
        self.glossary = dict(glossary or {})

    @classmethod
    def load(
        cls, folder: Path, *, glossary: Mapping[str, str] | None = None, precision: Precision = "auto", device: str | None = None
    ) -> Translator:
        """Load the `model/` folder of the stage `translator`.

        Args:
            folder: Model folder.
            glossary: Korean name -> kana, for example {"사야": "サヤ"}.
            precision: See `rplab.llm.eval_config.EvaluateConfig.precision`.
            device: torch device; the first GPU when there is one, else the CPU.

        Raises:
            ModelError: The folder is missing, incomplete, or holds no translator.
        """
        model = TextModel.load(folder, precision=precision, device=device)
        return cls(model, TranslationPrompt.load(folder), glossary)

    def translate(
        self,
        texts: Sequence[str],
        *,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        batch_size: int = 32,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Translation]:
        """Translate every text, in the order given; equal calls give equal answers.

        Args:
            texts: Korean lines; blank ones give an empty translation.
            max_new_tokens: Longest translation.
            batch_size: Lines decoded together.
            on_done: Called with the number of lines translated so far; may raise to stop.

        Raises:
            DataError: A line is longer than the model can read.
        """
        sources = [clean_source(text) for text in texts]
        filled = [index for index, source in enumerate(sources) if source]
        greedy = DecodingConfig(max_new_tokens=max_new_tokens)
        first = self._ask([sources[i] for i in filled], greedy, batch_size, on_done)
        results = {index: self._checked(sources[index], answer) for index, answer in zip(filled, first, strict=True)}
        again = [index for index in filled if _is_bad(results[index])]
        if again:
            other = DecodingConfig(max_new_tokens=max_new_tokens, temperature=0.3, top_p=0.9, repetition_penalty=1.15)
            second = self._ask([sources[i] for i in again], other, batch_size, None)
            for index, answer in zip(again, second, strict=True):
                results[index] = _better(results[index], self._checked(sources[index], answer))
        if flagged := sum(bool(result.flags) for result in results.values()):
            logger.info("%d of %d translations are flagged (%d were tried twice)", flagged, len(filled), len(again))
        return [results.get(index, Translation(source, "")) for index, source in enumerate(sources)]

    def translate_line(self, text: str, *, max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS) -> Translation:
        """Translate one line."""
        return self.translate([text], max_new_tokens=max_new_tokens)[0]

    def _ask(
        self, sources: Sequence[str], decoding: DecodingConfig, batch_size: int, on_done: Callable[[int], None] | None
    ) -> list[Completion]:
        prompts = [self.prompt.messages(source) for source in sources]
        return self.model.generate(prompts, decoding, batch_size=batch_size, on_done=on_done)

    def _checked(self, source: str, answer: Completion) -> Translation:
        text = restore_names(source, answer.text.strip(), self.glossary)
        return Translation(source, text, find_flags(source, text, finished=answer.finished, glossary=self.glossary))


def _is_bad(result: Translation) -> bool:
    return any(flag in _SERIOUS for flag in result.flags)


def _better(first: Translation, second: Translation) -> Translation:
    """Return the try with fewer serious flags; the first one when they are equal."""
    chosen = min((first, second), key=lambda result: sum(flag in _SERIOUS for flag in result.flags))
    return Translation(chosen.source, chosen.text, chosen.flags, retried=True)
