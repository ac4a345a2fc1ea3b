"""One code in one window, before it is held against the others."""

from __future__ import annotations

from datetime import date

from msgspec import Struct

from fhir_mappings.decision import Alternative, Forecast, Requirement
from fhir_mappings.local_time import Window
from fhir_mappings.record import PriorCharge
from fhir_mappings.rules.tables import CodeRule
from fhir_mappings.vocabulary import Hint, Line, ReviewReason, Unverified

Reasons = frozenset[ReviewReason | str]


class Candidate(Struct, gc=False):
    """What was found for a code in a window, and every doubt about it.

    `reasons` make a met code one for review; `unmet_reasons` only tell why an unmet one might have been met.
    `open`: the window can still change. `reachable`: what is missing can still come in it.
    """

    rule: CodeRule
    window: Window
    service_date: date
    open: bool = False
    met: bool = False
    reachable: bool = False
    units: int = 0
    requirements: tuple[Requirement, ...] = ()
    charges: tuple[PriorCharge, ...] = ()
    reasons: Reasons = frozenset()
    unmet_reasons: Reasons = frozenset()
    unverified: frozenset[Unverified] = frozenset()
    modifiers: tuple[str, ...] = ()
    blocked_by: str | None = None
    instead: frozenset[str] = frozenset()
    """More specific codes that are charged in its window, or reported here instead of it."""
    hints: frozenset[Hint] = frozenset()
    alternative: Alternative | None = None
    forecast: Forecast | None = None
    line: Line | None = None
    episode: int = 0

    def add_rule_change(self) -> None:
        """What holds on another day of the window gives another answer (D34): met, a human decides; unmet, it
        is told."""
        self.reasons |= {ReviewReason.STRADDLES_RULE_CHANGE}
        self.unmet_reasons |= {ReviewReason.STRADDLES_RULE_CHANGE}


def block_lower_tiers(of_group: list[Candidate]) -> None:
    """A met code gives way to the highest of its group that is met or charged."""
    standing = [candidate for candidate in of_group if candidate.met or candidate.charges]
    highest: dict[str | None, CodeRule] = {}
    for candidate in standing:
        rule = candidate.rule
        if rule.group not in highest or highest[rule.group].tier < rule.tier:
            highest[rule.group] = rule
    for candidate in standing:
        best = highest[candidate.rule.group]
        if candidate.met and candidate.rule.tier < best.tier:
            candidate.blocked_by = best.code
