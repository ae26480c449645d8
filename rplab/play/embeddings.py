"""Embeddings from an OpenAI-compatible endpoint, kept so that no text is sent twice."""

from __future__ import annotations

import http.client
import json
import os
import urllib.request
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rplab.errors import BackendError
from rplab.play.archive import Archive
from rplab.play.memory_config import EmbeddingConfig
from rplab.seeding import content_id

KEY_VARIABLE = "RPLAB_EMBEDDINGS_KEY"
_BATCH = 64


class Embedder:
    """Turns texts into vectors. Calls block: use a thread."""

    def __init__(self, config: EmbeddingConfig, archive: Archive | None = None) -> None:
        """Prepare; vectors that the archive holds are not asked for again."""
        self.config = config
        self._archive = archive
        self._known: dict[str, NDArray[np.float32]] = {}
        if archive is not None:
            self._known = {digest: np.frombuffer(data, dtype=np.float32) for digest, data in archive.rows("vector")}

    def embed(self, texts: Sequence[str], *, timeout_s: float = 30.0) -> list[NDArray[np.float32]]:
        """Return one vector a text, in order.

        Raises:
            BackendError: The endpoint did not answer in time, or not with embeddings.
        """
        missing = [text for text in dict.fromkeys(texts) if self._digest(text) not in self._known]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            for text, vector in zip(batch, self._ask(batch, timeout_s), strict=True):
                self._keep(text, vector)
        return [self._known[self._digest(text)] for text in texts]

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of what the player just wrote, within the time that the player may be kept waiting."""
        return self.embed([text], timeout_s=self.config.timeout_s)[0]

    def _keep(self, text: str, vector: NDArray[np.float32]) -> None:
        digest = self._digest(text)
        self._known[digest] = vector
        if self._archive is not None:
            self._archive.write(("INSERT OR REPLACE INTO vector VALUES (?, ?)", (digest, vector.tobytes())))

    def _digest(self, text: str) -> str:
        return content_id("e", self.config.model, text)

    def _ask(self, texts: Sequence[str], timeout_s: float) -> list[NDArray[np.float32]]:
        body = json.dumps({"model": self.config.model, "input": list(texts)}).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        url = f"{self.config.url.rstrip('/')}/embeddings"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=timeout_s) as answer:
                rows = json.loads(answer.read())["data"]
            vectors = [np.asarray(row["embedding"], dtype=np.float32) for row in sorted(rows, key=lambda row: row["index"])]
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            raise BackendError(f"{url}: no embeddings ({error}). Check memory.embeddings in the profile") from error
        if len(vectors) != len(texts) or any(vector.ndim != 1 or not np.isfinite(vector).all() for vector in vectors):
            raise BackendError(f"{url}: {len(vectors)} embeddings for {len(texts)} texts. Check memory.embeddings in the profile")
        return vectors
