"""What tokens cost: a table as data, overridden by the config."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rplab.backend.base import Usage
from rplab.backend.config import BackendConfig, EndpointConfig

TABLE = Path(__file__).with_name("prices.yaml")
BATCH_FACTOR = 0.5


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    input_usd: float
    output_usd: float

    def cost_usd(self, usage: Usage) -> float:
        """Return what a usage costs."""
        return (usage.prompt_tokens * self.input_usd + usage.completion_tokens * self.output_usd) / 1e6


@cache
def read_prices() -> dict[str, Price]:
    """Return the shipped table, model name -> price."""
    table: Any = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: Price(float(first), float(second)) for name, (first, second) in table["usd_per_million_tokens"].items()}


def find_price(model: str, input_usd: float | None = None, output_usd: float | None = None) -> Price | None:
    """Return the price of a model, or None when it is not known.

    Args:
        model: Name, dated snapshots included (`gpt-5-mini-2025-08-07` is `gpt-5-mini`).
        input_usd: From the config; wins over the table.
        output_usd: From the config; wins over the table.
    """
    known = [name for name in read_prices() if model == name or model.startswith(f"{name}-20")]
    listed = read_prices()[max(known, key=len)] if known else None
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
