"""Management time by calendar month: whose seconds count, and which conversation (D10 to D14).

A piece is the part of one person's span that lies in one month and belongs to nothing else: mostly the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from zoneinfo import ZoneInfo

from msgspec import Struct, field
from msgspec.structs import replace

from fhir_mappings.local_time import MICROSECONDS, clock_of, next_month
from fhir_mappings.record import Excluded, LiveContact, ManagementTime, PatientRecord
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.taken_time import TakenTime
from fhir_mappings.rules.visits import Visits
from fhir_mappings.vocabulary import (
    DISCIPLINES,
    MONITORING_PROGRAMS,
    PROFESSIONALS,
    THERAPISTS,
    ExcludedReason,
    Program,
    Role,
)

MOST_SECONDS_OF_A_DAY = 8 * 60 * 60
"""Of one person for one patient: a working day, of spans that are each short enough for D13."""
_RPM_ROLES = PROFESSIONALS | {Role.CLINICAL_STAFF, Role.UNKNOWN}
_THERAPY_ROLES = THERAPISTS | {Role.THERAPIST_ASSISTANT}


class Tally(Struct, frozen=True, gc=False):
    """What some of a month's pieces come to: whole seconds, conversations, and their Encounters' names."""

    seconds: int
    contacts: tuple[str, ...]
    pieces: tuple[ManagementTime, ...]
    evidence: tuple[str, ...]

    @property
    def conversations(self) -> int:
        """How many conversations the contacts were: one that two people recorded is one."""
        spans: dict[str, tuple[int, int]] = {}
        for piece in self.pieces:
            name = piece.resource
            if name in self.contacts and piece.seconds is None:
                start, end = spans.get(name, (piece.start, piece.end))
                spans[name] = (min(start, piece.start), max(end, piece.end))
        return len(self.contacts) - len(spans) + _apart(spans.values())


class Month(Struct, gc=False):
    """One calendar month of one program. `doubtful`: spans left out that may have counted."""

    first_day: date
    pieces: list[ManagementTime] = field(default_factory=list)
    doubtful: list[ManagementTime] = field(default_factory=list)
    in_person: list[LiveContact] = field(default_factory=list)
    divides: bool = False
    """A span reaches over one of its ends."""
    calls: frozenset[str] = frozenset()
    """Every conversation of the record that was no meeting."""

    def tally(self, pieces: tuple[ManagementTime, ...]) -> Tally:
        evidence = sorted({piece.resource for piece in pieces})
        contacts = tuple([name for name in evidence if name in self.calls])
        return Tally(whole_seconds(pieces), contacts, pieces, tuple(evidence))


Months = dict[date, Month]
"""Months by their first day."""


def months_of(
    record: PatientRecord, excluded: set[Excluded], visits: Mapping[Program, Visits]
) -> dict[Program, Months]:
    """Each program's months that hold management time or a conversation. Time that belongs to something else
    goes to `excluded`. `visits`: as each program sees them."""
    clock = clock_of(record.zone)
    taken = TakenTime(record, clock)
    calls = frozenset([contact.resource for contact in record.contacts if not contact.in_person])
    found: dict[Program, Months] = {program: {} for program in MONITORING_PROGRAMS}
    # A coding that speaks of any program gives its time to each of them.
    either = tuple(found)
    homes = {**{program: (program,) for program in either}, Program.ANY: either}

    def month(months: Months, first_day: date) -> Month:
        if first_day not in months:
            months[first_day] = Month(first_day, calls=calls)
        return months[first_day]

    def place(
        program: Program, time: ManagementTime, first_day: date, start: int, end: int, crosses: bool = False
    ) -> None:
        target = month(found[program], first_day)
        target.divides |= crosses
        piece = replace(time, start=start, end=end, crosses_months=crosses)
        (target.pieces if time.doubt is None else target.doubtful).append(piece)

    # Sorted by start, so the next span mostly lies in the same month, and in the same gap of what is taken.
    opens = closes = free_from = 0
    free_until = -1
    here: dict[Program, list[Month]] = {}
    gone: dict[str, ExcludedReason] = {}
    for time in record.management:
        program, start, end = time.program, time.start, time.end
        if time.seconds is not None:
            day = clock.day_of(start)
            for home in homes[program]:
                if visits[home].takes(time, day):
                    gone.setdefault(time.resource, ExcludedReason.SAME_DAY_VISIT)
                else:
                    place(home, time, day.replace(day=1), start, end)
            continue
        if not (free_from <= start and end <= free_until):
            if not opens <= start < closes:
                this_month = clock.day_of(start).replace(day=1)
                opens, closes = clock.midnight(this_month), clock.midnight(next_month(this_month))
                here = {}
            free_from, free_until = taken.free_around(end, opens, closes)
        if free_from <= start and end <= free_until:
            if program not in here:
                here[program] = [month(found[home], this_month) for home in homes[program]]
            for target in here[program]:
                (target.pieces if time.doubt is None else target.doubtful).append(time)
            continue
        for home in homes[program]:
            left = taken.left_of(time, visits[home])
            if isinstance(left, ExcludedReason):
                gone.setdefault(time.resource, left)
                continue
            for part_start, part_end in left:
                for first_day, piece_start, piece_end in clock.months_of(part_start, part_end):
                    place(home, time, first_day, piece_start, piece_end, end > closes)
    for contact in record.contacts:
        if contact.in_person:
            for home in homes[contact.program]:
                if visits[home].may_be_monitoring(contact):
                    month(found[home], contact.day.replace(day=1)).in_person.append(contact)
    if gone:
        kept = {
            piece.resource
            for months in found.values()
            for one in months.values()
            for piece in (*one.pieces, *one.doubtful)
        }
        excluded.update(Excluded(name, reason) for name, reason in gone.items() if name not in kept)
    return found


class Staffing(Struct, frozen=True, gc=False):
    """Whose pieces of a month count. `answers`: the ways of counting that must agree (D14). `role_unknown`:
    some are of people whose role nobody knows; they count everywhere."""

    counted: tuple[ManagementTime, ...]
    role_unknown: bool = False
    answers: tuple[tuple[ManagementTime, ...], ...] = ()
    professional_unknown: bool = False
    has_professional: bool = False
    has_therapist: bool = False
    billed_under: str | None = None
    """The discipline of the therapist who was chosen to bill: an assistant's record may tell of none."""


def staffing(
    program: Program, policy: Policy, present: tuple[ManagementTime, ...], billed_by: Role | None = None
) -> Staffing:
    """Which of these pieces count for the program, by the roles of the month's staff. `billed_by`: in which
    role somebody bills RTM, where that was chosen (D38)."""
    roles = {piece.role for piece in present}
    unknown = Role.UNKNOWN in roles
    professional = bool(roles & PROFESSIONALS)
    if program is Program.RPM:
        # Therapists can't bill RPM, and their minutes don't count to it.
        return Staffing(_of_roles(present, _RPM_ROLES), unknown, has_professional=professional)
    auxiliary = frozenset({Role.CLINICAL_STAFF}) if policy.rtm_aux_time_counts else frozenset()
    by_physician = PROFESSIONALS | auxiliary | {Role.UNKNOWN}
    by_therapist = _THERAPY_ROLES | {Role.UNKNOWN}
    if billed_by in PROFESSIONALS:
        return Staffing(_of_roles(present, by_physician), unknown, has_professional=True)
    if billed_by in THERAPISTS:
        counted = _of_roles(present, by_therapist)
        return Staffing(counted, unknown, has_therapist=True, billed_under=DISCIPLINES[billed_by])
    therapist = bool(roles & THERAPISTS)
    if professional and roles & _THERAPY_ROLES:
        together = _of_roles(present, by_physician | by_therapist)
        return Staffing(
            together,
            unknown,
            (together, _of_roles(present, by_physician), _of_roles(present, by_therapist)),
            has_professional=True,
            has_therapist=therapist,
        )
    if professional:
        return Staffing(_of_roles(present, by_physician), unknown, has_professional=True)
    if therapist:
        return Staffing(_of_roles(present, by_therapist), unknown, has_therapist=True)
    # Staff and assistants can't bill; somebody whose role nobody knows doesn't show who can.
    return Staffing(present, unknown, professional_unknown=bool(roles - {Role.UNKNOWN}))


def in_person_contacts(month: Month, program: Program, *programs: Program) -> tuple[str, ...]:
    """Conversations face to face, by somebody whose minutes the program counts.

    `programs`: of codings that speak of one of these.
    """
    return tuple(
        sorted(
            contact.resource
            for contact in month.in_person
            if contact.program in programs and (program is Program.RTM or contact.roles & _RPM_ROLES)
        )
    )


def _of_roles(pieces: tuple[ManagementTime, ...], roles: frozenset[Role]) -> tuple[ManagementTime, ...]:
    return tuple([piece for piece in pieces if piece.role in roles])


def whole_seconds(pieces: Sequence[ManagementTime]) -> int:
    """Whole seconds of the union of spans: two people on one call are one call. Durations without a time
    can't be told to overlap and are added, once an Encounter. Never rounded up."""
    spans = sorted([(piece.start, piece.end) for piece in pieces if piece.seconds is None])
    bare: dict[str, int] = {}
    if len(spans) < len(pieces):
        for piece in pieces:
            if (seconds := piece.seconds) is not None:
                bare[piece.resource] = max(bare.get(piece.resource, seconds), seconds)
    found = sum(bare.values())
    if spans:
        opened, until = spans[0]
        for start, end in spans:
            if start > until:
                found += (until - opened) // MICROSECONDS
                opened, until = start, end
            elif end > until:
                until = end
        found += (until - opened) // MICROSECONDS
    return found


def holds_an_overlong_day(pieces: Sequence[ManagementTime], zone: ZoneInfo) -> bool:
    """Whether one person has more than `MOST_SECONDS_OF_A_DAY` on one local day (D42). Of whom nobody knows,
    each Encounter is somebody else's."""
    if whole_seconds(pieces) <= MOST_SECONDS_OF_A_DAY:
        return False
    clock = clock_of(zone)
    of_day: dict[tuple[str, date], list[ManagementTime]] = {}
    for piece in pieces:
        person, start = piece.person or piece.resource, piece.start
        if piece.seconds is not None:
            of_day.setdefault((person, clock.day_of(start)), []).append(piece)
            continue
        while start < piece.end:
            day = clock.day_of(start)
            until = min(piece.end, clock.day_span(day)[1])
            of_day.setdefault((person, day), []).append(replace(piece, start=start, end=until))
            start = until
    return any(whole_seconds(parts) > MOST_SECONDS_OF_A_DAY for parts in of_day.values())


def _apart(spans: Iterable[tuple[int, int]]) -> int:
    """How many groups these spans make that share no instant; what only follows at once is another."""
    groups, until = 0, 0
    for start, end in sorted(spans):
        if not groups or start >= until:
            groups, until = groups + 1, end
        else:
            until = max(until, end)
    return groups
