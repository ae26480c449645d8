"""Waiting and trying again: which failures may pass, how long to wait, what a server asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from rplab.seeding import derive

BASE_S, MAX_S = 0.25, 30.0
TRANSIENT_STATUSES = frozenset({408, 409, 425, 500, 502, 503, 504, 520, 522, 524, 529})
"""Statuses that may pass by themselves, 429 aside."""


def backoff_s(seed: int, attempt: int) -> float:
    """Return the wait before try `attempt` + 1 (attempt counts from 0): doubling, with jitter drawn from the seed."""
    longest = min(MAX_S, BASE_S * 2**attempt)
    return longest * (0.5 + 0.5 * derive(seed, "backoff", attempt).random())


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how many seconds a response asks to wait, or None when it does not say.

    Args:
        headers: Response headers; looked up case-insensitively when the mapping does so.
        now: For tests; the present otherwise.

    `retry-after-ms` (OpenAI) is the more exact one; `retry-after` holds seconds or an HTTP date (RFC 9110, 10.2.3).
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
