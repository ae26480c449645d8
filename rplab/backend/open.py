"""Builds the backend that a config asks for; what a backend needs (aiohttp, torch) is imported with it, not before."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from rplab.backend.base import ChatBackend
from rplab.backend.config import BackendConfig, ScriptedConfig
from rplab.backend.scripted.faults import Faults
from rplab.backend.scripted.model import ScriptedBackend

_OPENERS = {
    "openai": "rplab.backend.openai:open_openai",
    "spawn": "rplab.backend.spawn:open_spawned",
    "transformers": "rplab.backend.transformers_local:open_transformers",
}


def open_backend(config: BackendConfig) -> ChatBackend:
    """Return the backend that `config.kind` names; close it with `aclose`.

    Raises:
        ConfigError: Its key is not in the environment, or the settings do not go together.
        ModelError: Its model cannot be loaded.
        BackendError: Its server cannot be started.
    """
    if isinstance(config, ScriptedConfig):
        return _open_scripted(config)
    module, _, name = _OPENERS[config.kind].partition(":")
    opener: Callable[[BackendConfig], ChatBackend] = getattr(importlib.import_module(module), name)
    return opener(config)


def _open_scripted(config: ScriptedConfig) -> ChatBackend:
    faults = Faults(
        p_error=config.p_error,
        p_empty=config.p_empty,
        p_truncated=config.p_truncated,
        p_broken_json=config.p_broken_json,
        p_wrong_format=config.p_wrong_format,
        p_script_leak=config.p_script_leak,
    )
    return ScriptedBackend(faults, config.latency_ms)
