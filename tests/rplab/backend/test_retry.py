"""Waiting, prices and estimates."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rplab.backend.base import Usage
from rplab.backend.config import OpenAIConfig, SpawnConfig
from rplab.backend.cost import estimate_cost
from rplab.backend.prices import Price, find_price, read_prices
from rplab.backend.retry import MAX_S, backoff_s, retry_after_s
from rplab.dialogue.config import SingleturnConfig
from rplab.errors import ConfigError
from rplab.pipeline import NODES
from rplab.stage import stage_key

NOW = datetime(2026, 11, 23, 16, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "150", "retry-after": "1"}, 0.15),
        ({"retry-after": "Mon, 23 Nov 2026 16:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 15:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_what_a_server_asks_for(headers, seconds):
    assert retry_after_s(headers, NOW) == seconds


@given(st.text(max_size=40))
def test_no_header_value_breaks_it(value):
    wait = retry_after_s({"retry-after": value, "retry-after-ms": value}, NOW)

    assert wait is None or wait >= 0


def test_backoff_grows_with_jitter_and_is_the_same_for_a_seed():
    waits = [backoff_s(5, attempt) for attempt in range(12)]

    assert waits == [backoff_s(5, attempt) for attempt in range(12)]
    assert all(0.125 * 2**n <= wait <= 0.25 * 2**n for n, wait in enumerate(waits[:6]))
    assert max(waits) <= MAX_S
    assert len({backoff_s(seed, 0) for seed in range(20)}) == 20


def test_snapshots_cost_what_their_model_costs():
    assert find_price("gpt-5-mini-2025-08-07") == find_price("gpt-5-mini") == read_prices()["gpt-5-mini"]
    assert find_price("gpt-5-minimal-thing") is None
    assert find_price("my-model", 1.0, 2.0) == Price(1.0, 2.0)
    assert find_price("gpt-4o-mini").cost_usd(Usage(1_000_000, 1_000_000)) == pytest.approx(0.75)


def test_an_estimate_covers_what_the_rest_costs():
    price = Price(1.0, 4.0)
    pilot = [Usage(3000 + 100 * (n % 5), 400 + 20 * (n % 7)) for n in range(20)]

    estimate = estimate_cost(pilot, 1300, price)

    true = sum(price.cost_usd(Usage(3000 + 100 * (n % 5), 400 + 20 * (n % 7))) for n in range(1300))
    assert estimate.usd.low < true < estimate.usd.high
    assert estimate.usd.expected == pytest.approx(true, rel=0.05)
    assert estimate.usd.high < 1.1 * true
    assert estimate.batch_usd == estimate.usd.expected / 2
    assert estimate.tokens.low < sum(3400 + 100 * (n % 5) + 20 * (n % 7) for n in range(1300)) < estimate.tokens.high
    assert estimate_cost(pilot, 20, price).usd.high == estimate_cost(pilot, 20, price).usd.low  # the pilot was all of it
    assert estimate_cost(pilot, 1300, None).usd is None
    with pytest.raises(ValueError, match="at least 2"):
        estimate_cost(pilot[:1], 10, price)


def test_money_and_patience_stay_out_of_the_key_and_the_model_does_not():
    def key(**settings):
        return stage_key(stage, SingleturnConfig(backend=OpenAIConfig(**{"model": "a", **settings})), {})

    stage = next(node.stage for node in NODES if node.stage.name == "singleturn")
    assert key() == key(budget_usd=5.0, timeout_s=9.0, max_retries=1, max_open=3, price_input_usd=1.0, api_key_env="X")
    assert key() != key(model="b")
    assert key() != key(effort="low")


def test_a_server_command_needs_a_port():
    with pytest.raises(ValueError, match="port"):
        SpawnConfig(model="m", command=("serve",))


def test_a_table_of_ones_own_wins_over_the_shipped_one(tmp_path, monkeypatch):
    own = tmp_path / "prices.yaml"
    own.write_text("usd_per_million_tokens:\n  gpt-5: [1, 2]\n  house-model: [0.5, 0.75]\n", encoding="utf-8")
    monkeypatch.setenv("RPLAB_PRICES", str(own))

    assert find_price("gpt-5") == find_price("gpt-5-2025-08-07") == Price(1.0, 2.0)
    assert find_price("house-model") == Price(0.5, 0.75)
    assert find_price("gpt-4o-mini") == Price(0.15, 0.6)
    assert find_price("nobody-knows-it") is None


@pytest.mark.parametrize(
    "text",
    ["", "- 1", "usd_per_million_tokens: {a: 3}", "usd_per_million_tokens: {a: [x, y]}", "{", "usd_per_million_tokens: {a: [-1, 2]}"],
)
def test_a_bad_table_of_ones_own_is_named(tmp_path, monkeypatch, text):
    own = tmp_path / "prices.yaml"
    own.write_text(text, encoding="utf-8")
    monkeypatch.setenv("RPLAB_PRICES", str(own))

    with pytest.raises(ConfigError, match=re.escape(str(own))):
        find_price("gpt-5")
    monkeypatch.setenv("RPLAB_PRICES", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ConfigError, match="nowhere"):
        find_price("gpt-5")
