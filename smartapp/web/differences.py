"""What would be decided otherwise, code by code: seen before an episode of care or an anchor day is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from fhir_mappings.decision import Decision
from fhir_mappings.vocabulary import Outcome, Program
from smartapp.ehr.reading.findings import Findings
from smartapp.web import words


@dataclass(frozen=True)
class Difference:
    """One code and window that would be decided otherwise. "" is the outcome where there is no decision."""

    code: str
    period: str
    before: str
    after: str
    reasons: tuple[str, ...]


def differences(before: Findings, after: Findings, program: Program) -> tuple[Difference, ...]:
    """Every code of a program that would be decided otherwise, the earliest window first."""
    now, then = _decisions(before, program), _decisions(after, program)
    found: list[Difference] = []
    for key in sorted(now.keys() | then.keys()):
        was, will = now.get(key), then.get(key)
        told = will or was
        if told is not None and _said(was) != _said(will):
            reasons = () if will is None else tuple(words.reason(reason) for reason in will.reasons)
            found.append(Difference(told.code, _period(told), _outcome(was), _outcome(will), reasons))
    return tuple(found)


def charges_lost(before: Findings, after: Findings, program: Program) -> tuple[str, ...]:
    """What is charged and would lie in no window any more: "98977 of 1 Mar 2026 – 30 Mar 2026"."""
    kept = {
        charge
        for decision in _decisions(after, program).values()
        if decision.outcome is Outcome.CHARGED
        for charge in decision.charges
    }
    return tuple(
        f"{decision.code} of {_period(decision)}"
        for decision in _decisions(before, program).values()
        if decision.outcome is Outcome.CHARGED and not set(decision.charges) <= kept
    )


def _decisions(findings: Findings, program: Program) -> dict[tuple[date, date, str], Decision]:
    return {
        (decision.period.start, decision.period.end, decision.code): decision
        for decision in findings.assessment.decisions
        if decision.program is program
    }


def _said(decision: Decision | None) -> tuple[object, ...]:
    return () if decision is None else (decision.outcome, decision.quantity, decision.reasons)


def _outcome(decision: Decision | None) -> str:
    if decision is None:
        return ""
    units = f" × {decision.quantity}" if decision.quantity > 1 else ""
    return f"{words.outcome(decision.outcome)}{units}"


def _period(decision: Decision) -> str:
    return f"{words.day(decision.period.start)} – {words.day(decision.period.end)}"
