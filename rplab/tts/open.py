"""Build the voice that a config names. Engines are imported only when they are wanted."""

from __future__ import annotations

import importlib

from rplab.tts.config import VoiceConfig
from rplab.tts.engine import VoiceEngine

_ENGINES = {"openjtalk": "rplab.tts.openjtalk:OpenJTalkVoice"}


def open_voice(config: VoiceConfig) -> VoiceEngine:
    """Return the engine that `config.engine` names, ready to speak.

    Raises:
        AudioError: The engine's package is not installed or its voice cannot be loaded.
        ConfigError: The engine has no style of that name.
    """
    module, _, name = _ENGINES[config.engine].partition(":")
    engine: VoiceEngine = getattr(importlib.import_module(module), name)(default_style=config.style)
    return engine
