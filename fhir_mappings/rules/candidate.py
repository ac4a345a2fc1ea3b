"""One code in one window, before it is held against the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from fhir_mappings.decision import Forecast, Requirement
from fhir_mappings.local_time import Window
from fhir_mappings.record import PriorCharge
from fhir_mappings.rules.tables import CodeRule
from fhir_mappings.vocabulary import Line, ReviewReason, Unverified

Reasons = set[ReviewReason | str]


@dataclass(slots=True)
class Candidate:
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
    reasons: Reasons = field(default_factory=set)
    unmet_reasons: Reasons = field(default_factory=set)
    unverified: set[Unverified] = field(default_factory=set)
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
    for candidate in of_group:
        if not candidate.met:
            continue
        rule = candidate.rule
        higher = [
            other
            for other in of_group
            if other.rule.group == rule.group and other.rule.tier > rule.tier and other.stands
        ]
        if higher:
            candidate.blocked_by = max(higher, key=lambda other: other.rule.tier).rule.code
