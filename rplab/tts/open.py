"""Build the voices that configs name. Engines are imported only when they are wanted."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rplab.errors import ConfigError
from rplab.tts.config import VoiceConfig
from rplab.tts.engine import VoiceEngine

if TYPE_CHECKING:
    from rplab.tts.bert import BertFeatures


def open_voice(config: VoiceConfig) -> VoiceEngine:
    """Return the engine that `config.engine` names, ready to speak.

    Raises:
        AudioError: The engine's package is not installed or its voice cannot be loaded.
        ModelError: The files of an ONNX voice are missing or broken.
        ConfigError: The engine has no style or speaker of that name.
    """
    return open_voices({"": config})[""]


def open_voices(configs: Mapping[str, VoiceConfig]) -> dict[str, VoiceEngine]:
    """Return several engines, each ready to speak; voices with the same BERT folder share it.

    A BERT is many times as large as a voice, so a character with three voices costs little more than one with one.

    Args:
        configs: Name of each voice and what it is.

    Raises:
        AudioError, ModelError, ConfigError: See `open_voice`.
    """
    shared: dict[tuple[Path, str, int, bool], BertFeatures] = {}
    return {name: _open_onnx(config, shared) if config.engine == "onnx" else _open_openjtalk(config) for name, config in configs.items()}


def _open_openjtalk(config: VoiceConfig) -> VoiceEngine:
    engine: VoiceEngine = importlib.import_module("rplab.tts.openjtalk").OpenJTalkVoice(default_style=config.style)
    return engine


def _open_onnx(config: VoiceConfig, shared: dict[tuple[Path, str, int, bool], BertFeatures]) -> VoiceEngine:
    if not config.folder:
        raise ConfigError("the voice engine onnx needs its files. Set voice.folder to the folder of a voice (rplab tts export)")
    path = Path(config.folder).expanduser()
    folder = Path(config.bert).expanduser() if config.bert else path / "bert"
    bert: BertFeatures | None = None
    if config.bert or folder.is_dir():
        key = (folder.resolve(), config.device, config.threads, config.spin)
        if key not in shared:
            shared[key] = importlib.import_module("rplab.tts.bert").BertFeatures(
                folder, device=config.device, threads=config.threads, spin=config.spin
            )
        bert = shared[key]
    module = importlib.import_module("rplab.tts.onnx_engine")
    options = module.OnnxVoiceOptions(
        speaker=config.speaker,
        style=config.style,
        style_weight=config.style_weight,
        sdp_ratio=config.sdp_ratio,
        intonation=config.intonation,
        seed=config.seed,
        loudness_dbfs=config.loudness_dbfs,
        device=config.device,
        threads=config.threads,
        spin=config.spin,
    )
    engine: VoiceEngine = module.OnnxVoice(path, bert=bert, options=options)
    return engine
