"""What makes a turn acceptable: which checks run, in which order, and what happens then.

That is data: `packs/<pack>/checks.yaml` lists id, version, severity, policy and what a model is told. A reason code is
`<side>_<id>`, as in the predecessor. Cheap code only; nothing here asks a model.

To add a check: write its predicate in `check_functions.py`, put it into one of the two tables there, and list the id
in `checks.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rplab.dialogue.check_functions import CONTEXT_CHECKS, TEXT_CHECKS
from rplab.dialogue.pack import Pack
from rplab.dialogue.pack_tables import CheckRule
from rplab.dialogue.turn import TurnContext, split_turn
from rplab.errors import ConfigError


@dataclass(frozen=True)
class Finding:
    """A check that a turn did not pass."""

    rule: CheckRule
    code: str
    """`<side>_<id>`."""


def find_fault(text: str, context: TurnContext, rules: tuple[CheckRule, ...]) -> tuple[Finding | None, tuple[Finding, ...]]:
    """Return the first finding that stands against a turn, and the ones that are only counted.

    Args:
        text: The turn, already mended.
        context: What it is checked against.
        rules: The pack's checks of this side, in order.
    """
    turn = split_turn(text)
    noted: list[Finding] = []
    for rule in rules:
        by_text = TEXT_CHECKS.get(rule.id)
        if by_text(turn) if by_text is not None else CONTEXT_CHECKS[rule.id](turn, context):
            finding = Finding(rule, f"{context.side}_{rule.id}")
            if rule.policy != "accept":
                return finding, tuple(noted)
            noted.append(finding)
    return None, tuple(noted)


def verify_checks(pack: Pack) -> None:
    """Make sure that every check a pack lists exists.

    Raises:
        ConfigError: With the unknown id and the known ones.
    """
    known = (*TEXT_CHECKS, *CONTEXT_CHECKS)
    for rule in pack.checks:
        if rule.id not in known:
            raise ConfigError(f"pack {pack.name}: checks.yaml: {rule.id} is no check. Use one of: {', '.join(known)}")
