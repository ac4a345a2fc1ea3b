"""Whole seconds of the union of spans, and what is left of a span beside others (R4-3, D11, D13)."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fhir_mappings.local_time import MICROSECONDS, LocalClock
from fhir_mappings.record import (
    Excluded,
    LiveContact,
    ManagementTime,
    Order,
    PatientRecord,
    UsedTime,
    Visit,
)
from fhir_mappings.rules.minutes import (
    MOST_SECONDS_OF_A_DAY,
    Month,
    Tally,
    holds_an_overlong_day,
    in_person_contacts,
    months_of,
    staffing,
    whole_seconds,
)
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.tables import shipped_codes
from fhir_mappings.rules.visits import Visits
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Activity, ExcludedReason, Program, Role

ZONE = ZoneInfo("America/New_York")
NOON = LocalClock(ZONE).midnight(date(2026, 3, 10)) + 12 * 3600 * MICROSECONDS
Span = tuple[float, float]


def at(seconds: float) -> int:
    return NOON + round(seconds * MICROSECONDS)


def work(start: float, end: float, name: str = "e1", seconds: int | None = None) -> ManagementTime:
    return ManagementTime(
        f"Encounter/{name}",
        Program.RTM,
        Activity.PHONE_CALL,
        True,
        "Practitioner/x",
        Role.PHYSICIAN,
        at(start),
        at(end),
        seconds,
    )


def pieces(*spans: Span) -> list[ManagementTime]:
    return [work(start, end) for start, end in spans]


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0),
        ([(0, 60)], 60),
        ([(0, 60), (30, 90)], 90),
        ([(30, 90), (0, 60)], 90),
        ([(0, 90), (30, 60)], 90),
        ([(0, 60), (0, 60)], 60),
        ([(100, 160), (0, 60)], 120),
        # one call handed over in the middle of a second
        ([(0, 0.5), (0.5, 1)], 1),
        ([(0, 59.999999)], 59),
        ([(0, 0.6), (10, 10.6)], 0),
    ],
)
def test_two_people_at_once_are_one_span_and_nothing_is_rounded_up(spans: list[Span], seconds: int) -> None:
    assert whole_seconds(pieces(*spans)) == seconds


def test_durations_without_a_time_are_added_once_an_encounter() -> None:
    bare = [work(0, 0, "e1", 60), work(0, 0, "e1", 90), work(0, 0, "e1", 30), work(0, 0, "e2", 1)]
    assert whole_seconds(bare) == 91


def seen(record: PatientRecord) -> dict[Program, Visits]:
    return {
        program: Visits(record, program, LocalClock(ZONE), codes=shipped_codes().programs)
        for program in MONITORING_PROGRAMS
    }


quarters = st.integers(0, 40)
spans = st.tuples(quarters, quarters).filter(lambda span: span[0] < span[1])


@given(spans, st.lists(spans, max_size=6))
@settings(max_examples=200, deadline=None)
def test_what_is_left_of_a_span_is_what_no_other_covers(own: Span, used: list[Span]) -> None:
    excluded: set[Excluded] = set()
    taken = tuple(
        UsedTime(f"Encounter/u{n}", at(start), at(end)) for n, (start, end) in enumerate(sorted(used))
    )
    record = PatientRecord(
        "Patient/p1",
        date(2026, 4, 10),
        ZONE,
        management=(work(*own),),
        contacts=(LiveContact("Encounter/e1", Program.RTM, date(2026, 3, 10), False, frozenset()),),
        used_time=taken,
    )
    months = months_of(record, excluded, seen(record))[Program.RTM]
    left = {n for n in range(own[0], own[1]) if not any(start <= n < end for start, end in used)}
    if not left:
        assert excluded == {Excluded("Encounter/e1", ExcludedReason.COVERED_BY_OTHER_TIME)}
        assert months == {}
        return
    (month,) = months.values()
    assert (month.first_day, excluded) == (date(2026, 3, 1), set())
    assert whole_seconds(month.pieces) == len(left)
    assert all(piece.start < piece.end for piece in month.pieces)
    assert {n for p in month.pieces for n in range(40) if p.start <= at(n) < p.end} == left
    assert list(month.calls) == ["Encounter/e1"]


@pytest.mark.parametrize(("length", "crosses"), [(1800, False), (1801, True)])
def test_only_what_goes_on_after_the_last_midnight_of_a_month_crosses_its_end(
    length: int, crosses: bool
) -> None:
    begins = LocalClock(ZONE).midnight(date(2026, 4, 1)) - 1800 * MICROSECONDS
    call = replace(work(0, 1), start=begins, end=begins + length * MICROSECONDS)
    beside = UsedTime("Encounter/u", begins, begins + 60 * MICROSECONDS)
    for used in ((), (beside,)):
        record = PatientRecord("Patient/p1", date(2026, 4, 10), ZONE, management=(call,), used_time=used)
        (piece,) = months_of(record, set(), seen(record))[Program.RTM][date(2026, 3, 1)].pieces
        assert piece.crosses_months is crosses


@pytest.mark.parametrize(
    ("calls", "conversations"),
    [
        ({}, 0),
        ({"e1": [(0, 60)]}, 1),
        ({"e1": [(0, 60)], "e2": [(30, 90)]}, 1),
        ({"e1": [(30, 90)], "e2": [(0, 60)]}, 1),
        # what only follows at once is another
        ({"e1": [(0, 60)], "e2": [(60, 90)]}, 2),
        ({"e1": [(0, 60)], "e2": [(59.999999, 90)]}, 1),
        # the long one holds them all, in whatever order they end
        ({"e1": [(0, 600)], "e2": [(30, 60)], "e3": [(500, 700)]}, 1),
        ({"e1": [(0, 60)], "e2": [(30, 90)], "e3": [(100, 160)], "e4": [(150, 200)], "e5": [(300, 310)]}, 3),
        # each shares an instant with the next, the first and the last do not
        ({"e1": [(0, 60)], "e2": [(30, 90)], "e3": [(80, 120)]}, 1),
        ({"e1": [(0, 60)], "e2": [(0, 30)], "e3": [(50, 120)], "e4": [(110, 130)]}, 1),
        ({"e1": [(100, 160)], "e2": [(0, 60)]}, 2),
        # parts of one call, with something else between them
        ({"e1": [(0, 60), (120, 180)], "e2": [(90, 100)]}, 1),
        ({"e1": [(120, 180), (0, 60)], "e2": [(200, 210)]}, 2),
    ],
)
def test_a_conversation_that_two_people_recorded_is_one(
    calls: dict[str, list[Span]], conversations: int
) -> None:
    chosen = [work(start, end, name) for name, spans in calls.items() for start, end in spans]
    contacts = tuple(f"Encounter/{name}" for name in calls)
    assert Tally(0, contacts, tuple(chosen), ()).conversations == conversations


def test_a_call_of_which_only_the_length_is_known_is_a_conversation_of_its_own() -> None:
    timed = work(0, 60, "e1")
    bare = work(0, 0, "e2", seconds=300)
    both = Tally(0, ("Encounter/e1", "Encounter/e2"), (timed, bare), ())
    assert both.conversations == 2


def test_a_piece_that_is_no_contact_is_no_conversation() -> None:
    call, review = work(0, 60, "e1"), work(100, 160, "e2")
    assert Tally(0, ("Encounter/e1",), (call, review), ()).conversations == 1


def test_a_review_that_spans_two_calls_does_not_make_one_of_them() -> None:
    first, second = work(0, 60, "e1"), work(100, 160, "e2")
    review = work(30, 130, "e3")
    contacts = ("Encounter/e1", "Encounter/e2")
    assert Tally(0, contacts, (first, review, second), ()).conversations == 2


# -- of any program, on the day of one program's visit ------------------------------------------------------


@pytest.mark.parametrize("seconds", [None, 60])
def test_a_visit_of_one_programs_people_takes_staff_minutes_of_that_program_alone(
    seconds: int | None,
) -> None:
    doctor = "Practitioner/doctor"
    for ordered in MONITORING_PROGRAMS:
        record = PatientRecord(
            "Patient/p1",
            date(2026, 4, 10),
            ZONE,
            management=(
                replace(work(0, 60), program=Program.ANY, role=Role.CLINICAL_STAFF, seconds=seconds),
            ),
            visits=(Visit("Encounter/v", (date(2026, 3, 10),), frozenset({doctor})),),
            orders=(Order(resource="ServiceRequest/1", program=ordered, requester=doctor),),
        )
        excluded: set[Excluded] = set()
        months = months_of(record, excluded, seen(record))
        left = {program for program, of in months.items() if any(month.pieces for month in of.values())}
        assert left == set(MONITORING_PROGRAMS) - {ordered}
        assert excluded == set()


# -- more than a working day of one person (D42) ------------------------------------------------------------

HOUR = 3600


def hours(start: float, end: float, name: str = "e1", person: str | None = "x") -> ManagementTime:
    """From so many hours after noon of one day."""
    return replace(work(start * HOUR, end * HOUR, name), person=person)


def bare(length: float, name: str = "e1", person: str | None = "x", later: float = 0) -> ManagementTime:
    return replace(work(later * HOUR, later * HOUR, name, round(length * HOUR)), person=person)


def test_a_working_day_has_eight_hours() -> None:
    assert MOST_SECONDS_OF_A_DAY == 8 * HOUR


@pytest.mark.parametrize(
    ("found", "overlong"),
    [
        ([hours(-4, 4)], False),
        ([hours(-4, 4), bare(1 / HOUR)], True),
        ([work(0, 8 * HOUR + 1)], True),
        # of two people each has a day of their own
        ([hours(-8, 0), hours(0, 8, "e2", "y")], False),
        ([hours(-8, 0), hours(0, 8, "e2")], True),
        # two at once are one span, of each person
        ([hours(-8, 0), hours(-8, 0, "e2"), hours(0, 1, "e3", "y")], False),
        # midnight begins another day, twelve hours after noon
        ([hours(6, 18)], False),
        ([hours(4, 20)], False),
        ([hours(3.5, 19)], True),
        ([hours(5, 20.5)], True),
        ([hours(4, 20), hours(20, 21, "e2")], True),
        ([hours(4, 20), hours(20, 21, "e2", "y")], False),
        ([hours(0, 48)], True),
        # durations count on the day on which they are
        ([bare(5), bare(4, "e2")], True),
        ([bare(5), bare(4, "e2", later=24)], False),
        ([bare(5), bare(4, "e2", "y")], False),
        ([bare(5), hours(0, 4, "e2")], True),
        ([bare(5), hours(12, 16, "e2")], False),
        # of whom nobody knows, each Encounter is somebody else's
        ([bare(5, person=None), bare(4, "e2", None)], False),
        ([hours(0, 5, "e1", None), hours(-4, 0, "e2", None)], False),
        ([hours(0, 5, "e1", None), hours(-4, 0, "e1", None)], True),
        ([hours(0, 5, "e1"), hours(-4, 0, "e1", "y")], False),
    ],
)
def test_more_than_a_working_day_of_one_person_on_one_local_day_is_overlong(
    found: list[ManagementTime], overlong: bool
) -> None:
    assert holds_an_overlong_day(found, ZONE) is overlong


# -- whose minutes count --------------------------------------------------------------------------------

DOCTOR, NP, NURSE, NOBODY = (
    Role.PHYSICIAN,
    Role.QUALIFIED_PROFESSIONAL,
    Role.CLINICAL_STAFF,
    Role.UNKNOWN,
)
PT, OT, PTA = Role.PHYSICAL_THERAPIST, Role.OCCUPATIONAL_THERAPIST, Role.THERAPIST_ASSISTANT
RTM, RPM = Program.RTM, Program.RPM


@pytest.mark.parametrize(
    ("program", "present", "billed_by", "counted", "shows"),
    [
        (RPM, [], None, [], ""),
        (RPM, [NURSE], None, [NURSE], ""),
        (RPM, [NURSE, NP], None, [NURSE, NP], "professional"),
        (RPM, [NURSE, NOBODY], None, [NURSE, NOBODY], "role-unknown"),
        (RPM, [DOCTOR, PT, PTA, NURSE], None, [DOCTOR, NURSE], "professional"),
        (RPM, [PT, PTA], None, [], ""),
        (RTM, [], None, [], ""),
        (RTM, [NURSE], None, [NURSE], "nobody-who-bills"),
        (RTM, [PTA, NURSE, NOBODY], None, [PTA, NURSE, NOBODY], "role-unknown nobody-who-bills"),
        (RTM, [NOBODY], None, [NOBODY], "role-unknown"),
        (RTM, [DOCTOR, NURSE], None, [DOCTOR, NURSE], "professional"),
        (RTM, [NP, NOBODY], None, [NP, NOBODY], "role-unknown professional"),
        (RTM, [PT, PTA, NURSE], None, [PT, PTA], "therapist"),
        (RTM, [OT, NOBODY], None, [OT, NOBODY], "role-unknown therapist"),
        (RTM, [DOCTOR, PT, NURSE], None, [DOCTOR, PT, NURSE], "professional therapist two-ways"),
        (RTM, [DOCTOR, PTA, NOBODY], None, [DOCTOR, PTA, NOBODY], "role-unknown professional two-ways"),
        (RTM, [DOCTOR, PT, NURSE], DOCTOR, [DOCTOR, NURSE], "professional"),
        (RTM, [NOBODY, PT], NP, [NOBODY], "role-unknown professional"),
        (RTM, [DOCTOR, PT, PTA, NURSE], PT, [PT, PTA], "therapist of-physical"),
        (RTM, [NOBODY, DOCTOR], OT, [NOBODY], "role-unknown therapist of-occupational"),
    ],
)
def test_whose_minutes_count_hangs_on_who_worked(
    program: Program, present: list[Role], billed_by: Role | None, counted: list[Role], shows: str
) -> None:
    found = staffing(
        program,
        load_policy("medicare"),
        tuple(replace(work(n, n + 1), role=role) for n, role in enumerate(present)),
        billed_by,
    )
    told = {
        "role-unknown": found.role_unknown,
        "professional": found.has_professional,
        "therapist": found.has_therapist,
        "nobody-who-bills": found.professional_unknown,
        "two-ways": bool(found.answers),
        f"of-{found.billed_under}": found.billed_under is not None,
    }
    assert [piece.role for piece in found.counted] == counted
    assert " ".join(word for word, holds in told.items() if holds) == shows


def test_of_a_physician_and_a_therapist_each_alone_and_both_together_are_an_answer() -> None:
    present = tuple(
        replace(work(n, n + 1), role=role) for n, role in enumerate([DOCTOR, NURSE, PT, PTA, NOBODY])
    )
    for counts, physician in ((True, [DOCTOR, NURSE, NOBODY]), (False, [DOCTOR, NOBODY])):
        policy = load_policy("medicare", {"rtm_aux_time_counts": counts})
        found = staffing(RTM, policy, present)
        therapist = [PT, PTA, NOBODY]
        together = [one for one in (DOCTOR, NURSE, PT, PTA, NOBODY) if one in (*physician, *therapist)]
        assert [[piece.role for piece in answer] for answer in found.answers] == [
            together,
            physician,
            therapist,
        ]


def test_a_meeting_is_the_programs_where_its_coding_and_whoever_was_there_say_so() -> None:
    def met(name: str, program: Program, *roles: Role) -> LiveContact:
        return LiveContact(f"Encounter/{name}", program, date(2026, 3, 10), True, frozenset(roles))

    meetings = [met("c", RPM, PT, NURSE), met("b", RPM, PT), met("a", Program.ANY, DOCTOR), met("d", RTM, PT)]
    month = Month(date(2026, 3, 1), in_person=meetings)
    assert in_person_contacts(month, RPM, RPM) == ("Encounter/c",)
    assert in_person_contacts(month, RPM, RPM, Program.ANY) == ("Encounter/a", "Encounter/c")
    assert in_person_contacts(month, RTM, RTM) == ("Encounter/d",)


# -- where a month's time goes ------------------------------------------------------------

VISITED = Visit("Encounter/v", (date(2026, 3, 10),), frozenset({"Practitioner/x"}))
IMPLAUSIBLE = ExcludedReason.IMPLAUSIBLE_SPAN


def placed(
    *times: ManagementTime, **told: Any
) -> tuple[list[tuple[str, list[str], list[str]]], set[Excluded]]:
    """RTM's months with the names of what counts and of what is in doubt, and what was taken."""
    record = PatientRecord("Patient/p1", date(2026, 6, 1), ZONE, management=times, **told)
    excluded: set[Excluded] = set()
    months = months_of(record, excluded, seen(record))[Program.RTM]
    return [
        (
            f"{month.first_day:%m}" + (" divided" if month.divides else ""),
            [piece.resource.removeprefix("Encounter/") for piece in month.pieces],
            [piece.resource.removeprefix("Encounter/") for piece in month.doubtful],
        )
        for month in months.values()
    ], excluded


DAY = 24 * 3600


@pytest.mark.parametrize("used", [(), (UsedTime("Encounter/u", at(0), at(30)),)])
def test_time_goes_to_its_month_and_what_is_in_doubt_beside_it(used: tuple[UsedTime, ...]) -> None:
    doubtful = replace(work(20, 100, "e2"), doubt=IMPLAUSIBLE)
    bare = replace(work(200, 200, "e3", 60), doubt=IMPLAUSIBLE)
    times = (work(0, 60, "e1"), doubtful, bare, work(25 * DAY, 25 * DAY + 60, "e4"))
    assert placed(*times, used_time=used) == ([("03", ["e1"], ["e2", "e3"]), ("04", ["e4"], [])], set())


def test_only_a_span_divides_the_months_that_it_reaches_into() -> None:
    over = work(21 * DAY, 22 * DAY, "e1")
    later = work(22 * DAY + 60, 22 * DAY + 120, "e2")
    assert placed(over, later)[0] == [("03 divided", ["e1"], []), ("04 divided", ["e1", "e2"], [])]


@pytest.mark.parametrize("seconds", [None, 60])
def test_what_a_visit_takes_whole_is_told_and_what_is_left_anywhere_is_not(seconds: int | None) -> None:
    taken = {Excluded("Encounter/e1", ExcludedReason.SAME_DAY_VISIT)}
    own = work(0, 60, "e1", seconds)
    assert placed(own, visits=(VISITED,)) == ([], taken)
    other = replace(own, person="Practitioner/y")
    assert placed(own, other, visits=(VISITED,)) == ([("03", ["e1"], [])], set())
    in_doubt = replace(other, doubt=IMPLAUSIBLE)
    assert placed(own, in_doubt, visits=(VISITED,)) == ([("03", [], ["e1"])], set())


def test_a_call_out_of_a_visits_day_is_left_on_the_other_days() -> None:
    begins, midnight = 11 * 3600, 12 * 3600
    for day, left in ((10, (midnight, 13 * 3600)), (11, (begins, midnight)), (9, (begins, 13 * 3600))):
        visit = replace(VISITED, days=(date(2026, 3, day),))
        record = PatientRecord(
            "Patient/p1", date(2026, 6, 1), ZONE, management=(work(begins, 13 * 3600),), visits=(visit,)
        )
        (month,) = months_of(record, set(), seen(record))[Program.RTM].values()
        assert [(piece.start, piece.end) for piece in month.pieces] == [(at(left[0]), at(left[1]))]


def test_a_meeting_belongs_to_each_program_that_its_coding_names() -> None:
    def meeting(name: str, program: Program, *, unnamed: bool = True, in_person: bool = True) -> LiveContact:
        on = date(2026, 3, 10)
        return LiveContact(f"Encounter/{name}", program, on, in_person, frozenset(), unnamed=unnamed)

    contacts = (
        meeting("a", Program.ANY),
        meeting("b", Program.RTM),
        meeting("c", Program.RPM),
        meeting("d", Program.RTM, unnamed=False),
        meeting("e", Program.RTM, in_person=False),
    )
    record = PatientRecord("Patient/p1", date(2026, 6, 1), ZONE, contacts=contacts)
    found = months_of(record, set(), seen(record))
    assert {
        program: [(month.first_day, [one.resource[-1] for one in month.in_person]) for month in of.values()]
        for program, of in found.items()
    } == {
        Program.RTM: [(date(2026, 3, 1), ["a", "b"])],
        Program.RPM: [(date(2026, 3, 1), ["a", "c"])],
    }
