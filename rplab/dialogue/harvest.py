"""Rounds of items until enough of them were good: what single-turn rows and scenarios have in common.

Items are numbered from 0 and never drawn twice. A round plans as many as are missing; when some of them are lost, the
next round plans further ones, up to a limit. A shard plans the first round only, and of it its own items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from rplab.dialogue.drive import Outcome, Reject, Tally
from rplab.dialogue.shard import Shard
from rplab.errors import BackendError

OVERSHOOT_FLOOR = 20
"""Extra items that even a tiny target may plan."""

Row = TypeVar("Row")


@dataclass
class Harvest(Generic[Row]):
    """What the rounds brought."""

    tally: Tally = field(default_factory=Tally)
    rows: list[Row] = field(default_factory=list[Row])
    rejects: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def harvest(
    wanted: int,
    max_overshoot: float,
    shard: Shard | None,
    run_items: Callable[[Sequence[int], int], list[Outcome[Row]]],
    identify: Callable[[Row], tuple[Any, str, str]],
    what: str,
) -> Harvest[Row]:
    """Run items until `wanted` rows are accepted; a later row that equals an earlier one is a rejected one.

    Args:
        wanted: Accepted rows wanted.
        max_overshoot: Items planned beyond that, as a multiple of it, before giving up.
        shard: Do this part of the first round only.
        run_items: Takes item indices and the number accepted so far; returns their outcomes in that order.
        identify: Returns what makes a row the same as another, its request key, and its text.
        what: Plural noun for the error.

    Raises:
        BackendError: Too few were good enough; the message lists the reasons.
    """
    done, seen = Harvest[Row](), set[Any]()
    tally = done.tally
    limit = wanted + max(OVERSHOOT_FLOOR, int(wanted * max_overshoot))
    while tally.accepted < wanted:
        missing = wanted - tally.accepted
        if tally.planned + missing > limit:
            raise _give_up(tally, wanted, what)
        indices = [index for index in range(tally.planned, tally.planned + missing) if shard is None or shard.picks(index)]
        for outcome in run_items(indices, tally.accepted):
            _gather(done, outcome, seen, identify)
        if shard is not None:
            break
    return done


def _gather(done: Harvest[Row], outcome: Outcome[Row], seen: set[Any], identify: Callable[[Row], tuple[Any, str, str]]) -> None:
    row = outcome.row
    if row is not None:
        identity, key, text = identify(row)
        if identity in seen:
            reject = Reject(key, "duplicate", text, final=True)
            outcome = Outcome(None, "rejected", "duplicate", outcome.attempts, (*outcome.rejects, reject))
        else:
            seen.add(identity)
            done.rows.append(row)
    done.tally.add(outcome)
    done.rejects += [asdict(reject) for reject in outcome.rejects]


def _give_up(tally: Tally, wanted: int, what: str) -> BackendError:
    reasons = ", ".join(f"{reason} {count}" for reason, count in (tally.rejected + tally.failed).most_common(5))
    return BackendError(
        f"only {tally.accepted} of {wanted} {what} were good enough after {tally.planned} items ({reasons}). "
        "Use a stronger text model or loosen its sampling; the answers so far are kept, the same command goes on from there"
    )
