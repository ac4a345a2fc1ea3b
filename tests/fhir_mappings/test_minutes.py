"""Whole seconds of the union of spans, and what is left of a span beside others (R4-3, D11, D13)."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fhir_mappings.local_time import MICROSECONDS, LocalClock
from fhir_mappings.record import Excluded, LiveContact, ManagementTime, PatientRecord, UsedTime
from fhir_mappings.rules.minutes import Tally, months_of, whole_seconds
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
