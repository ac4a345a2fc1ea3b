"""Encounter -> management time, live contact, set-up, visit, or a stay in a facility.

Which it is follows from configured codings (`terminology`), never from free text. Spans follow
D13, visits D11, the choice of calls D12.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from math import inf

from msgspec import Struct, structs

from fhir_mappings.local_time import MICROSECONDS, LocalClock, Moment, TimeProblem, Window
from fhir_mappings.observation import status_reason, time_reason
from fhir_mappings.places import (
    NOT_FACE_TO_FACE,
    Extent,
    Presence,
    extent_of,
    is_longer_than_a_day,
    presence_of,
    stay_within,
)
from fhir_mappings.record import LiveContact, ManagementTime, SetUp, UsedTime, Visit
from fhir_mappings.resources import (
    Encounter,
    Participant,
    Period,
    Quantity,
    Reference,
    concepts,
)
from fhir_mappings.terminology import EncounterMeaning, Terminology
from fhir_mappings.vocabulary import (
    CALLS,
    MONITORING_PROGRAMS,
    OUTSIDE_MANAGEMENT,
    PROFESSIONALS,
    Activity,
    ExcludedReason,
    Place,
    Program,
    Role,
)

LONGEST_PLAUSIBLE_SPAN = 4 * 60 * 60 * MICROSECONDS
NEVER_TOOK_PLACE = frozenset({"planned", "cancelled", "entered-in-error"})
_STATUSES = {
    "planned": ExcludedReason.PLANNED,
    "arrived": ExcludedReason.ARRIVED,
    "triaged": ExcludedReason.TRIAGED,
    "in-progress": ExcludedReason.IN_PROGRESS,
    "onleave": ExcludedReason.ON_LEAVE,
    "cancelled": ExcludedReason.CANCELLED,
    "entered-in-error": ExcludedReason.ENTERED_IN_ERROR,
    "unknown": ExcludedReason.UNKNOWN,
}
_LONGEST_SECONDS = 10 * 366 * 86_400
_SECONDS_IN = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "seconds": 1,
    "min": 60,
    "mins": 60,
    "minute": 60,
    "minutes": 60,
    "h": 3600,
    "hr": 3600,
    "hour": 3600,
    "hours": 3600,
}


class StaffMember(Struct, frozen=True, gc=False):
    """`person` is the Practitioner where one is known, so that two roles of one person are one person."""

    person: str | None
    role: Role
    discipline: str | None = None


UNKNOWN_STAFF = StaffMember(None, Role.UNKNOWN)
_Staff = list[tuple[StaffMember, Period | None]]


class EncounterFacts(Struct, gc=False):
    """All that one Encounter says. `excluded` is why it gives no management time, set-up or visit."""

    presences: tuple[Presence, ...] = ()
    """Where it says that the patient was; of Encounters that are one (D31), what each of them says."""
    coded_program: Program | None = None
    management: tuple[ManagementTime, ...] = ()
    contact: LiveContact | None = None
    set_up: SetUp | None = None
    used: tuple[UsedTime, ...] = ()
    busy: tuple[tuple[str, int, int], ...] = ()
    """Who was with this patient from when to when, whatever it was; only plausible spans (D13)."""
    visit: Visit | None = None
    two_times: bool = False
    """Another Encounter of the same identifier gives another time (D31)."""
    excluded: ExcludedReason | None = None


class _Span(Struct, frozen=True, gc=False):
    start: int
    end: int
    seconds: int | None = None

    @property
    def length(self) -> int:
        return self.end - self.start if self.seconds is None else self.seconds * MICROSECONDS


def read_encounter(
    encounter: Encounter,
    name: str,
    terminology: Terminology,
    clock: LocalClock,
    staff_of: Callable[[Reference], StaffMember | None],
    billed_as: ExcludedReason | None = None,
    billed_as_visit: bool = False,
) -> EncounterFacts:
    """One Encounter's facts. `billed_as`: another charge has this Encounter as its context (D12)."""
    if terminology.is_test_data(encounter.meta):
        # Nobody real was seen in it: neither minutes nor a place.
        return EncounterFacts(excluded=ExcludedReason.TEST_DATA)
    extent, meaning = _extent(encounter, clock), _meaning(encounter, terminology)
    facts = EncounterFacts(_presences(encounter, meaning, extent, terminology, clock))
    if billed_as_visit:
        meaning = EncounterMeaning(Activity.VISIT, Program.ANY, False, billed_elsewhere=True)
    if encounter.status not in NEVER_TOOK_PLACE and (
        billed_as is not None or (meaning is not None and _uses_time_up(meaning))
    ):
        facts.used = _used(encounter, name, clock)
    if encounter.status != "finished":
        facts.excluded = status_reason(encounter.status, _STATUSES)
        return facts
    listed = _staff(encounter.participant, staff_of, terminology)
    nobody_shown = bool(encounter.participant) and not listed
    staff = listed or [(UNKNOWN_STAFF, None)]
    facts.busy = _busy(encounter, clock, staff)
    if meaning is None:
        facts.excluded = billed_as or ExcludedReason.ACTIVITY_NOT_CONFIGURED
        return facts
    billed = billed_as is not None or meaning.billed_elsewhere
    if meaning.by_site and meaning.program in MONITORING_PROGRAMS and not billed and not nobody_shown:
        facts.coded_program = meaning.program
    if meaning.activity in (Activity.VISIT, Activity.IN_PERSON):
        facts.visit = _visit(encounter, name, extent, clock, staff)
    if billed:
        facts.excluded = ExcludedReason.BILLED_ELSEWHERE
        return facts
    start = clock.read(start_of(encounter))
    if meaning.program is Program.OTHER:
        facts.excluded = ExcludedReason.NOT_MANAGEMENT
    elif isinstance(start, TimeProblem):
        facts.excluded = time_reason(start)
    elif meaning.activity is Activity.SETUP_EDUCATION:
        facts.set_up = SetUp(
            name,
            meaning.program,
            _local_day(start, clock),
            start.instant,
            frozenset(member.role for member, _ in staff),
        )
    elif meaning.activity in OUTSIDE_MANAGEMENT or (
        meaning.activity is Activity.MESSAGE and meaning.program is Program.ANY
    ):
        facts.excluded = ExcludedReason.NOT_MANAGEMENT
        if meaning.activity is Activity.IN_PERSON and not extent.is_longer_than_a_day(clock):
            facts.contact = _contact(name, meaning, _local_day(start, clock), staff)
    else:
        _add_management(facts, encounter, name, meaning, clock, staff, nobody_shown)
        if facts.management and meaning.activity in CALLS and not extent.is_longer_than_a_day(clock):
            facts.contact = _contact(name, meaning, _local_day(start, clock), staff)
    return facts


def presences_of(encounter: Encounter, terminology: Terminology, clock: LocalClock) -> tuple[Presence, ...]:
    """Where it says that the patient was (D26)."""
    return _presences(
        encounter, _meaning(encounter, terminology), _extent(encounter, clock), terminology, clock
    )


def _presences(
    encounter: Encounter,
    meaning: EncounterMeaning | None,
    extent: Extent,
    terminology: Terminology,
    clock: LocalClock,
) -> tuple[Presence, ...]:
    """Nothing, if it never took place or was a call or desk work."""
    if encounter.status in NEVER_TOOK_PLACE or (meaning is not None and meaning.activity in NOT_FACE_TO_FACE):
        return ()
    place, is_over = terminology.place(*encounter.classes), encounter.status == "finished"
    found = [presence_of(place, extent, is_over=is_over, clock=clock)]
    if place is not Place.FACILITY:
        found += [
            stay_within(extent_of(former.period, None, clock), extent)
            for former in encounter.classHistory or ()
            if terminology.place(former.class_) is Place.FACILITY
        ]
    return tuple(presence for presence in found if presence is not None)


def _meaning(encounter: Encounter, terminology: Terminology) -> EncounterMeaning | None:
    return terminology.encounter(encounter.kinds, *encounter.classes)


def _extent(encounter: Encounter, clock: LocalClock) -> Extent:
    return extent_of(encounter.period, _duration_seconds(encounter.length), clock)


def start_of(encounter: Encounter) -> str | None:
    """When an Encounter began: its period says so, else the first participant whose own period does."""
    periods = [encounter.period, *(participant.period for participant in encounter.participant or ())]
    return next((period.start for period in periods if period is not None and period.start), None)


def claimed_by(encounter: Encounter, terminology: Terminology, clock: LocalClock) -> tuple[bool, float]:
    """How much one version of an Encounter claims beside another one, as what can be compared (D27): of work
    and set-ups what was done and how long it took; a stay or a visit claims the less the longer it was."""
    span = _span(encounter.period, encounter.length, clock)
    if only_takes_away(encounter, terminology):
        return encounter.status in NEVER_TOOK_PLACE, -span.length if isinstance(span, _Span) else -inf
    return encounter.status == "finished", span.length if isinstance(span, _Span) else 0


def only_takes_away(encounter: Encounter, terminology: Terminology) -> bool:
    """A stay, a visit, or work that is billed elsewhere: it may take days or minutes away, and earns nothing
    here; of work and set-ups it is the other way round."""
    meaning = _meaning(encounter, terminology)
    return meaning is None or (_uses_time_up(meaning) and not _is_set_up(meaning))


def _is_set_up(meaning: EncounterMeaning) -> bool:
    billed_here = not meaning.billed_elsewhere and meaning.program is not Program.OTHER
    return meaning.activity is Activity.SETUP_EDUCATION and billed_here


def _uses_time_up(meaning: EncounterMeaning) -> bool:
    return (
        meaning.billed_elsewhere or meaning.program is Program.OTHER or meaning.activity in OUTSIDE_MANAGEMENT
    )


def _used(encounter: Encounter, name: str, clock: LocalClock) -> tuple[UsedTime, ...]:
    """Whatever the Encounter or one of its participants covers: taking too much away never bills too much.
    Only what is longer than a day was nobody's work from end to end, and takes nothing (D26)."""
    periods = [encounter.period, *(participant.period for participant in encounter.participant or ())]
    spans = {
        (span.start, span.end)
        for period in periods
        if isinstance(
            span := _span(_own_period(period, encounter.period, clock), encounter.length, clock), _Span
        )
        and span.seconds is None
        and not is_longer_than_a_day(span.start, span.end, clock)
    }
    return tuple(UsedTime(name, start, end) for start, end in sorted(spans))


def _busy(encounter: Encounter, clock: LocalClock, staff: _Staff) -> tuple[tuple[str, int, int], ...]:
    found: list[tuple[str, int, int]] = []
    for member, own in staff:
        if member.person is None or member.role is Role.NON_CLINICAL:
            continue
        span = _span(_own_period(own, encounter.period, clock), encounter.length, clock)
        if isinstance(span, _Span) and span.seconds is None and span.length <= LONGEST_PLAUSIBLE_SPAN:
            found.append((member.person, span.start, span.end))
    return tuple(found)


def _local_day(moment: Moment, clock: LocalClock) -> date:
    """Months and visit days of Encounters are the site's; 'as written' is for readings and dates."""
    return moment.day if moment.date_only else clock.day_of(moment.instant)


def _staff(
    participants: list[Participant] | None,
    staff_of: Callable[[Reference], StaffMember | None],
    terminology: Terminology,
) -> _Staff:
    """Those of the staff who took part. Somebody whom nothing says to be no staff may be one of them."""
    found: _Staff = []
    for participant in participants or ():
        if not terminology.takes_part(concepts(participant.type)):
            continue
        if participant.individual is None:
            found.append((UNKNOWN_STAFF, participant.period))
        elif (member := staff_of(participant.individual)) is not None:
            found.append((member, participant.period))
    return found


def _contact(name: str, meaning: EncounterMeaning, day: date, staff: _Staff) -> LiveContact | None:
    members = [member for member, _ in staff if member.role is not Role.NON_CLINICAL]
    if not members:
        return None
    return LiveContact(
        name,
        meaning.program,
        day,
        meaning.activity is Activity.IN_PERSON,
        frozenset(member.role for member in members),
        frozenset(member.person for member in members if member.person),
        any(not member.person for member in members),
    )


def _visit(encounter: Encounter, name: str, extent: Extent, clock: LocalClock, staff: _Staff) -> Visit | None:
    # Whether somebody without a known role made an E/M visit can't be told; believing it takes minutes away,
    # and never adds any.
    people = [member for member, _ in staff if member.role in PROFESSIONALS or member.role is Role.UNKNOWN]
    if not people or extent.is_longer_than_a_day(clock):
        return None
    lies_on = extent.days(clock)
    if lies_on is None:
        start = clock.read(start_of(encounter))
        if isinstance(start, TimeProblem):
            return None
        lies_on = Window(_local_day(start, clock), _local_day(start, clock))
    days = (lies_on.start,) if lies_on.start == lies_on.end else (lies_on.start, lies_on.end)
    return Visit(
        name,
        days,
        frozenset(member.person for member in people if member.person),
        any(not member.person for member in people),
    )


def _duration_seconds(length: Quantity | None) -> int | None:
    """A FHIR Duration in whole seconds; None where its unit isn't one of time, or it has no value."""
    if length is None or length.value is None or length.comparator:
        # "Less than 20 minutes" may be 2: it is no length (D31).
        return None
    unit = _SECONDS_IN.get((length.code or length.unit or "").strip().lower())
    if unit is None:
        return None
    # Beyond ten years any span is implausible; a number without bounds would leave the calendar.
    return int(max(-_LONGEST_SECONDS, min(length.value * unit, _LONGEST_SECONDS)))


def _span(period: Period | None, length: Quantity | None, clock: LocalClock) -> _Span | ExcludedReason:
    """The span that a period and a length give together: the shorter where both stand (D13)."""
    if period is None:
        return ExcludedReason.NO_DATE
    start = clock.read(period.start)
    if isinstance(start, TimeProblem):
        return time_reason(start)
    seconds = _duration_seconds(length)
    if start.date_only:
        if seconds is None:
            return ExcludedReason.NO_DURATION
        return _Span(start.instant, start.instant, seconds) if seconds > 0 else ExcludedReason.ZERO_DURATION
    end = clock.read(period.end)
    if isinstance(end, Moment) and not end.date_only:
        closes = end.instant
        if closes < start.instant:
            return ExcludedReason.BACKWARD_PERIOD
        if seconds is not None:
            closes = min(closes, start.instant + max(seconds, 0) * MICROSECONDS)
    elif isinstance(end, TimeProblem) and end is not TimeProblem.MISSING:
        return time_reason(end)
    elif seconds is None:
        return ExcludedReason.NO_DURATION
    else:
        closes = start.instant + max(seconds, 0) * MICROSECONDS
    return _Span(start.instant, closes) if closes > start.instant else ExcludedReason.ZERO_DURATION


def _has_both_ends(period: Period | None, clock: LocalClock) -> bool:
    """Whether it says when it began and when it ended, as times of day."""
    ends = () if period is None else (clock.read(period.start), clock.read(period.end))
    return bool(ends) and all(isinstance(one, Moment) and not one.date_only for one in ends)


def _own_period(own: Period | None, whole: Period | None, clock: LocalClock) -> Period | None:
    """A participant's period (D13). One that does not say both its ends as times of day only narrows the
    Encounter's: when somebody was assigned, in the morning or weeks ago, is not when a call began."""
    if own is None or not (own.start or own.end):
        return whole
    if whole is None or _has_both_ends(own, clock):
        return own
    return Period(
        _narrowed(own.start, whole.start, clock, at_start=True),
        _narrowed(own.end, whole.end, clock, at_start=False),
    )


def _narrowed(own: str | None, whole: str | None, clock: LocalClock, *, at_start: bool) -> str | None:
    """Of two starts the later, of two ends the earlier; of a day alone only that it holds the other one."""
    if not (own and whole):
        return own or whole
    mine, theirs = clock.read(own), clock.read(whole)
    if isinstance(mine, TimeProblem) or isinstance(theirs, TimeProblem) or theirs.date_only:
        return own
    if mine.date_only:
        outside = mine.day > _local_day(theirs, clock) if at_start else mine.day < _local_day(theirs, clock)
        return own if outside else whole
    return own if (mine.instant > theirs.instant) is at_start else whole


def _add_management(
    facts: EncounterFacts,
    encounter: Encounter,
    name: str,
    meaning: EncounterMeaning,
    clock: LocalClock,
    staff: _Staff,
    nobody_shown: bool,
) -> None:
    clear = meaning.by_site and meaning.program in MONITORING_PROGRAMS
    found: list[ManagementTime] = []
    problem: ExcludedReason | None = None
    for member, own in staff:
        if member.role is Role.NON_CLINICAL:
            problem = problem or ExcludedReason.ROLE_NOT_COUNTED
            continue
        period = _own_period(own, encounter.period, clock)
        span = _span(period, encounter.length, clock)
        if isinstance(span, ExcludedReason):
            problem = problem or span
            continue
        doubt = ExcludedReason.IMPLAUSIBLE_SPAN if span.length > LONGEST_PLAUSIBLE_SPAN else None
        found.append(
            ManagementTime(
                name,
                meaning.program,
                meaning.activity,
                clear,
                member.person,
                member.role,
                span.start,
                span.end,
                span.seconds,
                member.discipline,
                doubt,
                documented=meaning.by_site and _has_both_ends(period, clock),
                nobody_shown=nobody_shown,
            )
        )
    facts.management = _within_length(found, _duration_seconds(encounter.length))
    if all(time.doubt is not None for time in found):
        facts.excluded = ExcludedReason.IMPLAUSIBLE_SPAN if found else problem


def _within_length(found: list[ManagementTime], seconds: int | None) -> tuple[ManagementTime, ...]:
    """What the Encounter's length leaves of its participants' spans: one after the other they come to no more
    than it, in the order in which they took place (D13)."""
    spans = sorted({(time.start, time.end) for time in found if time.seconds is None})
    if seconds is None or len(spans) < 2:
        return tuple(found)
    left, closes = max(seconds, 0) * MICROSECONDS, spans[0][0]
    reached = closes
    for start, end in spans:
        begins = max(start, reached)
        if begins < end and left:
            closes = begins + min(end - begins, left)
            left -= closes - begins
            reached = end
    return tuple(
        time if time.seconds is not None else structs.replace(time, end=min(time.end, closes))
        for time in found
        if time.seconds is not None or time.start < closes
    )
