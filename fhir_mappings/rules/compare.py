"""Codes held against each other: RTM beside RPM, two lines, overlapping periods; and the last check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from fhir_mappings.decision import Decision
from fhir_mappings.local_time import ONE_DAY, Window, next_month
from fhir_mappings.record import PatientRecord, PriorCharge, Resolution
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.charged import uncredited
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Outcome, Program, ReviewReason, Unverified

_STANDING = frozenset({Outcome.SUGGEST, Outcome.PROVISIONAL, Outcome.CHARGED})


class ExclusionViolated(AssertionError):
    """Two codes that exclude each other were about to be answered together. Never shown as a suggestion."""


def compare(candidates: list[Candidate], record: PatientRecord, policy: Policy) -> None:
    """Add to each candidate the doubts that only the others give it."""
    standing = [candidate for candidate in candidates if candidate.met or candidate.charges]
    if policy.rtm_and_rpm_exclusive:
        _compare_programs(standing, record, policy)
    device_supply = Kind.DEVICE_SUPPLY
    devices = [candidate for candidate in standing if candidate.rule.kind is device_supply]
    _compare_lines(devices)
    _compare_periods(devices)


def _compare_programs(candidates: list[Candidate], record: PatientRecord, policy: Policy) -> None:
    """RTM beside RPM (D1): one program is decided where only it shows enrolment, otherwise neither."""
    standing: dict[Program, list[Candidate]] = {program: [] for program in MONITORING_PROGRAMS}
    for candidate in candidates:
        standing[candidate.rule.program].append(candidate)
    # A charge stands whether or not it fits a window of its program; without a date it may be of any day.
    charged = {
        program: [
            _days_of(charge, rule.kind)
            for charge in uncredited(record.charges)
            if (rule := policy.code(charge.code)).kind is not Kind.HELD_BACK
            and _is_of(charge, program, policy)
        ]
        for program in MONITORING_PROGRAMS
    }
    for program, other in (MONITORING_PROGRAMS, MONITORING_PROGRAMS[::-1]):
        alone = _shows_enrolment(record, program, policy, frozenset({Kind.HELD_BACK})) and not (
            _shows_enrolment(record, other, policy)
        )
        for candidate in standing[program]:
            window = candidate.window
            if not any(window.overlaps(rival.window) for rival in standing[other]) and not any(
                occurrence is None or window.overlaps(occurrence) for occurrence in charged[other]
            ):
                continue
            if alone:
                candidate.unverified |= {Unverified.OTHER_PROGRAM}
            else:
                candidate.reasons |= {ReviewReason.RTM_AND_RPM}


def _is_of(charge: PriorCharge, program: Program, policy: Policy) -> bool:
    """Whether a charge is of this program, whichever of the codes that it names was meant."""
    return all(policy.code(code).program is program for code in charge.among or (charge.code,))


def _days_of(charge: PriorCharge, kind: Kind) -> Window | None:
    """The days a charge speaks of: a management code's are its calendar months, whatever day it bears."""
    occurrence = charge.occurrence
    if occurrence is None or kind not in (Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON):
        return occurrence
    return Window(occurrence.start.replace(day=1), next_month(occurrence.end) - ONE_DAY)


def _shows_enrolment(
    record: PatientRecord, program: Program, policy: Policy, but: frozenset[Kind] = frozenset()
) -> bool:
    """Whether anything shows it (D1). `but`: kinds of charges that don't speak for their own program: 99091
    is known only to hold others back."""
    either = (program, Program.ANY)
    return bool(
        any(episode.program in (None, program) for episode in record.episodes)
        or record.consents
        or program in record.coded_programs
        or any(set_up.program in either for set_up in record.set_ups)
        or any(order.program is program for order in record.orders)
        or any(enrolment.program is program for enrolment in record.enrolments)
        or any(
            policy.code(charge.code).kind not in but and _is_of(charge, program, policy)
            for charge in uncredited(record.charges)
        )
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
                candidate.reasons |= {ReviewReason.TWO_LINES}


def _compare_periods(devices: list[Candidate]) -> None:
    """Where a new episode's period overlaps the one that the former's end cut, the later is held (D4); the
    earlier, where the later is charged already."""
    if len({candidate.episode for candidate in devices}) < 2:
        return
    for later in devices:
        for earlier in devices:
            if (
                earlier.rule.program is later.rule.program
                and earlier.window.start < later.window.start <= earlier.window.end
            ):
                held = earlier if later.charges and not earlier.charges else later
                held.reasons |= {ReviewReason.PERIODS_OVERLAP}


def check_exclusions(
    decisions: Iterable[Decision], policy: Policy, settled: Sequence[Resolution] = ()
) -> None:
    """No two codes that exclude each other stand together; raises `ExclusionViolated`.

    Asked of the answer itself, so that a slip anywhere else becomes an error and never a false claim. Two
    charges that the EHR already holds are a fact, not an answer of ours. `settled`: where somebody found that
    a payer accepts a code beside one that is held back (D38), they stand together by that word.
    """
    standing = sorted(
        [decision for decision in decisions if decision.outcome in _STANDING],
        key=lambda decision: decision.period.start,
    )
    for position, one in enumerate(standing, 1):
        for other in islice(standing, position, None):
            if other.period.start > one.period.end:
                break
            if (
                one.outcome is not Outcome.CHARGED or other.outcome is not Outcome.CHARGED
            ) and _exclude_each_other(one, other, policy):
                if any(_is_settled(word, one, other) or _is_settled(word, other, one) for word in settled):
                    continue
                raise ExclusionViolated(f"{other.code} and {one.code}")


def _is_settled(word: Resolution, held: Decision, charged: Decision) -> bool:
    day = held.service_date or held.period.end
    return word.resolves == charged.code and word.covers(held.code, held.period, day)


def _exclude_each_other(one: Decision, other: Decision, policy: Policy) -> bool:
    if one.program is not other.program:
        return policy.rtm_and_rpm_exclusive
    first, second = (
        policy.code_on(which.code, which.service_date or which.period.end) for which in (one, other)
    )
    if first.kind is Kind.DEVICE_SUPPLY and second.kind is Kind.DEVICE_SUPPLY:
        # One device code a period, whatever its line or tier.
        return True
    return one.period == other.period and (other.code in first.excludes or one.code in second.excludes)
