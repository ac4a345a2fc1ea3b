"""Management codes: minutes and a conversation in a calendar month (R1.2, R4; D10 to D15)."""

from __future__ import annotations

from datetime import date, timedelta

from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.completeness import Missing, MissingWhy, days_of
from fhir_mappings.decision import Alternative, Forecast, Requirement
from fhir_mappings.encounter import LONGEST_PLAUSIBLE_SPAN
from fhir_mappings.local_time import MICROSECONDS, ONE_DAY, Window, clock_of, month_window, next_month
from fhir_mappings.record import ManagementTime, PriorCharge
from fhir_mappings.rules.candidate import Candidate, Reasons, block_lower_tiers
from fhir_mappings.rules.charged import add_charges, standing, touches, uncredited
from fhir_mappings.rules.minutes import (
    Month,
    Staffing,
    Tally,
    holds_an_overlong_day,
    in_person_contacts,
    whole_seconds,
)
from fhir_mappings.rules.policy import Policy, Terms
from fhir_mappings.rules.program import ProgramChart, disciplines_of, only_of
from fhir_mappings.rules.resolutions import minutes_chosen, service_date_chosen
from fhir_mappings.rules.reviews import THERAPIST_ALONE
from fhir_mappings.rules.tables import CodeRule, Kind
from fhir_mappings.vocabulary import (
    Hint,
    Line,
    Program,
    RequirementKind,
    ReviewReason,
    Role,
    Unit,
    Unverified,
)

_KINDS = (Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON)
# Until Python 3.12 naming a member of an enum costs as much as making a requirement.
_TIME, _CONTACT = RequirementKind.MANAGEMENT_TIME, RequirementKind.LIVE_CONTACT
_BASE = RequirementKind.BASE_CODE
_SECONDS, _COUNT = Unit.SECONDS, Unit.COUNT
_STAFF = frozenset({Role.CLINICAL_STAFF, Role.THERAPIST_ASSISTANT, Role.UNKNOWN})
"""Who works for whoever bills."""


class _Count(Struct, frozen=True, gc=False):
    """What a month comes to under one way of counting. `contacts`: the calls that counted; where none did,
    the conversations face to face."""

    tally: Tally
    contacts: tuple[str, ...]

    @property
    def conversations(self) -> int:
        return self.tally.conversations if self.tally.contacts else len(self.contacts)


def management_candidates(chart: ProgramChart, begun: date) -> list[Candidate]:
    """Both base codes, and the add-on where its base is met or charged, in each month of the program."""
    placed: dict[date, list[PriorCharge]] = {}
    unclear: list[Window | None] = []
    taken_back: list[Window | None] = []
    of_kind = chart.charges_of(*_KINDS)
    stand = uncredited(of_kind)
    for charge in of_kind:
        occurrence = charge.occurrence
        if (
            charge.sole
            and occurrence is not None
            and occurrence.start.replace(day=1) == occurrence.end.replace(day=1)
        ):
            placed.setdefault(occurrence.start.replace(day=1), []).append(charge)
        else:
            (unclear if charge in stand else taken_back).append(occurrence)
    held_back = [charge for charge in chart.charges_of(Kind.HELD_BACK) if charge.sole]
    unclear += [charge.occurrence for charge in chart.charges_of(Kind.HELD_BACK) if not charge.sole]
    found: list[Candidate] = []
    for first_day in sorted(_months(chart, begun) | placed.keys()):
        window = month_window(first_day)
        in_month = _month_candidates(chart, window, placed.get(first_day, []), held_back)
        if touches(window, unclear):
            for candidate in in_month:
                candidate.reasons |= {ReviewReason.CHARGED_PERIOD_UNCLEAR}
        if touches(window, taken_back):
            for candidate in in_month:
                candidate.unverified |= {Unverified.PRIOR_CHARGES}
        found += in_month
    return found


def held_back_candidates(chart: ProgramChart) -> list[Candidate]:
    """A charged 99091 is told, in its calendar month; it is never suggested."""
    by_month: dict[tuple[str, date], list[PriorCharge]] = {}
    for charge in chart.charges_of(Kind.HELD_BACK):
        if charge.occurrence is not None and charge.sole:
            by_month.setdefault((charge.code, charge.occurrence.start.replace(day=1)), []).append(charge)
    return [
        Candidate(
            chart.policy.code(code),
            month_window(first_day),
            next_month(first_day) - timedelta(days=1),
            charges=tuple(charges),
            unverified=chart.statements.of(
                next_month(first_day) - timedelta(days=1), month_window(first_day)
            ),
        )
        for (code, first_day), charges in by_month.items()
        if standing(charges)
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
        if month.in_person and in_person_contacts(month, chart.program, chart.program)
    }
    found |= {
        set_up.day.replace(day=1)
        for set_up in chart.record.set_ups
        if set_up.program in (chart.program, Program.ANY)
    }
    return {first_day for first_day in found if first_day <= open_month}


def _month_candidates(
    chart: ProgramChart, window: Window, charges: list[PriorCharge], held_back: list[PriorCharge]
) -> list[Candidate]:
    first_day, last_day = window.start, window.end
    month = chart.months.get(first_day) or Month(first_day)
    staff = chart.staffed.get(first_day) or Staffing(())
    tally = month.tally(staff.counted)
    chart.decided.append((month, tally))
    # Face to face stands in where no call counted.
    instead = () if tally.contacts else in_person_contacts(month, chart.program, chart.program, Program.ANY)
    count = _Count(tally, tally.contacts or instead)
    variants = [
        (reason, _Count(other, other.contacts or instead)) for reason, other in _variants(chart, month, staff)
    ]
    doubts = _month_doubts(chart, window, month, staff, count)
    unread = _unread_encounters(chart, window)
    variants += _unread_variants(chart, month, count, unread.single)
    unverified = chart.statements.of(last_day, window) | _of_minutes(chart, window, count)
    if any(piece.role in _STAFF for piece in tally.pieces):
        unverified |= chart.statements.of_staff(last_day)
    if staff.role_unknown:
        unverified |= {Unverified.STAFF_ROLE}
    if not (staff.has_professional or staff.has_therapist or chart.performer_may_bill):
        unverified |= {Unverified.BILLING_PROFESSIONAL}
    charged = [
        *charges,
        *(one for one in held_back if one.occurrence is None or one.occurrence.overlaps(window)),
    ]
    is_open = chart.as_of <= last_day
    found: list[Candidate] = []
    for terms in chart.policy.in_force(chart.program, _KINDS, last_day):
        rule = terms.rule
        requirements = _requirements(terms, count)
        if rule.base is not None:
            of_base = standing([charge for charge in charges if charge.code == rule.base])
            base_charges = tuple(dict.fromkeys([charge.resource for charge in of_base]))
            if not base_charges and rule.base not in [one.rule.code for one in found if one.met]:
                continue
            requirements = (_base_requirement(terms, base_charges), *requirements)
        units = _units(chart.policy, terms, count)
        candidate = Candidate(
            rule,
            window,
            last_day,
            is_open,
            units > 0,
            is_open,
            units,
            requirements,
            reasons=doubts,
            unverified=unverified,
        )
        if rule.units_cap is not None and units > rule.units_cap:
            candidate.units = rule.units_cap
            candidate.reasons |= {ReviewReason.UNITS_OVER_CAP}
        if terms.changes_within(window, _seconds(count), chart.diagnosed(window), _most(chart.policy, count)):
            candidate.add_rule_change()
        if variants:
            _add_variant_doubts(chart, candidate, terms, count, variants)
        if unread.any_may_be or (unread.single and last_day in days_of(window, unread.single)):
            # A visit on the service date alone would hold it.
            candidate.reasons |= {ReviewReason.RECORD_INCOMPLETE}
            candidate.unmet_reasons |= {ReviewReason.RECORD_INCOMPLETE}
        if charges:
            add_charges(candidate, charges)
        if charged:
            chart.add_charged_otherwise(candidate, charged)
        if staff.has_therapist:
            candidate.modifiers = _modifiers(chart, rule, staff)
            _tell_assistants(chart, candidate, terms, month, staff)
        chart.add_terms(candidate, terms)
        _date_anew(chart, candidate, month, count)
        found.append(candidate)
    block_lower_tiers(found)
    if is_open:
        for candidate in found:
            candidate.forecast = _forecast(chart, candidate, found, tally.seconds)
    return found


def _date_anew(chart: ProgramChart, candidate: Candidate, month: Month, count: _Count) -> None:
    """Date the service on the day that somebody chose, where there was no visit on it, its time was reached
    by then, and the same rules hold (D38)."""
    code = candidate.rule.code
    day = service_date_chosen(code, candidate.window, chart.record.resolutions)
    if day is None or ReviewReason.VISIT_ON_SERVICE_DATE not in candidate.reasons or candidate.open:
        return
    terms, usual = chart.policy.terms(code, day), chart.policy.terms(code, candidate.window.end)
    after = clock_of(chart.record.zone).midnight(day + ONE_DAY)
    by_then = month.tally(
        tuple([piece for piece in count.tally.pieces if max(piece.start, piece.end - 1) < after])
    )
    if (
        not terms.in_force
        or (terms.needed, terms.covered) != (usual.needed, usual.covered)
        or chart.visits.by_program(day)
        or chart.visits.unclear(day)
        or _units(chart.policy, terms, _Count(by_then, by_then.contacts)) < candidate.units
    ):
        return
    candidate.service_date = day
    candidate.reasons -= {ReviewReason.VISIT_ON_SERVICE_DATE}
    candidate.unverified |= chart.statements.of(day, candidate.window)


def _of_minutes(chart: ProgramChart, window: Window, count: _Count) -> frozenset[Unverified]:
    """What the month's own records leave to be stated of its minutes and its conversation (D39).

    Where nothing counted, nothing stands in the place of a statement.
    """
    found: set[Unverified] = set()
    pieces, called = count.tally.pieces, count.tally.contacts
    if not pieces or any(not piece.documented for piece in pieces):
        found.add(Unverified.TIME)
    if not called or any(not piece.documented for piece in pieces if piece.resource in called):
        found.add(Unverified.CONVERSATION)
    unread = chart.record.completeness.of("Encounter", chart.so_far(window))
    if unread or chart.visits.beside(pieces):
        found.add(Unverified.SAME_DAY_SERVICES)
    return frozenset(found)


class _Unread(Struct, frozen=True, gc=False):
    """Encounters of a month that were not read. `any_may_be`: nobody knows how many, or of which days;
    `single`: broken ones, whose days can be read."""

    any_may_be: bool = False
    single: tuple[Missing, ...] = ()


_ALL_READ = _Unread()


def _unread_encounters(chart: ProgramChart, window: Window) -> _Unread:
    missing = chart.record.completeness.of("Encounter", chart.so_far(window))
    if not missing:
        return _ALL_READ
    if chart.policy.minutes_kept_in_app:
        # This site records no monitoring time in Encounters: that they are not granted takes no minute away.
        missing = tuple(one for one in missing if one.why is not MissingWhy.NOT_GRANTED)
    single = tuple(one for one in missing if one.entries and one.start is not None and one.end is not None)
    return _Unread(len(single) < len(missing), single)


def _unread_variants(
    chart: ProgramChart, month: Month, count: _Count, broken: tuple[Missing, ...]
) -> list[tuple[ReviewReason, _Count]]:
    """The month as it would be if a broken Encounter were a visit on its days, or a long call (D20 e)."""
    if not broken:
        return []
    clock = clock_of(chart.record.zone)
    days = days_of(month_window(month.first_day), broken)
    beside = tuple([piece for piece in count.tally.pieces if clock.day_of(piece.start) not in days])
    visited = month.tally(beside)
    names = tuple(f"{one.type} {number}" for one in broken for number in range(one.entries))
    called = replace(
        count.tally,
        seconds=count.tally.seconds + len(names) * LONGEST_PLAUSIBLE_SPAN // MICROSECONDS,
        contacts=(*count.tally.contacts, *names),
    )
    incomplete = ReviewReason.RECORD_INCOMPLETE
    return [
        (incomplete, _Count(visited, visited.contacts)),
        (incomplete, _Count(called, called.contacts)),
    ]


def _requirements(terms: Terms, count: _Count) -> tuple[Requirement, ...]:
    seconds, contacts, reference = count.tally.seconds, count.contacts, terms.reference
    return (
        Requirement(
            _TIME,
            _SECONDS,
            terms.needed,
            seconds,
            seconds >= terms.needed,
            count.tally.evidence,
            reference,
        ),
        Requirement(_CONTACT, _COUNT, 1, len(contacts), bool(contacts), contacts, reference),
    )


def _base_requirement(terms: Terms, charges: tuple[str, ...]) -> Requirement:
    return Requirement(_BASE, _COUNT, 1, 1, True, charges, terms.rule_reference)


def _units(policy: Policy, terms: Terms, count: _Count) -> int:
    """Units that these minutes and conversations earn, whatever the cap."""
    return terms.earned(_seconds(count), _most(policy, count))


def _to_cap(policy: Policy, terms: Terms, count: _Count) -> int:
    """The same units; above the cap, that they are."""
    units, cap = _units(policy, terms, count), terms.rule.units_cap
    return units if cap is None else min(units, cap + 1)


def _seconds(count: _Count) -> int:
    """The seconds that can earn anything: without a conversation, none."""
    return count.tally.seconds if count.contacts else 0


def _most(policy: Policy, count: _Count) -> int | None:
    """The most add-on units that the conversations allow, where the payer asks for further ones (D10)."""
    further = policy.contacts_per_addon_unit
    return (count.conversations - 1) // further if further else None


def _month_doubts(
    chart: ProgramChart, window: Window, month: Month, staff: Staffing, count: _Count
) -> Reasons:
    """Doubts that hold for every management code of the month."""
    record, tally = chart.record, count.tally
    doubts: set[ReviewReason | str] = set(chart.base_doubts)
    lines = chart.lines_by_month.get(window.start)
    if not lines:
        doubts.add(ReviewReason.NO_DATA_IN_MONTH)
    elif lines == {Line.OTHER}:
        doubts.add(ReviewReason.NO_DEVICE_CODE)
    if count.contacts and not tally.contacts:
        doubts.add(ReviewReason.CONVERSATION_IN_PERSON)
    if staff.professional_unknown:
        doubts.add(ReviewReason.BILLING_PROFESSIONAL_UNKNOWN)
    if tally.contacts and month.divides:
        crossing = {piece.resource for piece in tally.pieces if piece.crosses_months}
        if crossing.issuperset(tally.contacts):
            doubts.add(ReviewReason.CALL_ACROSS_MONTHS)
    if chart.visits.by_program(window.end):
        doubts.add(ReviewReason.VISIT_ON_SERVICE_DATE)
    if chart.visits.unclear(window.end):
        doubts.add(ReviewReason.SAME_DAY_VISIT)
    if record.double_booked and any(piece.resource in record.double_booked for piece in tally.pieces):
        doubts.add(ReviewReason.CLINICIAN_DOUBLE_BOOKED)
    if holds_an_overlong_day(tally.pieces, record.zone):
        doubts.add(ReviewReason.IMPLAUSIBLE_SPAN)
    return frozenset(doubts)


def _variants(chart: ProgramChart, month: Month, staff: Staffing) -> list[tuple[ReviewReason, Tally]]:
    """The month as it would be if a doubt fell the other way."""
    found: list[tuple[ReviewReason, Tally]] = []
    clear = tuple([piece for piece in staff.counted if piece.clear])
    if clear != staff.counted:
        found.append((ReviewReason.CONVERSATION_UNCLEAR, month.tally(clear)))
    # Those on the day of a visit of which nobody can tell whose it was (D35).
    beside = tuple([piece for piece in staff.counted if not chart.visits.may_take(piece)])
    if beside != staff.counted:
        found.append((ReviewReason.SAME_DAY_VISIT, month.tally(beside)))
    found += [(ReviewReason.IMPLAUSIBLE_SPAN, month.tally(other)) for other in _other_spans(chart, month)]
    if staff.role_unknown:
        # RPM counts whoever took part, if only somebody may have been of the staff.
        known = tuple(
            [
                piece
                for piece in month.pieces
                if not (piece.nobody_shown if chart.program is Program.RPM else piece.role is Role.UNKNOWN)
            ]
        )
        without = chart.staffing_of(month.first_day, known)
        found.append((ReviewReason.STAFF_ROLE, month.tally(without.counted)))
    found += [(ReviewReason.TWO_PROFESSIONALS, month.tally(answer)) for answer in staff.answers]
    return found


def _other_spans(chart: ProgramChart, month: Month) -> list[tuple[ManagementTime, ...]]:
    """What would count, were the spans that seem too long true (D13), or the other time of what was recorded
    under two (D31)."""
    twice = chart.record.two_times
    instead = [piece for piece in month.doubtful if piece.resource in twice]
    beside = [piece for piece in month.doubtful if piece.resource not in twice]
    found: list[tuple[ManagementTime, ...]] = []
    if beside:
        found.append((*month.pieces, *beside))
    if twice:
        found.append((*[piece for piece in month.pieces if piece.resource not in twice], *instead))
    return [chart.staffing_of(month.first_day, pieces).counted for pieces in found]


def _add_variant_doubts(
    chart: ProgramChart,
    candidate: Candidate,
    terms: Terms,
    count: _Count,
    variants: list[tuple[ReviewReason, _Count]],
) -> None:
    """Would the code or its quantity be another one? A base code also asks for the higher ones. How far a
    quantity lies above the cap changes nothing."""
    rule, policy = candidate.rule, chart.policy
    ladder = [
        step
        for step in policy.in_force(chart.program, _KINDS, candidate.window.end)
        if step.rule.code in (rule.code, rule.base)
        or (rule.group is not None and step.rule.group == rule.group and step.rule.tier > rule.tier)
    ]
    for reason, other in variants:
        if candidate.met:
            if any(_to_cap(policy, step, count) != _to_cap(policy, step, other) for step in ladder):
                candidate.reasons |= {reason}
        elif _units(policy, terms, other):
            candidate.unmet_reasons |= {reason}


def _modifiers(chart: ProgramChart, rule: CodeRule, staff: Staffing) -> tuple[str, ...]:
    """GP, GO or GN under a therapist; CQ or CO where the assistant's share is above the de minimis."""
    if not rule.therapy_modifiers or staff.has_professional:
        return ()
    disciplines = disciplines_of(staff)
    found = only_of(rule.therapy_modifiers, disciplines)
    total = whole_seconds(staff.counted)
    by_therapist = whole_seconds(
        [piece for piece in staff.counted if piece.role is not Role.THERAPIST_ASSISTANT]
    )
    if (total - by_therapist) * 100 > total * chart.policy.assistant_de_minimis_percent:
        found += only_of(rule.assistant_modifiers, disciplines)
    return found


def _tell_assistants(
    chart: ProgramChart, candidate: Candidate, terms: Terms, month: Month, staff: Staffing
) -> None:
    """Where a therapist's own minutes earn as much and an assistant's modifier is proposed: the other
    possibility, until somebody chose; then what they chose."""
    of_assistants = set(candidate.rule.assistant_modifiers.values())
    if not candidate.met or of_assistants.isdisjoint(candidate.modifiers):
        return
    tally = month.tally(
        tuple([piece for piece in staff.counted if piece.role is not Role.THERAPIST_ASSISTANT])
    )
    own = _Count(tally, tally.contacts)
    if _units(chart.policy, terms, own) < candidate.units:
        return
    kept = tuple(one for one in candidate.modifiers if one not in of_assistants)
    chosen = minutes_chosen(candidate.rule.code, candidate.window, candidate.service_date, chart.record)
    if chosen is None:
        candidate.alternative = Alternative(tally.seconds, tally.evidence, kept)
        candidate.hints |= {Hint.ASSISTANT_NOT_NEEDED}
    elif chosen == THERAPIST_ALONE:
        others = [one for one in candidate.requirements if one.requirement not in (_TIME, _CONTACT)]
        candidate.requirements = (*others, *_requirements(terms, own))
        candidate.modifiers = kept


def _forecast(
    chart: ProgramChart, candidate: Candidate, of_month: list[Candidate], seconds: int
) -> Forecast | None:
    """What the open month still lacks for this code, its next unit, or the code it may become."""
    if candidate.blocked_by is not None or candidate.charges:
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
