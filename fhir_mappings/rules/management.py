"""Management codes: minutes and a conversation in a calendar month (R1.2, R4; D10 to D15)."""

from __future__ import annotations

from datetime import date, timedelta

from msgspec import Struct

from fhir_mappings.decision import Forecast, Requirement
from fhir_mappings.local_time import Window, month_window, next_month
from fhir_mappings.record import PriorCharge
from fhir_mappings.rules.candidate import Candidate, Reasons, block_lower_tiers
from fhir_mappings.rules.minutes import Month, Staffing, Tally, in_person_contacts, staffing, whole_seconds
from fhir_mappings.rules.policy import Policy, Terms
from fhir_mappings.rules.program import ProgramChart, disciplines_of, only_of
from fhir_mappings.rules.tables import CodeRule, Kind
from fhir_mappings.vocabulary import (
    Line,
    Program,
    RequirementKind,
    ReviewReason,
    Role,
    Unit,
    Unverified,
)

_KINDS = (Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON)
_UNVERIFIED = frozenset({Unverified.TIME, Unverified.CONVERSATION, Unverified.SAME_DAY_SERVICES})


class _Count(Struct, frozen=True, gc=False):
    """What a month comes to under one way of counting. `face_to_face` stands in where no call counted."""

    tally: Tally
    face_to_face: tuple[str, ...] = ()

    @property
    def contacts(self) -> tuple[str, ...]:
        return self.tally.contacts or self.face_to_face

    @property
    def conversations(self) -> int:
        return self.tally.conversations if self.tally.contacts else len(self.face_to_face)


def management_candidates(chart: ProgramChart, begun: date) -> list[Candidate]:
    """Both base codes, and the add-on where its base is met or charged, in each month of the program."""
    placed: dict[date, list[PriorCharge]] = {}
    unclear: list[Window | None] = []
    for charge in chart.charges_of(*_KINDS):
        occurrence = charge.occurrence
        if occurrence is not None and occurrence.start.replace(day=1) == occurrence.end.replace(day=1):
            placed.setdefault(occurrence.start.replace(day=1), []).append(charge)
        else:
            unclear.append(occurrence)
    found: list[Candidate] = []
    unverified = chart.base_unverified | _UNVERIFIED
    for first_day in sorted(_months(chart, begun) | placed.keys()):
        window = month_window(first_day)
        in_month = _month_candidates(chart, first_day, window, placed.get(first_day, []), unverified)
        if any(occurrence is None or window.overlaps(occurrence) for occurrence in unclear):
            for candidate in in_month:
                candidate.reasons |= {ReviewReason.CHARGED_PERIOD_UNCLEAR}
        found += in_month
    return found


def held_back_candidates(chart: ProgramChart) -> list[Candidate]:
    """A charged 99091 is told, in its calendar month; it is never suggested."""
    by_month: dict[tuple[str, date], list[PriorCharge]] = {}
    for charge in chart.charges_of(Kind.HELD_BACK):
        if charge.occurrence is not None:
            by_month.setdefault((charge.code, charge.occurrence.start.replace(day=1)), []).append(charge)
    return [
        Candidate(
            chart.policy.code(code),
            month_window(first_day),
            next_month(first_day) - timedelta(days=1),
            charges=charges,
            unverified=chart.base_unverified,
        )
        for (code, first_day), charges in by_month.items()
    ]


def _months(chart: ProgramChart, begun: date) -> set[date]:
    """Months that hold something of the program, and the open one."""
    first_month, open_month = begun.replace(day=1), chart.as_of.replace(day=1)
    found = {open_month, *chart.lines_by_month}
    found |= {
        first_day for first_day, staff in chart.staffed.items() if staff.counted and first_day >= first_month
    }
    found |= {
        first_day
        for first_day, month in chart.months.items()
        if in_person_contacts(month, chart.program, chart.program)
    }
    found |= {
        set_up.day.replace(day=1)
        for set_up in chart.record.set_ups
        if set_up.program in (chart.program, Program.ANY)
    }
    return {first_day for first_day in found if first_day <= open_month}


def _month_candidates(
    chart: ProgramChart,
    first_day: date,
    window: Window,
    charges: list[PriorCharge],
    unverified: frozenset[Unverified],
) -> list[Candidate]:
    month = chart.months.get(first_day) or Month(first_day)
    staff = chart.staffed.get(first_day) or Staffing(())
    tally = month.tally(staff.counted)
    chart.decided.append((month, tally))
    face_to_face = (
        () if tally.contacts else in_person_contacts(month, chart.program, chart.program, Program.ANY)
    )
    count = _Count(tally, face_to_face)
    doubts = _month_doubts(chart, first_day, window, staff, count)
    variants = _variants(chart, month, staff, count)
    if staff.role_unknown:
        unverified |= {Unverified.STAFF_ROLE}
    if not (staff.has_professional or staff.has_therapist):
        unverified |= {Unverified.BILLING_PROFESSIONAL}
    held_back = [
        charge
        for charge in chart.charges_of(Kind.HELD_BACK)
        if charge.occurrence is None or charge.occurrence.overlaps(window)
    ]
    found: list[Candidate] = []
    for terms in chart.policy.in_force(chart.program, _KINDS, window.end):
        base = terms.rule.base
        base_charges: tuple[str, ...] = ()
        if base is not None:
            base_charges = tuple(charge.resource for charge in charges if charge.code == base)
            if not base_charges and not any(one.rule.code == base and one.met for one in found):
                continue
        candidate = _candidate(chart, terms, window, count, charges, base_charges)
        candidate.reasons |= doubts
        candidate.unverified = unverified
        if variants:
            _add_variant_doubts(chart, candidate, terms, count, variants)
        chart.add_charged_otherwise(candidate, (*charges, *held_back))
        candidate.modifiers = _modifiers(chart, terms.rule, staff)
        chart.add_common_doubts(candidate, terms)
        chart.add_plan_of_care(candidate)
        found.append(candidate)
    block_lower_tiers(found)
    for candidate in found:
        candidate.forecast = _forecast(chart, candidate, found, tally.seconds)
    return found


def _candidate(
    chart: ProgramChart,
    terms: Terms,
    window: Window,
    count: _Count,
    charges: list[PriorCharge],
    base_charges: tuple[str, ...],
) -> Candidate:
    rule, seconds, contacts = terms.rule, count.tally.seconds, count.contacts
    requirements: tuple[Requirement, ...] = (
        Requirement(
            RequirementKind.MANAGEMENT_TIME,
            Unit.SECONDS,
            terms.needed,
            seconds,
            seconds >= terms.needed,
            count.tally.evidence,
            terms.reference,
        ),
        Requirement(
            RequirementKind.LIVE_CONTACT,
            Unit.COUNT,
            1,
            len(contacts),
            bool(contacts),
            contacts,
            terms.reference,
        ),
    )
    if rule.base is not None:
        reference = chart.policy.tables.reference(rule.sources)
        base = Requirement(RequirementKind.BASE_CODE, Unit.COUNT, 1, 1, True, base_charges, reference)
        requirements = (base, *requirements)
    units = _units(chart.policy, terms, count)
    cap = rule.units_cap
    over_cap = cap is not None and units > cap
    is_open = chart.as_of <= window.end
    return Candidate(
        rule,
        window,
        window.end,
        open=is_open,
        met=units > 0,
        reachable=is_open,
        units=cap if over_cap and cap is not None else units,
        requirements=requirements,
        charges=[charge for charge in charges if charge.code == rule.code],
        reasons=frozenset({ReviewReason.UNITS_OVER_CAP}) if over_cap else frozenset(),
    )


def _units(policy: Policy, terms: Terms, count: _Count) -> int:
    """Units that these minutes and conversations earn: no midpoint rule, no rounding up."""
    seconds = count.tally.seconds
    if seconds < terms.needed or not count.contacts:
        return 0
    if terms.rule.base is None:
        return 1
    units = (seconds - terms.needed) // terms.least + 1
    further = policy.contacts_per_addon_unit
    return min(units, (count.conversations - 1) // further) if further else units


def _month_doubts(
    chart: ProgramChart, first_day: date, window: Window, staff: Staffing, count: _Count
) -> Reasons:
    """Doubts that hold for every management code of the month."""
    record, tally = chart.record, count.tally
    doubts: set[ReviewReason | str] = set()
    lines = chart.lines_by_month.get(first_day)
    if not lines:
        doubts.add(ReviewReason.NO_DATA_IN_MONTH)
    elif lines == {Line.OTHER}:
        doubts.add(ReviewReason.NO_DEVICE_CODE)
    if count.face_to_face:
        doubts.add(ReviewReason.CONVERSATION_IN_PERSON)
    if staff.professional_unknown:
        doubts.add(ReviewReason.BILLING_PROFESSIONAL_UNKNOWN)
    if tally.contacts:
        crossing = {piece.time.resource for piece in tally.pieces if piece.crosses_months}
        if crossing.issuperset(tally.contacts):
            doubts.add(ReviewReason.CALL_ACROSS_MONTHS)
    if window.end in chart.visit_days:
        doubts.add(ReviewReason.VISIT_ON_SERVICE_DATE)
    if record.double_booked and any(piece.time.resource in record.double_booked for piece in tally.pieces):
        doubts.add(ReviewReason.CLINICIAN_DOUBLE_BOOKED)
    return frozenset(doubts)


def _variants(
    chart: ProgramChart, month: Month, staff: Staffing, count: _Count
) -> list[tuple[ReviewReason, _Count]]:
    """The month as it would be if a doubt fell the other way."""
    pieces = count.tally.pieces
    found: list[tuple[ReviewReason, _Count]] = []

    def add(reason: ReviewReason, tally: Tally) -> None:
        found.append((reason, _Count(tally, count.face_to_face)))

    clear = tuple([piece for piece in pieces if piece.time.clear])
    if len(clear) < len(pieces):
        add(ReviewReason.CONVERSATION_UNCLEAR, month.tally(clear))
    if month.doubtful:
        every = staffing(chart.program, chart.policy, (*month.pieces, *month.doubtful))
        add(ReviewReason.IMPLAUSIBLE_SPAN, month.tally(every.counted))
    if chart.program is Program.RTM and staff.role_unknown:
        known = tuple([piece for piece in month.pieces if piece.time.role is not Role.UNKNOWN])
        add(ReviewReason.STAFF_ROLE, month.tally(staffing(chart.program, chart.policy, known).counted))
    for answer in staff.answers:
        add(ReviewReason.TWO_PROFESSIONALS, month.tally(answer))
    return found


def _add_variant_doubts(
    chart: ProgramChart,
    candidate: Candidate,
    terms: Terms,
    count: _Count,
    variants: list[tuple[ReviewReason, _Count]],
) -> None:
    """Would the code or its quantity be another one? A base code also asks for the higher ones."""
    rule, policy = candidate.rule, chart.policy
    ladder = [
        step
        for step in policy.in_force(chart.program, _KINDS, candidate.window.end)
        if step.rule.code in (rule.code, rule.base)
        or (rule.group is not None and step.rule.group == rule.group and step.rule.tier > rule.tier)
    ]
    for reason, other in variants:
        if candidate.met:
            if any(_units(policy, step, count) != _units(policy, step, other) for step in ladder):
                candidate.reasons |= {reason}
        elif _units(policy, terms, other):
            candidate.unmet_reasons |= {reason}


def _modifiers(chart: ProgramChart, rule: CodeRule, staff: Staffing) -> tuple[str, ...]:
    """GP, GO or GN under a therapist; CQ or CO where the assistant's share is above the de minimis."""
    if not rule.therapy_modifiers or not staff.has_therapist or staff.has_professional:
        return ()
    disciplines = disciplines_of(staff.counted)
    found = only_of(rule.therapy_modifiers, disciplines)
    total = whole_seconds(staff.counted)
    by_therapist = whole_seconds(
        [piece for piece in staff.counted if piece.time.role is not Role.THERAPIST_ASSISTANT]
    )
    if (total - by_therapist) * 100 > total * chart.policy.assistant_de_minimis_percent:
        found += only_of(rule.assistant_modifiers, disciplines)
    return found


def _forecast(
    chart: ProgramChart, candidate: Candidate, of_month: list[Candidate], seconds: int
) -> Forecast | None:
    """What the open month still lacks for this code, its next unit, or the code it may become."""
    if not candidate.open or candidate.blocked_by is not None or candidate.charges:
        return None
    target: Candidate | None = candidate
    if candidate.met and candidate.rule.base is None:
        target = next(
            (
                other
                for other in of_month
                if not other.met
                and (
                    (other.rule.group == candidate.rule.group and other.rule.tier > candidate.rule.tier)
                    or other.rule.base == candidate.rule.code
                )
            ),
            None,
        )
    if target is None:
        return None
    rule = target.rule
    if target.met and rule.units_cap is not None and target.units >= rule.units_cap:
        return None
    terms = chart.policy.terms(rule.code, target.window.end)
    missing = terms.needed + (terms.least * target.units if target.met else 0) - seconds
    if missing <= 0:
        return Forecast(1, Unit.COUNT, candidate.service_date, rule.code)
    return Forecast(missing, Unit.SECONDS, candidate.service_date, rule.code)
