"""What people settled: resolutions and choices, held against the answer as it would be without them (D38).

The answer is made twice. What a resolution does not speak of stays as it was, so that none ever makes a code
one to charge that is not its own; and whether the numbers are met is asked of the record each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date

from msgspec.structs import replace

from fhir_mappings.decision import Decision, Resolved
from fhir_mappings.local_time import ONE_DAY, LocalClock, Window, month_window, next_month
from fhir_mappings.record import ManagementTime, PatientRecord, PriorCharge, Reading, Resolution, Visit
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.charged import touches, uncredited
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.reviews import HOME, day_in, load_reviews, month_in, problem_of, role_in
from fhir_mappings.rules.tables import Covered, Kind
from fhir_mappings.vocabulary import DISCIPLINES, ExcludedReason, Hint, Outcome, ReviewReason, Role

_Key = tuple[str, Window]
_STANDING = frozenset({Outcome.SUGGEST, Outcome.PROVISIONAL})
_WHO_BILLS = frozenset({ReviewReason.BILLING_PROFESSIONAL_UNKNOWN, ReviewReason.TWO_PROFESSIONALS})


def usable(resolutions: Iterable[Resolution]) -> tuple[Resolution, ...]:
    """Those that settle something, the oldest first: of two on one matter the newer stands."""
    good = [one for one in resolutions if problem_of(one) is None]
    return tuple(sorted(good, key=lambda one: one.on or date.min))


# -- what is chosen about the record itself ----------------------------------------------------------------


def with_choices(record: PatientRecord, clock: LocalClock) -> PatientRecord:
    """The record as somebody says that it was, where it leaves that open: where the patient was, whose visit
    it was, in which role somebody worked. What was read is not changed."""
    said = record.resolutions
    places = [one for one in said if one.resolves == ReviewReason.IN_FACILITY_UNCLEAR]
    visits = [one for one in said if one.resolves == ReviewReason.SAME_DAY_VISIT]
    roles = [one for one in said if one.resolves == ReviewReason.STAFF_ROLE]
    if places:
        home, doubtful = _placed(record.doubtful_readings, places)
        readings = sorted((*record.readings, *home), key=lambda one: (one.instant, one.resource))
        record = replace(record, readings=tuple(readings), doubtful_readings=doubtful)
    if visits:
        record = replace(record, visits=tuple(_whose(visit, visits) for visit in record.visits))
    if roles:
        told = (_in_role(time, roles, clock) for time in record.management)
        record = replace(
            record, management=tuple(time for time in told if time.role is not Role.NON_CLINICAL)
        )
    return record


def _placed(
    doubtful: Iterable[Reading], places: Sequence[Resolution]
) -> tuple[list[Reading], tuple[Reading, ...]]:
    """The readings that were taken at home, and those of which nobody can tell; what was taken in a facility
    is in neither."""
    home: list[Reading] = []
    left: list[Reading] = []
    for reading in doubtful:
        said = (
            _chosen(places, Window(reading.day, reading.day))
            if reading.doubt is ExcludedReason.IN_FACILITY_UNCLEAR
            else None
        )
        if said is None:
            left.append(reading)
        elif said == HOME:
            home.append(replace(reading, doubt=None))
    return home, tuple(left)


def _whose(visit: Visit, said: Sequence[Resolution]) -> Visit:
    if not visit.unnamed:
        return visit
    person = _chosen(said, Window(visit.days[0], visit.days[-1]))
    return visit if person is None else replace(visit, people=visit.people | {person}, unnamed=False)


def _in_role(time: ManagementTime, said: Sequence[Resolution], clock: LocalClock) -> ManagementTime:
    """Somebody's time in the role that was said, where the record tells none."""
    if time.role is not Role.UNKNOWN:
        return time
    month = month_window(clock.day_of(time.start).replace(day=1))
    role = role_in(_chosen(said, month))
    if role is None:
        return time
    return replace(time, role=role, discipline=DISCIPLINES.get(role), nobody_shown=False)


def who_bills(window: Window, resolutions: Sequence[Resolution]) -> Role | None:
    """In which role somebody bills a month, where that was chosen."""
    return role_in(_chosen([one for one in resolutions if one.resolves in _WHO_BILLS], window))


def service_date_chosen(code: str, window: Window, resolutions: Sequence[Resolution]) -> date | None:
    """On which day a month's service is to be dated."""
    said = [
        one
        for one in resolutions
        if one.resolves == ReviewReason.VISIT_ON_SERVICE_DATE and (not one.codes or code in one.codes)
    ]
    day = day_in(_chosen(said, window))
    return day if day is not None and day in window else None


def minutes_chosen(code: str, window: Window, service_date: date, record: PatientRecord) -> str | None:
    """Whose minutes a code charges, where an assistant's are not needed for it: WITH_ASSISTANT or
    THERAPIST_ALONE; None where nobody chose."""
    said = [
        one
        for one in record.resolutions
        if one.resolves == Hint.ASSISTANT_NOT_NEEDED and one.covers(code, window, service_date)
    ]
    return said[-1].choice if said else None


def _chosen(said: Sequence[Resolution], window: Window) -> str | None:
    """What the newest that speaks of these days chooses."""
    return next((one.choice for one in reversed(said) if one.about(window)), None)


# -- what is settled of each code --------------------------------------------------------------------------


def settle(candidates: list[Candidate], record: PatientRecord, policy: Policy) -> None:
    """Take from each candidate the reasons that somebody settled for it."""
    for candidate in candidates:
        if candidate.reasons:
            settled = [
                reason for reason in candidate.reasons if _is_confirmed(reason, candidate, record, policy)
            ]
            candidate.reasons = candidate.reasons.difference(settled)
    _choose_windows(candidates, record)
    _choose_months(candidates, record)
    _choose_programs(candidates, record, policy)
    _choose_lines(candidates, record)


def _is_confirmed(reason: str, candidate: Candidate, record: PatientRecord, policy: Policy) -> bool:
    """By a sentence alone. An authorisation must also say until when it holds."""
    review = load_reviews().get(reason)
    if review is None or not review.is_settled_here or review.choice is not None:
        return False
    code = candidate.rule.code
    authorised = reason == ReviewReason.PAYER_CRITERIA and (
        policy.covered(code, candidate.service_date) is Covered.PRIOR_AUTH
    )
    return any(
        one.resolves == reason
        and one.covers(code, candidate.window, candidate.service_date)
        and (one.until is not None or not authorised)
        for one in record.resolutions
    )


def _choice(reason: ReviewReason, candidate: Candidate, record: PatientRecord) -> str | None:
    """What was chosen last for a candidate."""
    return next(
        (
            one.choice
            for one in reversed(record.resolutions)
            if one.resolves == reason
            and one.covers(candidate.rule.code, candidate.window, candidate.service_date)
        ),
        None,
    )


def _choose_windows(candidates: list[Candidate], record: PatientRecord) -> None:
    """A charge that may stand for several windows stands for one: there it excludes what it is beside."""
    reason = ReviewReason.CHARGED_PERIOD_UNCLEAR
    for candidate in candidates:
        if reason not in candidate.reasons:
            continue
        day = day_in(_choice(reason, candidate, record))
        if day is not None:
            candidate.reasons -= {reason}
            if day == candidate.window.start:
                candidate.reasons |= {ReviewReason.CHARGED_OTHERWISE}


def _choose_months(candidates: list[Candidate], record: PatientRecord) -> None:
    """A call across the end of a month counts for one of the two."""
    reason = ReviewReason.CALL_ACROSS_MONTHS
    chosen = {
        id(candidate): month_in(_choice(reason, candidate, record))
        for candidate in candidates
        if reason in candidate.reasons
    }
    for candidate in candidates:
        month = chosen.get(id(candidate))
        if month != candidate.window.start:
            continue
        beside = {candidate.window.end + ONE_DAY, (candidate.window.start - ONE_DAY).replace(day=1)}
        claimed = any(
            chosen.get(id(other)) == other.window.start
            for other in candidates
            if other.rule.program is candidate.rule.program and other.window.start in beside
        )
        if not claimed:
            candidate.reasons -= {reason}


def _choose_programs(candidates: list[Candidate], record: PatientRecord, policy: Policy) -> None:
    """RTM or RPM: one is charged, where the other is neither charged nor chosen on any day of it. The other
    waits, even where it alone shows enrolment and would have been decided (D1)."""
    reason = ReviewReason.RTM_AND_RPM
    held = [candidate for candidate in candidates if reason in candidate.reasons]
    released = [
        candidate
        for candidate in held
        if _choice(reason, candidate, record) == candidate.rule.program
        and not _charged_in_other(candidate, candidates, record, policy)
    ]
    for candidate in released:
        rivals = [
            other
            for other in candidates
            if other.rule.program is not candidate.rule.program and other.window.overlaps(candidate.window)
        ]
        if not any(rival in released for rival in rivals):
            candidate.reasons -= {reason}
            for rival in rivals:
                rival.reasons |= {reason}


def _charged_in_other(
    candidate: Candidate, candidates: list[Candidate], record: PatientRecord, policy: Policy
) -> bool:
    """Whether a charge of the other program, wherever it was placed, may touch the candidate's days."""
    program = candidate.rule.program
    if any(
        other.charges and other.rule.program is not program and other.window.overlaps(candidate.window)
        for other in candidates
    ):
        return True
    return touches(
        candidate.window,
        [
            _whole_months(charge, policy)
            for charge in uncredited(record.charges)
            if policy.code(charge.code).program is not program
            and policy.code(charge.code).kind is not Kind.HELD_BACK
        ],
    )


def _whole_months(charge: PriorCharge, policy: Policy) -> Window | None:
    occurrence = charge.occurrence
    if occurrence is None or policy.code(charge.code).kind not in (Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON):
        return occurrence
    return Window(occurrence.start.replace(day=1), next_month(occurrence.end) - ONE_DAY)


def _choose_lines(candidates: list[Candidate], record: PatientRecord) -> None:
    """Of two lines in one period one is charged, where no other is."""
    reason = ReviewReason.TWO_LINES
    held = [candidate for candidate in candidates if reason in candidate.reasons]
    released = [candidate for candidate in held if _choice(reason, candidate, record) == candidate.rule.line]
    for candidate in released:
        rivals = [
            other
            for other in candidates
            if other.rule.kind is candidate.rule.kind
            and other.rule.program is candidate.rule.program
            and other.window == candidate.window
            and other.rule.line is not candidate.rule.line
            and (other.charges or other in released)
        ]
        if not rivals:
            candidate.reasons -= {reason}


# -- the answer that is told -------------------------------------------------------------------------------


Answers = Callable[[tuple[Resolution, ...]], tuple[Decision, ...]]
"""What is decided when just these are believed."""


def told(decide: Answers, resolutions: Sequence[Resolution]) -> tuple[Decision, ...]:
    """Each decision as it is with what was settled of it, and with nothing else that was.

    Where all together would no longer charge it (a base code that somebody chose away), that stands.
    """
    plain = _by_key(decide(()))
    together = _by_key(decide(tuple(resolutions)))
    passes: dict[tuple[Resolution, ...], dict[_Key, Decision]] = {(): plain, tuple(resolutions): together}
    found: list[Decision] = []
    for key in {**plain, **together}:
        of_it = tuple(one for one in resolutions if _speaks(one, plain.get(key) or together[key]))
        if of_it not in passes:
            passes[of_it] = _by_key(decide(of_it))
        decision = passes[of_it].get(key)
        if decision is not None and decision.outcome in _STANDING:
            beside = together.get(key)
            if beside is None or beside.outcome not in _STANDING:
                decision = beside
        if decision is not None:
            found.append(replace(decision, resolved=_resolved(plain.get(key), decision, of_it)))
    return tuple(found)


def _by_key(decisions: Iterable[Decision]) -> dict[_Key, Decision]:
    return {(one.code, one.period): one for one in decisions}


def _speaks(resolution: Resolution, decision: Decision) -> bool:
    return resolution.covers(decision.code, decision.period, decision.service_date or decision.period.end)


def _resolved(was: Decision | None, now: Decision, speaking: Sequence[Resolution]) -> tuple[Resolved, ...]:
    """Which reasons went, and by whose word."""
    gone = [reason for reason in (was.doubts if was is not None else ()) if reason not in now.doubts]
    if was is not None and was.alternative is not None and now.alternative is None:
        gone.append(Hint.ASSISTANT_NOT_NEEDED)
    by_reason = {one.resolves: one for one in speaking}
    return tuple(
        Resolved(reason, by_reason[reason].by, by_reason[reason].on, by_reason[reason].reference)
        for reason in gone
        if reason in by_reason
    )
