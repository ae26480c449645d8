"""Character ids for the Japanese character-level DeBERTa, without a tokenizer library.

The model's tokenizer maps each character of NFKC text to a row of `vocab.txt`; nothing more. Looking it up here takes
transformers off the run-time path, and with it the class of bugs where a new release splits text differently and
`word2ph` no longer fits (upstream issue 236).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rplab.errors import ModelError

_SPECIAL = ("[CLS]", "[SEP]", "[UNK]")


class BertVocabulary:
    """The characters of one BERT model."""

    def __init__(self, path: Path) -> None:
        """Read `vocab.txt` (one token a line).

        Raises:
            ModelError: No such file, or the special tokens are not in it.
        """
        try:
            tokens = path.read_text("utf-8").split("\n")
        except FileNotFoundError:
            raise ModelError(f"{path}: no such file. Copy vocab.txt of the BERT model beside its ONNX file") from None
        except UnicodeDecodeError:
            raise ModelError(f"{path}: not UTF-8. Fetch vocab.txt of the BERT model again") from None
        self._ids = {token.rstrip("\r"): index for index, token in enumerate(tokens) if token.rstrip("\r")}
        missing = [token for token in _SPECIAL if token not in self._ids]
        if missing:
            raise ModelError(f"{path}: not a BERT vocabulary: {', '.join(missing)} missing. Fetch vocab.txt of the BERT model again")
        self._start, self._end, self._unknown = (self._ids[token] for token in _SPECIAL)

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self, text: str) -> NDArray[np.int64]:
        """Return the ids of normalised text with both ends: length `len(text) + 2`."""
        middle = [self._ids.get(character, self._unknown) for character in text]
        return np.array([self._start, *middle, self._end], dtype=np.int64)

    def num_unknown(self, text: str) -> int:
        """Return how many characters of `text` the model does not know."""
        return sum(character not in self._ids for character in text)
