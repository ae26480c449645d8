"""Text embeddings from an OpenAI-compatible `/embeddings` endpoint, on file before they are used.

The answers are appended to a file (`text hash -> vector`), so a run that was stopped asks only for what is missing. 429s,
server errors and broken connections are tried again with back-off; everything else ends the run with the server's words.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from rplab.backend.config import EmbeddingsConfig
from rplab.backend.openai import find_key, open_transport
from rplab.backend.retry import TRANSIENT_STATUSES, backoff_s, retry_after_s
from rplab.backend.transport import Transport, TransportFault
from rplab.errors import BackendError, RefusedError
from rplab.jsonl import storage_error

BATCH_TEXTS = 64
MAX_TRIES = 8
Vectors = NDArray[np.float32]


def embed_texts(
    texts: Sequence[str],
    config: EmbeddingsConfig,
    record: Path,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> Vectors:
    """Return unit vectors, one row a text.

    Args:
        texts: Any texts; equal ones are asked for once.
        config: The endpoint.
        record: File of the answers so far; appended to.
        report: Receives texts done and all texts.

    Returns:
        float32, shape (len(texts), dimensions of the model), each row of length 1.

    Raises:
        ConfigError: A wrong address, or no key in the environment.
        BackendError: The server does not answer, or not with vectors.
        StorageError: The record cannot be written.
    """
    known = _read_record(record)
    keys = [_key(text, config.model) for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if missing:
        known |= asyncio.run(_fetch(list(missing.items()), config, record, report))
    widths = {len(known[key]) for key in keys}
    if len(widths) > 1:
        raise BackendError(f"{config.base_url}: vectors of {sorted(widths)} dimensions from one model. Delete {record} and run again")
    matrix = np.stack([known[key] for key in keys]) if keys else np.zeros((0, 1), np.float32)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.maximum(lengths, 1e-12)).astype(np.float32)


def _key(text: str, model: str) -> str:
    return hashlib.blake2b(f"{model}\0{text}".encode(), digest_size=16).hexdigest()


def _read_record(path: Path) -> dict[str, Vectors]:
    known: dict[str, Vectors] = {}
    if not path.is_file():
        return known
    for line in path.read_bytes().split(b"\n")[:-1]:  # a torn last line is no answer
        try:
            key, packed = json.loads(line)
            known[key] = np.frombuffer(base64.b64decode(packed, validate=True), dtype="<f4")
        except (ValueError, TypeError):
            continue  # damaged: asked for again
    return known


async def _fetch(
    missing: Sequence[tuple[str, str]], config: EmbeddingsConfig, record: Path, report: Callable[[int, int], None]
) -> dict[str, Vectors]:
    endpoint = config.endpoint()
    _, key = find_key(endpoint, endpoint.base_url)
    transport = open_transport(endpoint.base_url, key, max_open=config.in_flight, timeout_s=config.timeout_s)
    batches = iter([missing[at : at + BATCH_TEXTS] for at in range(0, len(missing), BATCH_TEXTS)])
    found: dict[str, Vectors] = {}

    async def work() -> None:
        for batch in batches:
            vectors = await _ask([text for _, text in batch], config, transport)
            _append(record, [(name, vector) for (name, _), vector in zip(batch, vectors, strict=True)])
            found.update({name: vector for (name, _), vector in zip(batch, vectors, strict=True)})
            report(len(found), len(missing))

    try:
        await asyncio.gather(*(work() for _ in range(config.in_flight)))
    finally:
        await transport.aclose()
    return found


async def _ask(texts: Sequence[str], config: EmbeddingsConfig, transport: Transport) -> list[Vectors]:
    body = orjson.dumps({"model": config.model, "input": texts, "encoding_format": "float"})
    last = ""
    for number in range(MAX_TRIES):
        try:
            reply = await transport.post("/embeddings", body)
        except TransportFault as fault:
            last, wait = f"{fault.fault} {fault}", backoff_s(len(texts), number)
        else:
            if reply.status == 200:
                return _read_vectors(reply.body, len(texts), config)
            last = f"HTTP {reply.status} {reply.body[:200].decode('utf-8', 'replace')}"
            if reply.status != 429 and reply.status not in TRANSIENT_STATUSES and reply.status < 500:
                raise RefusedError(f"{config.base_url}/embeddings: {last}. Check the address, the key and the model {config.model}")
            wait = retry_after_s(reply.headers) or backoff_s(len(texts), number)
        await asyncio.sleep(wait)
    raise BackendError(f"{config.base_url}/embeddings: given up after {MAX_TRIES} tries; last: {last}. Run the same command again")


def _read_vectors(body: bytes, number: int, config: EmbeddingsConfig) -> list[Vectors]:
    try:
        items: Any = orjson.loads(body)["data"]
        ordered = sorted(items, key=lambda item: item["index"])
        vectors = [np.asarray(item["embedding"], dtype="<f4") for item in ordered]
    except (ValueError, KeyError, TypeError):
        vectors = []
    whole = all(vector.ndim == 1 and vector.size and np.isfinite(vector).all() for vector in vectors)
    if len(vectors) != number or not whole:
        raise BackendError(f"{config.base_url}/embeddings: no {number} vectors came back. Check that {config.model} makes embeddings")
    return vectors


def _append(record: Path, entries: Sequence[tuple[str, Vectors]]) -> None:
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("ab") as handle:
            if handle.tell() and record.read_bytes()[-1:] != b"\n":
                handle.write(b"\n")  # a torn line of an earlier run ends here
            handle.write(b"".join(orjson.dumps([key, base64.b64encode(vector.tobytes()).decode()]) + b"\n" for key, vector in entries))
    except OSError as error:
        raise storage_error(error, record) from error
