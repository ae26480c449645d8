"""The error tree. Every message says what is wrong, where, and what to do.

    LabError                 exit 1
    |-- ConfigError          exit 2   profile, card, pack, command line
    |-- DataError            exit 2   a row of an input file: file, line, reason
    |-- ModelError           exit 2   a model folder that is missing, incomplete or does not fit
    |-- ArtifactError        exit 1   the store holds something else than its manifest says
    |-- StorageError         exit 1   disk full, no permission; nothing was half published
    |-- BackendError         exit 1   a text model did not answer, or not usably
    |   `-- RefusedError     exit 1   it never will: the key, the address or the money is wrong
    |-- TrainingError        exit 1   a run that diverged or collapsed
    |-- GateError            exit 1   evaluation refuses to publish
    |-- AudioError           exit 1   no way to play or make sound
    `-- StageInterrupted     exit 130 stopped on request; run again to resume

`ValueError` stays for wrong arguments inside the code base, `assert` for our own bugs.
"""

from __future__ import annotations

from pathlib import Path


class LabError(Exception):
    """Base of every error that a user can do something about."""

    exit_code: int = 1


class ConfigError(LabError):
    """A profile, card, pack or command line is wrong."""

    exit_code = 2


class DataError(LabError):
    """An input row is wrong. The message starts with `file:line:` when both are known."""

    exit_code = 2

    def __init__(self, what: str, *, file: str | Path | None = None, line: int | None = None, remedy: str = "") -> None:
        """Build the message `file:line: what. remedy`.

        Args:
            what: What is wrong, without a full stop.
            file: The file read.
            line: 1-based line (or row) number.
            remedy: What the user can do about it.
        """
        where = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        super().__init__(f"{where}{what}" + (f". {remedy}" if remedy else ""))
        self.file = None if file is None else str(file)
        self.line = line


class ModelError(LabError):
    """A model folder is missing, incomplete, or of another kind than asked for."""

    exit_code = 2


class ArtifactError(LabError):
    """The store holds something else than its manifest says."""


class StorageError(LabError):
    """Writing failed (disk full, no permission). Nothing was half published."""


class BackendError(LabError):
    """A text model did not answer, or not usably."""


class RefusedError(BackendError):
    """A text model will not answer however often it is asked: wrong key or address, no money left, the budget is used up."""


class TrainingError(LabError):
    """Training diverged or collapsed; the message says what was seen and what to change."""


class GateError(LabError):
    """An evaluation gate refuses to publish a model; the message lists the gates that failed."""


class AudioError(LabError):
    """No way to make or play sound."""


class StageInterrupted(LabError):  # noqa: N818 - an interruption, not a failure
    """The stage was asked to stop and has saved what it had; running it again resumes."""

    exit_code = 130
