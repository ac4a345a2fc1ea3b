"""The answer's vocabulary: one `Decision` a code and window, and the JSON it is told in.

The JSON is the contract of `smartapp evaluate`; it changes only on purpose (docs/contract.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.completeness import completeness_json
from fhir_mappings.local_time import Window
from fhir_mappings.record import NOT_SAID, Excluded, PatientRecord
from fhir_mappings.vocabulary import (
    ExcludedReason,
    Hint,
    Line,
    Outcome,
    Program,
    RequirementKind,
    ReviewReason,
    Unit,
    Unverified,
)


class Requirement(Struct, frozen=True, gc=False):
    """`evidence` holds one reading a counted day, or every Encounter; `all_evidence` whatever was counted."""

    requirement: RequirementKind
    unit: Unit
    needed: int
    found: int
    met: bool
    evidence: tuple[str, ...]
    reference: str
    all_evidence: tuple[str, ...] = ()


class Forecast(Struct, frozen=True, gc=False):
    """What an open window lacks. `reachable_until`: the last local day on which it isn't lost yet."""

    missing: int
    unit: Unit
    reachable_until: date
    next_code: str


class RulesConfirmed(Struct, frozen=True, gc=False):
    """Who confirmed for the site that the rules of the last table still held on the service date, when, and
    which published rule they named."""

    by: str
    on: date
    source: str


class Resolved(Struct, frozen=True, gc=False):
    """A reason for review that somebody settled: who, on which day, and with which reference."""

    reason: str
    by: str
    on: date | None
    reference: str


class Alternative(Struct, frozen=True, gc=False):
    """The same code and units without an assistant's minutes, and so without their modifier; somebody
    chooses."""

    seconds: int
    evidence: tuple[str, ...]
    modifiers: tuple[str, ...]


class Decision(Struct, frozen=True, gc=False):
    code: str
    program: Program
    line: Line | None
    quantity: int
    outcome: Outcome
    period: Window
    service_date: date | None
    requirements: tuple[Requirement, ...]
    reasons: tuple[str, ...]
    unverified: tuple[Unverified, ...]
    modifiers: tuple[str, ...]
    forecast: Forecast | None
    charges: tuple[str, ...] = ()
    """The ChargeItems that stand for this code in this window."""
    earned: int = 0
    """Units the record earns by itself, whatever is charged; the contract's JSON leaves this out."""
    doubts: tuple[str, ...] = ()
    """Every doubt about it, whatever the outcome; left out of the contract's JSON too."""
    rules_confirmed: RulesConfirmed | None = None
    """Where the tables end before the service date and the site confirmed them; left out there as well."""
    resolved: tuple[Resolved, ...] = ()
    """What somebody settled of it; no longer among its reasons (D38)."""
    hints: tuple[Hint, ...] = ()
    """What billing is told beside it (`rules.hints`); left out of the contract's JSON, as the next."""
    alternative: Alternative | None = None

    @property
    def key(self) -> str:
        """A name for this decision within one patient's answer, fit for a URL."""
        return f"{self.code}-{self.period.start.isoformat()}"


class CountedDay(Struct, frozen=True, gc=False):
    """A monitoring day that counted: every reading of it, the earliest first."""

    program: Program
    line: Line
    day: date
    evidence: tuple[str, ...]


class CountedSpan(Struct, frozen=True, gc=False):
    """A span that gave management time, in whole seconds; instants in microseconds UTC."""

    program: Program
    resource: str
    activity: str
    role: str
    start: int
    end: int
    seconds: int
    live: bool


class Assessment(Struct, frozen=True, gc=False):
    """One patient's answer. `excluded` holds the record's exclusions and those of the rules."""

    decisions: tuple[Decision, ...]
    excluded: tuple[Excluded, ...]
    days: tuple[CountedDay, ...] = ()
    spans: tuple[CountedSpan, ...] = ()


_REASONS: Mapping[str, int] = {reason: position for position, reason in enumerate(ReviewReason)}


def reason_order(reasons: Iterable[ReviewReason | str]) -> tuple[str, ...]:
    """Reasons as text: enum values in their own order, then codes."""
    return _in_order(frozenset(reasons))


@lru_cache(maxsize=1024)
def unverified_order(found: frozenset[Unverified]) -> tuple[Unverified, ...]:
    """In the order in which they are told."""
    return tuple(entry for entry in Unverified if entry in found)


@lru_cache(maxsize=1024)
def _in_order(reasons: frozenset[ReviewReason | str]) -> tuple[str, ...]:
    return tuple(
        str(reason) for reason in sorted(reasons, key=lambda reason: (_REASONS.get(reason, 99), reason))
    )


def to_contract(
    record: PatientRecord,
    assessment: Assessment,
    payer: str,
    rules_version: str,
    *,
    all_evidence: bool = False,
) -> dict[str, Any]:
    """One patient's answer as the contract's JSON object."""
    return head_of(record, payer, rules_version) | answer_json(assessment, record.history_from, all_evidence)


def head_of(record: PatientRecord, payer: str, rules_version: str) -> dict[str, Any]:
    """Of whom, when and by which rules the contract's answer is."""
    return {
        "patient": record.patient,
        "as_of": record.as_of.isoformat(),
        "timezone": record.zone.key,
        "payer": payer,
        "rules_version": rules_version,
        "completeness": completeness_json(record.completeness),
    }


def answer_json(
    assessment: Assessment, history_from: date | None, all_evidence: bool = False
) -> dict[str, Any]:
    """The contract's answer itself. `history_from`: the first day that was read, where older records may
    exist."""
    return {
        "decisions": [
            decision_json(_without_unread(decision, history_from), all_evidence)
            for decision in assessment.decisions
        ],
        "excluded": [excluded_json(entry) for entry in assessment.excluded],
    }


def _without_unread(decision: Decision, read_from: date | None) -> Decision:
    """A charged period that begins before what was read has no numbers: nothing of it was counted, which is
    not the same as none."""
    if read_from is None or decision.outcome is not Outcome.CHARGED or read_from <= decision.period.start:
        return decision
    return replace(decision, requirements=())


def excluded_json(entry: Excluded) -> dict[str, Any]:
    told: dict[str, Any] = {"resource": entry.resource, "reason": str(entry.reason)}
    if entry.about != NOT_SAID:
        about = {"system": entry.about.system, "code": entry.about.code, "display": entry.about.display}
        told["about"] = {key: text for key, text in about.items() if text}
    return told


def decision_json(decision: Decision, all_evidence: bool = False) -> dict[str, Any]:
    forecast = decision.forecast
    return {
        "code": decision.code,
        "program": str(decision.program),
        "line": None if decision.line is None else str(decision.line),
        "quantity": decision.quantity,
        "outcome": str(decision.outcome),
        "period": {"start": decision.period.start.isoformat(), "end": decision.period.end.isoformat()},
        "service_date": None if decision.service_date is None else decision.service_date.isoformat(),
        "requirements": [_requirement_json(entry, all_evidence) for entry in decision.requirements],
        "reasons": list(decision.reasons),
        "resolved": [
            {
                "reason": entry.reason,
                "by": entry.by,
                "on": None if entry.on is None else entry.on.isoformat(),
                "reference": entry.reference,
            }
            for entry in decision.resolved
        ],
        "unverified": [str(entry) for entry in decision.unverified],
        "modifiers": list(decision.modifiers),
        "forecast": None
        if forecast is None
        else {
            "missing": forecast.missing,
            "unit": str(forecast.unit),
            "reachable_until": forecast.reachable_until.isoformat(),
            "next_code": forecast.next_code,
        },
    }


def _requirement_json(entry: Requirement, all_evidence: bool) -> Mapping[str, Any]:
    return {
        "requirement": str(entry.requirement),
        "unit": str(entry.unit),
        "needed": entry.needed,
        "found": entry.found,
        "met": entry.met,
        "evidence": list((entry.all_evidence or entry.evidence) if all_evidence else entry.evidence),
        "reference": entry.reference,
    }


def sorted_excluded(entries: Iterable[Excluded]) -> tuple[Excluded, ...]:
    return tuple(sorted(set(entries)))


def strangers_json(record_like: Mapping[str, Any], entries: Iterable[Excluded]) -> dict[str, Any]:
    """The last element of an answer for several patients: what belongs to none of them."""
    return {
        **record_like,
        "patient": None,
        "decisions": [],
        "excluded": [excluded_json(entry) for entry in sorted_excluded(entries)],
    }


__all__ = [
    "Alternative",
    "Assessment",
    "CountedDay",
    "CountedSpan",
    "Decision",
    "ExcludedReason",
    "Forecast",
    "Requirement",
    "Resolved",
    "RulesConfirmed",
    "answer_json",
    "decision_json",
    "excluded_json",
    "head_of",
    "reason_order",
    "sorted_excluded",
    "strangers_json",
    "to_contract",
    "unverified_order",
]
