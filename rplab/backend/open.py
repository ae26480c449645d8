"""Builds the backend that a config asks for."""

from __future__ import annotations

from rplab.backend.base import ChatBackend
from rplab.backend.config import BackendConfig
from rplab.backend.scripted.faults import Faults
from rplab.backend.scripted.model import ScriptedBackend


def open_backend(config: BackendConfig) -> ChatBackend:
    """Return the backend that `config.kind` names; close it with `aclose`."""
    faults = Faults(
        p_error=config.p_error,
        p_empty=config.p_empty,
        p_truncated=config.p_truncated,
        p_broken_json=config.p_broken_json,
        p_wrong_format=config.p_wrong_format,
        p_script_leak=config.p_script_leak,
    )
    return ScriptedBackend(faults, config.latency_ms)
