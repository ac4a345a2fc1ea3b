"""Codes held against each other: RTM beside RPM, two lines, overlapping periods; and the last check."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_mappings.decision import Decision
from fhir_mappings.local_time import Window
from fhir_mappings.record import PatientRecord
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Outcome, Program, ReviewReason, Unverified

_STANDING = frozenset({Outcome.SUGGEST, Outcome.PROVISIONAL, Outcome.CHARGED})


class ExclusionViolated(AssertionError):
    """Two codes that exclude each other were about to be answered together. Never shown as a suggestion."""


def compare(candidates: list[Candidate], record: PatientRecord, policy: Policy) -> None:
    """Add to each candidate the doubts that only the others give it."""
    if policy.rtm_and_rpm_exclusive:
        _compare_programs(candidates, record, policy)
    devices = [c for c in candidates if c.rule.kind is Kind.DEVICE_SUPPLY and c.stands]
    _compare_lines(devices)
    _compare_periods(devices)


def _compare_programs(candidates: list[Candidate], record: PatientRecord, policy: Policy) -> None:
    """RTM beside RPM (D1): one program is decided where only it shows enrolment, otherwise neither."""
    standing = {
        program: [c for c in candidates if c.stands and c.rule.program is program]
        for program in MONITORING_PROGRAMS
    }
    if not all(standing.values()):
        return
    enrolled = {program: _shows_enrolment(record, program, policy) for program in MONITORING_PROGRAMS}
    for program, other in (MONITORING_PROGRAMS, MONITORING_PROGRAMS[::-1]):
        for candidate in standing[program]:
            if not any(candidate.window.overlaps(rival.window) for rival in standing[other]):
                continue
            if enrolled[program] and not enrolled[other]:
                candidate.unverified.add(Unverified.OTHER_PROGRAM)
            else:
                candidate.reasons.add(ReviewReason.RTM_AND_RPM)


def _shows_enrolment(record: PatientRecord, program: Program, policy: Policy) -> bool:
    either = (program, Program.ANY)
    return bool(
        any(episode.program in (None, program) for episode in record.episodes)
        or record.consents
        or program in record.coded_programs
        or any(set_up.program in either for set_up in record.set_ups)
        or any(order.program is program for order in record.orders)
        or any(enrolment.program is program for enrolment in record.enrolments)
        or any(policy.code(charge.code).program is program for charge in record.charges)
    )


def _compare_lines(devices: list[Candidate]) -> None:
    """Two lines in one period earn one device code; the clinician picks it (D2)."""
    periods: dict[tuple[Program, int, Window], list[Candidate]] = {}
    for candidate in devices:
        key = (candidate.rule.program, candidate.episode, candidate.window)
        periods.setdefault(key, []).append(candidate)
    for in_period in periods.values():
        if len({candidate.line for candidate in in_period}) > 1:
            for candidate in in_period:
                candidate.reasons.add(ReviewReason.TWO_LINES)


def _compare_periods(devices: list[Candidate]) -> None:
    """Where a new episode's period overlaps the one that the former's end cut, the later is held (D4)."""
    if len({candidate.episode for candidate in devices}) < 2:
        return
    for later in devices:
        for earlier in devices:
            if (
                earlier.rule.program is later.rule.program
                and earlier.window.start < later.window.start <= earlier.window.end
            ):
                later.reasons.add(ReviewReason.PERIODS_OVERLAP)


def check_exclusions(decisions: Iterable[Decision], policy: Policy) -> None:
    """No two codes that exclude each other stand together; raises `ExclusionViolated`.

    Asked of the answer itself, so that a slip anywhere else becomes an error and never a false claim. Two
    charges that the EHR already holds are a fact, not an answer of ours.
    """
    standing = [decision for decision in decisions if decision.outcome in _STANDING]
    for position, one in enumerate(standing):
        for other in standing[:position]:
            if (
                (one.outcome is not Outcome.CHARGED or other.outcome is not Outcome.CHARGED)
                and one.period.overlaps(other.period)
                and _exclude_each_other(one, other, policy)
            ):
                raise ExclusionViolated(f"{one.code} and {other.code}")


def _exclude_each_other(one: Decision, other: Decision, policy: Policy) -> bool:
    if one.program is not other.program:
        return policy.rtm_and_rpm_exclusive
    first, second = policy.code(one.code), policy.code(other.code)
    if first.kind is Kind.DEVICE_SUPPLY and second.kind is Kind.DEVICE_SUPPLY:
        # One device code a period, whatever its line or tier.
        return True
    return one.period == other.period and (other.code in first.excludes or one.code in second.excludes)
