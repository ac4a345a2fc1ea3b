"""One program (RTM or RPM) of one patient: what there is of it, before any code is asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import date

from fhir_mappings.decision import CountedDay, CountedSpan
from fhir_mappings.local_time import MICROSECONDS, Window, month_window, next_month
from fhir_mappings.record import Agreement, Excluded, Order, PatientRecord, PriorCharge, Reading
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.episodes import data_days, episodes_of
from fhir_mappings.rules.minutes import Piece, Staffing, clock_of, months_of, staffing
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.tables import CodeRule, Covered, Kind
from fhir_mappings.terminology import Discipline
from fhir_mappings.vocabulary import ExcludedReason, Line, Program, ReviewReason, Role, Unverified

_PAYER_DOUBTS = {
    Covered.UNKNOWN: ReviewReason.PAYER_UNKNOWN,
    Covered.NO: ReviewReason.PAYER_DOES_NOT_COVER,
    Covered.CRITERIA: ReviewReason.PAYER_CRITERIA,
    Covered.PRIOR_AUTH: ReviewReason.PAYER_CRITERIA,
}


class ProgramChart:
    """A program's episodes, months and charges. `excluded` collects what its rules leave out.

    `counted` names the Encounters whose time counted in a month that was decided; `asked` all of them.
    """

    def __init__(
        self,
        record: PatientRecord,
        program: Program,
        policy: Policy,
        as_of: date,
        excluded: set[Excluded],
        *,
        all_evidence: bool = False,
    ) -> None:
        self.record = record
        self.program = program
        self.policy = policy
        self.as_of = as_of
        self.all_evidence = all_evidence
        self.charges = [charge for charge in record.charges if policy.code(charge.code).program is program]
        self.episodes = episodes_of(record, program, policy, excluded)
        self.months = months_of(record, program, excluded)
        self.staffed: dict[date, Staffing] = {
            first_day: staffing(program, policy, month.pieces)
            for first_day, month in self.months.items()
            if month.pieces
        }
        self.has_therapist = any(staff.has_therapist for staff in self.staffed.values())
        self.data_days = data_days(self.episodes)
        self.lines_by_month = self._lines_by_month()
        self.visit_days = {day for visit in record.visits for day in visit.days}
        self._consent_from = _first_day(record.consents)
        self._order_from = _first_day(order for order in record.orders if order.program is program)
        self._plan_from = _first_day(record.care_plans)
        self.base_unverified = self._base_unverified()
        self.counted: set[str] = set()
        self.asked: set[str] = set()

    def _lines_by_month(self) -> dict[date, set[Line]]:
        found: dict[date, set[Line]] = {}
        for episode in self.episodes:
            for line, days in episode.counted_days:
                begin = 0
                while begin < len(days):
                    first_day = days[begin].replace(day=1)
                    found.setdefault(first_day, set()).add(line)
                    begin = bisect_left(days, next_month(first_day), begin)
        return found

    def _base_unverified(self) -> frozenset[Unverified]:
        """What no record of this program shows, whatever the code."""
        record = self.record
        found = {Unverified.GLOBAL_PERIOD}
        if self._consent_from is None:
            found.add(Unverified.CONSENT)
        if self._order_from is None:
            found.add(Unverified.ORDER)
        if "ChargeItem" in record.unread:
            found.add(Unverified.PRIOR_CHARGES)
        if "Encounter" in record.unread:
            found.add(Unverified.IN_FACILITY)
        return frozenset(found)

    def begun(self) -> date | None:
        """The first day on which the program shows itself; codings that speak of any program don't."""
        clock = clock_of(self.record.zone)
        days = self.data_days[:1]
        for first_day, month in self.months.items():
            staff = self.staffed.get(first_day)
            own = [piece for piece in staff.counted if piece.time.program is self.program] if staff else []
            if not own:
                # Among themselves: who else worked that month decides what counts, not whether it shows.
                alone = [piece for piece in month.pieces if piece.time.program is self.program]
                own = list(staffing(self.program, self.policy, alone).counted) if alone else []
            if own:
                days.append(clock.day_of(min(piece.start for piece in own)))
        days += [set_up.day for set_up in self.record.set_ups if set_up.program is self.program]
        days += [charge.occurrence.start if charge.occurrence else self.as_of for charge in self.charges]
        return min(days, default=None)

    def rules(self, *kinds: Kind) -> list[CodeRule]:
        return self.policy.rules_of(self.program, kinds)

    def charges_of(self, *kinds: Kind) -> list[PriorCharge]:
        return [charge for charge in self.charges if self.policy.code(charge.code).kind in kinds]

    # -- what holds for every code ------------------------------------------------------------------------

    def add_common_doubts(self, candidate: Candidate) -> None:
        rule, day = candidate.rule, candidate.service_date
        covered, asked = self.policy.on(rule.code, day)
        if reason := _PAYER_DOUBTS.get(covered):
            candidate.reasons.add(reason)
        if asked:
            candidate.modifiers += tuple(one for one in asked if one not in candidate.modifiers)
        if day > rule.covers_to:
            candidate.reasons.add(ReviewReason.RULES_NOT_COVERED)
        # What was agreed to or ordered afterwards was not when the service was furnished (section 5).
        if self._consent_from is not None and day < self._consent_from:
            candidate.unverified.add(Unverified.CONSENT)
        if self._order_from is not None and day < self._order_from:
            candidate.unverified.add(Unverified.ORDER)
        if self.record.death_date_unknown:
            candidate.reasons.add(ReviewReason.DEATH_DATE_UNKNOWN)

    def add_charged_otherwise(self, candidate: Candidate, charges: Iterable[PriorCharge]) -> None:
        """A code that excludes this one is charged in the window."""
        for charge in charges:
            if charge.code in candidate.rule.excludes:
                held_back = self.policy.code(charge.code).kind is Kind.HELD_BACK
                candidate.reasons.add(charge.code if held_back else ReviewReason.CHARGED_OTHERWISE)

    def add_plan_of_care(self, candidate: Candidate) -> None:
        begun = self._plan_from
        if candidate.modifiers and (begun is None or candidate.service_date < begun):
            candidate.unverified.add(Unverified.PLAN_OF_CARE)

    # -- therapists ---------------------------------------------------------------------------------------

    def disciplines(self, window: Window) -> set[str]:
        """Disciplines of the therapists who bill the months of a window; none where a physician does."""
        found: set[str] = set()
        for first_day, staff in self.staffed.items() if self.has_therapist else ():
            if (staff.has_professional or staff.has_therapist) and window.overlaps(month_window(first_day)):
                if staff.has_professional:
                    return set()
                found |= disciplines_of(staff.counted)
        return found

    def therapy_modifiers(self, rule: CodeRule, window: Window) -> tuple[str, ...]:
        """GP, GO or GN, where one discipline alone bills."""
        if not rule.therapy_modifiers or not self.staffed:
            return ()
        return only_of(rule.therapy_modifiers, self.disciplines(window))

    # -- for whoever shows it -----------------------------------------------------------------------------

    def counted_days(self) -> list[CountedDay]:
        by_day: dict[tuple[date, Line], list[Reading]] = {}
        for episode in self.episodes:
            for series in episode.days.values():
                for days in series.values():
                    for day, readings in days.items():
                        by_day.setdefault((day, readings[0].line), []).extend(readings)
        return [
            CountedDay(
                self.program, line, day, tuple(reading.resource for reading in earliest_first(readings))
            )
            for (day, line), readings in sorted(by_day.items())
        ]

    def counted_spans(self) -> list[CountedSpan]:
        return [
            CountedSpan(
                self.program,
                piece.time.resource,
                piece.time.activity,
                piece.time.role,
                piece.start,
                piece.end,
                piece.time.seconds
                if piece.time.seconds is not None
                else (piece.end - piece.start) // MICROSECONDS,
                piece.time.resource in self.months[first_day].calls,
            )
            for first_day in sorted(self.staffed)
            for piece in sorted(
                self.staffed[first_day].counted, key=lambda piece: (piece.start, piece.time.resource)
            )
        ]


def _first_day(found: Iterable[Agreement | Order]) -> date | None:
    """From which day on one of these holds; None where there is none. One without a day always did."""
    return min((one.day or date.min for one in found), default=None)


def unverified_of(readings: Iterable[Reading]) -> frozenset[Unverified]:
    """What these readings leave open."""
    found: set[Unverified] = set()
    for reading in readings:
        if not reading.fda_evidence:
            found.add(Unverified.FDA_DEVICE)
        if not reading.enrolled:
            found.add(Unverified.ENROLMENT)
        if not reading.facility_checked:
            found.add(Unverified.IN_FACILITY)
    return frozenset(found)


def unused_time(
    record: PatientRecord, charts: Iterable[ProgramChart], excluded: set[Excluded]
) -> set[Excluded]:
    """Encounters that no program counted: their staff doesn't count there, or no program has begun."""
    if not record.management:
        return set()
    asked: set[str] = set()
    listed = {entry.resource for entry in excluded}
    for chart in charts:
        asked |= chart.asked
        listed |= chart.counted
    return {
        Excluded(
            time.resource,
            ExcludedReason.ROLE_NOT_COUNTED if time.resource in asked else ExcludedReason.PROGRAM_NOT_SHOWN,
        )
        for time in record.management
        if time.resource not in listed
    }


def earliest_first(readings: Iterable[Reading]) -> list[Reading]:
    return sorted(readings, key=lambda reading: (reading.instant, reading.resource))


def disciplines_of(pieces: Iterable[Piece]) -> set[str]:
    """Disciplines of the therapists; an assistant works under one of them."""
    return {
        piece.time.discipline
        for piece in pieces
        if piece.time.discipline is not None and piece.time.role is not Role.THERAPIST_ASSISTANT
    }


def only_of(modifiers: Mapping[Discipline, str], disciplines: set[str]) -> tuple[str, ...]:
    """The modifier of the one discipline there is; none where there are several, which a human must pick."""
    if len(disciplines) != 1:
        return ()
    (discipline,) = disciplines
    return tuple(modifier for name, modifier in modifiers.items() if name == discipline)
