"""Reading from a Hugging Face hub, or a mirror of it: the file list of a revision, and files with resume.

Only the standard library: a download must not need the training half. Redirects to the hub's storage drop the token.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from rplab.errors import ModelError

_BLOCK = 1 << 20
_TRIES = 5
_TIMEOUT_S = 60.0
_FAULTS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it."""

    name: str
    size: int | None
    sha256: str | None
    """Of files in large-file storage; the hub lists none for small ones."""


class _DropToken(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the token stays with the host that it is for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


class Hub:
    """One hub, at `HF_ENDPOINT` or huggingface.co."""

    def __init__(self, *, wait_s: float = 2.0) -> None:
        """Read HF_ENDPOINT and HF_TOKEN.

        Args:
            wait_s: Pause after the first failed try; doubled after each further one.
        """
        self.endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        self._token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
        self._wait_s = wait_s
        self._opener = urllib.request.build_opener(_DropToken)

    def list_files(self, repo: str, revision: str) -> tuple[str, list[RemoteFile]]:
        """Return the commit that a revision names, and its files.

        Raises:
            ModelError: No such model or revision, no permission, or no connection.
        """
        url = f"{self.endpoint}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"
        body = self._retrying(lambda: self._read_json(url), f"{repo}@{revision}")
        try:
            files = [
                RemoteFile(str(item["rfilename"]), item.get("size"), (item.get("lfs") or {}).get("sha256")) for item in body["siblings"]
            ]
            return str(body["sha"]), files
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{url}: the answer is no file list ({error}). Check HF_ENDPOINT ({self.endpoint})") from None

    def download(self, repo: str, commit: str, file: RemoteFile, target: Path, on_bytes: Callable[[int], None]) -> None:
        """Download a file to `target`, going on where an earlier try stopped.

        Args:
            repo: Repository.
            commit: Commit.
            file: What is wanted.
            target: Partial file; what is in it is kept.
            on_bytes: Called with the number of bytes that `target` has.

        Raises:
            ModelError: As `list_files`; what came so far stays in `target`.
        """
        url = f"{self.endpoint}/{repo}/resolve/{commit}/{quote(file.name)}"
        self._retrying(lambda: self._fetch(url, file, target, on_bytes), f"{repo}/{file.name}")

    def _fetch(self, url: str, file: RemoteFile, target: Path, on_bytes: Callable[[int], None]) -> None:
        have = target.stat().st_size if target.exists() else 0
        if file.size is not None and have >= file.size:
            if have > file.size:
                target.unlink()
                have = 0
            else:
                return
        request = self._request(url)
        if have:
            request.add_header("Range", f"bytes={have}-")
        with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
            resumed = answer.status == http.client.PARTIAL_CONTENT and _starts_at(answer.headers.get("Content-Range"), have)
            place = have if resumed else 0
            with target.open("ab" if resumed else "wb") as handle:
                while block := answer.read(_BLOCK):
                    handle.write(block)
                    place += len(block)
                    on_bytes(place)
        expected = file.size if file.size is not None else place
        announced = answer.headers.get("Content-Length")
        if place < expected or (file.size is None and announced and place < (have if resumed else 0) + int(announced)):
            raise http.client.IncompleteRead(b"", expected - place)

    def _read_json(self, url: str) -> Any:
        with self._opener.open(self._request(url), timeout=_TIMEOUT_S) as answer:
            return json.loads(answer.read())

    def _request(self, url: str) -> urllib.request.Request:
        request = urllib.request.Request(url, headers={"User-Agent": "rplab", "Accept-Encoding": "identity"})
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        return request

    def _retrying(self, action: Callable[[], Any], what: str) -> Any:
        """Try again after faults that may pass; name those that will not."""
        fault: Exception = TimeoutError()
        for attempt in range(_TRIES):
            try:
                return action()
            except urllib.error.HTTPError as error:
                if error.code not in {408, 425, 429} and error.code < 500:
                    raise ModelError(self._refusal(error.code, what)) from None
                fault = error
            except _FAULTS as error:
                fault = error
            except ValueError as error:
                raise ModelError(f"{what}: {self.endpoint} does not answer as a hub does ({error}). Check HF_ENDPOINT") from None
            if attempt + 1 < _TRIES:
                time.sleep(self._wait_s * 2**attempt)
        raise ModelError(
            f"{what}: {self.endpoint} could not be reached after {_TRIES} tries ({_reason(fault)}). What came so far is kept: give the "
            "same command again when there is a connection, set HF_ENDPOINT to a mirror, or copy the model folder from another machine"
        )

    def _refusal(self, code: int, what: str) -> str:
        if code in {401, 403}:
            return f"{what}: {self.endpoint} asks for permission ({code}). Accept the licence on the model's page and set HF_TOKEN"
        if code == 404:
            return f"{what}: not on {self.endpoint} (404). Check the name and the revision; private models need HF_TOKEN"
        return f"{what}: {self.endpoint} answered {code}. Check HF_ENDPOINT and the name"


def _starts_at(content_range: str | None, place: int) -> bool:
    found = re.match(r"bytes (\d+)-", content_range or "")
    return found is not None and int(found[1]) == place


def _reason(fault: Exception) -> str:
    reason = getattr(fault, "reason", None)
    return str(reason or fault) or type(fault).__name__
