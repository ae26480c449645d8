"""Build the engines of `rplab play`: adapters from the lab's models to the protocols of `rplab.play.engines`.

Imported only when the models are wanted: this is where torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rplab.llm.eval_config import DecodingConfig
from rplab.llm.generate import TextModel
from rplab.play.config import PlayConfig, ReplySampling
from rplab.play.endpoint import EndpointModel
from rplab.play.engines import PromptUsage, ReplyModel
from rplab.play.published import Published
from rplab.translator.translate import Translator


class LocalReplyModel:
    """The role-play model in this process."""

    def __init__(self, model: TextModel) -> None:
        """Take over a loaded model."""
        self._model = model

    @property
    def context_tokens(self) -> int:
        """See `ReplyModel.context_tokens`."""
        return self._model.max_positions

    @property
    def usage(self) -> PromptUsage:
        """See `ReplyModel.usage`."""
        return PromptUsage(self._model.num_read, self._model.num_reused)

    def count(self, messages: Sequence[Mapping[str, str]]) -> int:
        """See `ReplyModel.count`."""
        return len(self._model.encode(messages))

    def prefill(self, messages: Sequence[Mapping[str, str]], *, cancelled: Callable[[], bool]) -> None:
        """See `ReplyModel.prefill`."""
        self._model.read_ahead(messages, cancelled=cancelled)

    def stream(
        self, messages: Sequence[Mapping[str, str]], sampling: ReplySampling, *, seed: int, cancelled: Callable[[], bool]
    ) -> Iterator[str]:
        """See `ReplyModel.stream`."""
        decoding = DecodingConfig(
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
        )
        return self._model.stream(messages, decoding, seed=seed, cancelled=cancelled)


class LocalTranslator:
    """The translator in this process."""

    def __init__(self, translator: Translator) -> None:
        """Take over a loaded translator."""
        self._translator = translator

    def translate(self, texts: list[str]) -> list[str]:
        """See `TranslatorEngine.translate`; whether the result can be spoken is judged by the session."""
        return [translation.text for translation in self._translator.translate(texts)]


def load_models(published: Published) -> tuple[LocalReplyModel, LocalTranslator]:
    """Load both models of a character.

    Raises:
        ModelError: A folder is missing, incomplete or not loadable.
    """
    card = published.card
    names = {card.name: card.name_ja, card.player.name: card.player.name_ja}
    model = TextModel.load(published.rp_model)
    return LocalReplyModel(model), LocalTranslator(Translator.load(published.translator, glossary=names))


def open_reply_model(published: Published, config: PlayConfig) -> ReplyModel:
    """Return who writes the replies: the endpoint of the settings, else the character's own model in this process.

    Raises:
        BackendError: The endpoint does not answer.
        ModelError: The model's folder is missing, incomplete or not loadable.
    """
    return EndpointModel(config.llm) if config.llm is not None else LocalReplyModel(TextModel.load(published.rp_model))


def open_translator(published: Published) -> LocalTranslator:
    """Load the translator of a character, with its names as glossary. Raises ModelError."""
    card = published.card
    names = {card.name: card.name_ja, card.player.name: card.player.name_ja}
    return LocalTranslator(Translator.load(published.translator, glossary=names))


def warm_up(model: ReplyModel, translator: LocalTranslator, messages: Sequence[Mapping[str, str]]) -> None:
    """Read the beginning of the first prompt and translate a word: kernels, caches and memory are there for the first turn."""
    model.prefill(messages, cancelled=lambda: False)
    translator.translate(["응."])
