"""One code in one window, before it is held against the others."""

from __future__ import annotations

from datetime import date

from msgspec import Struct, field

from fhir_mappings.decision import Forecast, Requirement
from fhir_mappings.local_time import Window
from fhir_mappings.record import PriorCharge
from fhir_mappings.rules.tables import CodeRule
from fhir_mappings.vocabulary import Line, ReviewReason, Unverified

Reasons = frozenset[ReviewReason | str]


class Candidate(Struct):
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
    charges: list[PriorCharge] = field(default_factory=list)
    reasons: Reasons = frozenset()
    unmet_reasons: Reasons = frozenset()
    unverified: frozenset[Unverified] = frozenset()
    modifiers: tuple[str, ...] = ()
    blocked_by: str | None = None
    forecast: Forecast | None = None
    line: Line | None = None
    episode: int = 0

    @property
    def stands(self) -> bool:
        return self.met or bool(self.charges)


def block_lower_tiers(of_group: list[Candidate]) -> None:
    """A met code gives way to the highest of its group that is met or charged."""
    standing = [candidate for candidate in of_group if candidate.stands]
    if len(standing) < 2:
        return
    for candidate in standing:
        rule = candidate.rule
        higher = [
            other for other in standing if other.rule.group == rule.group and other.rule.tier > rule.tier
        ]
        if higher and candidate.met:
            candidate.blocked_by = max(higher, key=lambda other: other.rule.tier).rule.code
