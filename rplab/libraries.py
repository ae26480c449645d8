"""What the libraries beneath training are told through environment variables; they read them when they are loaded."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

_SETTINGS: Mapping[str, str] = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "BITSANDBYTES_NOWELCOME": "1",
    # on a CPU torch keeps compiled code and buffers for each of the last 1,024 shapes that it met, and replies have many lengths:
    # with 128 a GRPO run needs 230 MB less and is as fast (LOG.md)
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
}


def configure_libraries(environment: MutableMapping[str, str]) -> None:
    """Keep the libraries private and their memory small, unless the user said otherwise.

    Args:
        environment: Of this process, before torch and transformers are imported, or of a child's.
    """
    for name, value in _SETTINGS.items():
        environment.setdefault(name, value)
