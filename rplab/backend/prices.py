"""What tokens cost: a table as data, overridden by a file of the user's (`RPLAB_PRICES`) and by the config."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rplab.backend.base import Usage
from rplab.backend.config import BackendConfig, EndpointConfig
from rplab.errors import ConfigError

TABLE = Path(__file__).with_name("prices.yaml")
OWN_TABLE = "RPLAB_PRICES"
"""Environment variable that names a table of one's own."""
BATCH_FACTOR = 0.5


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    input_usd: float
    output_usd: float

    def cost_usd(self, usage: Usage) -> float:
        """Return what a usage costs."""
        return (usage.prompt_tokens * self.input_usd + usage.completion_tokens * self.output_usd) / 1e6


def read_prices() -> dict[str, Price]:
    """Return model name -> price: the shipped table, and the user's own over it.

    Raises:
        ConfigError: The user's table cannot be read.
    """
    own = os.environ.get(OWN_TABLE, "").strip()
    return {**_read_table(TABLE), **(_read_table(Path(own).expanduser()) if own else {})}


@cache
def _read_table(path: Path) -> dict[str, Price]:
    try:
        table: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        prices = {str(name): Price(float(first), float(second)) for name, (first, second) in table["usd_per_million_tokens"].items()}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Correct {OWN_TABLE}, or unset it") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: no price table ({_one_line(error)}). Its layout is that of {TABLE}") from None
    if bad := [name for name, price in prices.items() if not (0 <= price.input_usd < math.inf and 0 <= price.output_usd < math.inf)]:
        raise ConfigError(f"{path}: the price of {', '.join(bad)} must be 0 or more. Correct it (USD per million tokens)")
    return prices


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def find_price(model: str, input_usd: float | None = None, output_usd: float | None = None) -> Price | None:
    """Return the price of a model, or None when it is not known.

    Args:
        model: Name, dated snapshots included (`gpt-5-mini-2025-08-07` is `gpt-5-mini`).
        input_usd: From the config; wins over the table.
        output_usd: From the config; wins over the table.
    """
    prices = read_prices()
    known = [name for name in prices if model == name or model.startswith(f"{name}-20")]
    listed = prices[max(known, key=len)] if known else None
    if input_usd is None and output_usd is None:
        return listed
    return Price(
        input_usd if input_usd is not None else listed.input_usd if listed else 0.0,
        output_usd if output_usd is not None else listed.output_usd if listed else 0.0,
    )


def find_backend_price(backend: BackendConfig) -> Price | None:
    """Return what a backend's tokens cost: nothing for a model on this machine, None when nobody knows."""
    if isinstance(backend, EndpointConfig):
        return find_price(backend.model, backend.price_input_usd, backend.price_output_usd)
    return Price(0.0, 0.0)
