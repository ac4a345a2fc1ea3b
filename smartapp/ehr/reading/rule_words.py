"""The rule of a code on a service date: our own sentence, its number, since when, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.tables import CodeRule, Kind, Source


@dataclass(frozen=True)
class Citation:
    title: str
    address: str | None
    """Only where the register knows the whole address; a site's bare name is no link."""
    site: str


@dataclass(frozen=True)
class RuleView:
    says: str
    since: date
    last_checked: date
    sources: tuple[Citation, ...]


def rule_view(policy: Policy, code: str, day: date) -> RuleView:
    """What holds for a code on a day, as the tables have it."""
    rule = policy.code_on(code, day)
    rows = rule.monitoring_days or rule.management_seconds
    row = rule.least(day) if rows else None
    sources = rule.sources if row is None else row.sources
    return RuleView(
        _says(rule, 0 if row is None else row.least),
        rule.in_force_from if row is None else max(row.start, rule.in_force_from),
        rule.last_checked if row is None else row.last_checked,
        tuple(_citation(policy.tables.sources[name]) for name in sources if name in policy.tables.sources),
    )


def _says(rule: CodeRule, least: int) -> str:
    if rule.kind is Kind.START_UP:
        return (
            f"{rule.code}, once an episode of care, needs set-up and teaching and {least} days with data in "
            "the episode's first 30 days."
        )
    if rule.kind is Kind.DEVICE_SUPPLY:
        return f"{rule.code} needs {least} days with data in a period of 30 days, and is charged once for it."
    if rule.kind is Kind.MANAGEMENT:
        return f"{rule.code} needs {least // 60} minutes in a calendar month, and a live conversation in it."
    if rule.kind is Kind.MANAGEMENT_ADD_ON:
        return (
            f"{rule.code} stands for each further {least // 60} minutes of the month on top of {rule.base}."
        )
    return f"{rule.code} is never suggested; where it is charged it may stand in another code's way."


def _citation(source: Source) -> Citation:
    known = "/" in source.site
    return Citation(source.title, f"https://{source.site}" if known else None, source.site)
