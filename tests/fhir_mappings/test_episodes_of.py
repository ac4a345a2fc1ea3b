"""From when to when an episode runs, and which period of the grid is its first (D3, D4)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from fhir_mappings.completeness import Completeness, Missing, MissingWhy
from fhir_mappings.local_time import MICROSECONDS, LocalClock, Window
from fhir_mappings.record import (
    Enrolment,
    EpisodeOfCare,
    Excluded,
    LiveContact,
    ManagementTime,
    PatientRecord,
    PriorCharge,
    Reading,
    SetUp,
)
from fhir_mappings.rules.episodes import Episode, episodes_of, silence
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.series import series_of
from fhir_mappings.vocabulary import Activity, ExcludedReason, Line, Program, Role

ZONE = ZoneInfo("America/New_York")
POLICY = load_policy("medicare")
NOBODY = PatientRecord("Patient/p1", date(2026, 6, 30), ZONE)
NOON = LocalClock(ZONE).midnight(date(2026, 1, 20)) + 12 * 3600 * MICROSECONDS
Span = tuple[str | None, str | None]


def day(text: str) -> date:
    return date.fromisoformat(f"2026-{text}")


def care(*spans: Span) -> tuple[EpisodeOfCare, ...]:
    return tuple(
        EpisodeOfCare(f"EpisodeOfCare/{n}", start and day(start), end and day(end))  # type: ignore[arg-type]
        for n, (start, end) in enumerate(spans)
    )


def readings(first: str, count: int) -> tuple[Reading, ...]:
    days = [day(first) + timedelta(days=n) for n in range(count)]
    return tuple(
        Reading(
            f"Observation/{on}", Line.MUSCULOSKELETAL, "musculoskeletal|x", on, LocalClock(ZONE).midnight(on)
        )
        for on in days
    )


def set_up(on: str) -> SetUp:
    return SetUp(f"Encounter/{on}", Program.RTM, day(on), 0)


def charge(start: str, days: int = 30, code: str = "98977") -> PriorCharge:
    return PriorCharge(
        f"ChargeItem/{start}", code, 1, Window(day(start), day(start) + timedelta(days=days - 1))
    )


def confirmed(start: str, end: str | None = None, program: Program = Program.RTM) -> EpisodeOfCare:
    return EpisodeOfCare(f"urn:uuid:{start}", day(start), end and day(end), program)  # type: ignore[arg-type]


def episodes(record: PatientRecord) -> list[Episode]:
    return episodes_of(record, series_of(record.readings), Program.RTM, POLICY, set())


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([("01-05", "01-20"), ("01-20", "02-10")], [("01-05", "02-10")]),
        ([("01-05", "01-20"), ("01-21", "02-10")], [("01-05", "01-20"), ("01-21", "02-10")]),
        ([("03-01", "03-20"), ("01-05", "01-20")], [("01-05", "01-20"), ("03-01", "03-20")]),
        ([("01-05", None), ("03-01", "03-20")], [("01-05", None)]),
        ([("01-05", "01-31"), ("01-20", None)], [("01-05", None)]),
        ([("01-05", "03-31"), ("02-01", "02-10")], [("01-05", "03-31")]),
        ([("01-05", "01-31"), ("01-10", "02-10"), ("02-05", "02-20")], [("01-05", "02-20")]),
        (
            [("01-05", "01-20"), ("02-01", "02-10"), ("02-08", "02-20")],
            [("01-05", "01-20"), ("02-01", "02-20")],
        ),
        ([("01-05", "01-20"), ("02-01", None), ("03-01", None)], [("01-05", "01-20"), ("02-01", None)]),
        (
            [("01-05", "01-20"), ("02-01", "02-20"), ("02-05", "02-10")],
            [("01-05", "01-20"), ("02-01", "02-20")],
        ),
        ([("01-05", "01-05")], [("01-05", "01-05")]),
        ([("01-05", "01-04")], [(None, None)]),
        ([(None, "01-20")], [(None, None)]),
        ([(None, None)], [(None, None)]),
    ],
)
def test_episodes_that_share_a_day_are_one(told: list[Span], expected: list[Span]) -> None:
    held = tuple(charge(start, 1, "98980") for start, _ in told if start)
    found = episodes(replace(NOBODY, episodes=care(*told), charges=held))
    assert [(one.start, one.end) for one in found] == [
        (start and day(start), end and day(end)) for start, end in expected
    ]


def test_an_episode_of_care_that_holds_nothing_of_the_program_is_about_something_else() -> None:
    record = replace(NOBODY, episodes=care(("01-05", "01-20")), readings=readings("02-01", 3))
    (found,) = episodes(record)
    assert (found.start, found.end, found.documented) == (day("02-01"), None, False)
    assert list(found.periods) == [0]


def test_it_is_passed_over_by_the_one_program_and_ends_the_other() -> None:
    cuff = tuple(
        replace(one, line=Line.PHYSIOLOGIC, series="physiologic|x", resource=f"{one.resource}-cuff")
        for one in readings("01-06", 2)
    )
    record = replace(NOBODY, episodes=care(("01-05", "01-20")), readings=(*cuff, *readings("02-01", 3)))
    (ours,) = episodes(record)
    (other,) = episodes_of(record, series_of(record.readings), Program.RPM, POLICY, set())
    assert (ours.documented, other.documented) == (False, True)
    assert (other.start, other.end) == (day("01-05"), day("01-20"))


CALL = ManagementTime(
    "Encounter/call", Program.RTM, Activity.PHONE_CALL, True, None, Role.UNKNOWN, NOON, NOON + 1
)
MEETING = LiveContact("Encounter/meeting", Program.RTM, day("01-20"), True, frozenset())


@pytest.mark.parametrize(
    ("held", "kept"),
    [
        ({"readings": readings("01-05", 1)}, True),
        ({"readings": readings("01-20", 1)}, True),
        ({"readings": (*readings("01-04", 1), *readings("01-21", 1))}, False),
        ({"doubtful_readings": readings("01-20", 1)}, True),
        ({"set_ups": (set_up("01-05"),)}, True),
        ({"set_ups": (replace(set_up("01-05"), program=Program.ANY),)}, True),
        ({"set_ups": (replace(set_up("01-05"), program=Program.RPM),)}, False),
        ({"set_ups": (set_up("01-21"),)}, False),
        ({"charges": (charge("01-20"),)}, True),
        ({"charges": (charge("01-21"),)}, False),
        ({"charges": (charge("01-10", code="99454"),)}, False),
        ({"charges": (replace(charge("01-10"), quantity=-1),)}, True),
        ({"charges": (replace(charge("01-10"), occurrence=None),)}, False),
        ({"enrolments": (Enrolment(Program.RTM, day("01-05")),)}, True),
        ({"enrolments": (Enrolment(Program.RPM, day("01-05")),)}, False),
        ({"management": (CALL,)}, True),
        ({"management": (replace(CALL, doubt=ExcludedReason.IMPLAUSIBLE_SPAN),)}, True),
        ({"management": (replace(CALL, program=Program.ANY),)}, False),
        ({"contacts": (MEETING,)}, True),
        ({"contacts": (replace(MEETING, program=Program.ANY),)}, False),
    ],
)
def test_anything_of_the_program_keeps_an_episode_of_care(held: dict[str, Any], kept: bool) -> None:
    record = replace(NOBODY, episodes=care(("01-05", "01-20")), **held)
    assert episodes(record)[0].documented is kept


@pytest.mark.parametrize(("program", "kept"), [(Program.RTM, True), (Program.RPM, False)])
def test_so_does_one_that_somebody_confirmed_on_its_days(program: Program, kept: bool) -> None:
    both = (*care(("01-05", "01-20")), confirmed("01-20", "03-31", program))
    (found,) = episodes(replace(NOBODY, episodes=both))
    assert (found.documented, found.confirmed) == (kept, False)


@pytest.mark.parametrize(("as_of", "kept"), [("01-20", True), ("01-21", False)])
def test_an_episode_of_care_that_goes_on_may_still_come_to_hold_something(as_of: str, kept: bool) -> None:
    record = replace(NOBODY, as_of=day(as_of), episodes=care(("01-05", "01-20")))
    assert episodes(record)[0].documented is kept


def test_what_is_passed_over_leaves_the_next_one_the_first() -> None:
    spans = care(("01-05", "01-20"), ("02-01", None))
    (found,) = episodes(replace(NOBODY, episodes=spans, readings=readings("02-03", 2)))
    assert (found.start, found.unclear) == (day("02-01"), False)


@pytest.mark.parametrize(
    ("since", "end"), [(None, None), ("01-05", None), ("01-06", "01-20"), ("03-01", "01-20")]
)
def test_what_was_not_read_of_it_may_have_been_of_the_program(since: str | None, end: str | None) -> None:
    record = replace(
        NOBODY,
        episodes=care(("01-05", "01-20")),
        readings=readings("03-03", 2),
        history_from=since and day(since),  # type: ignore[arg-type]
    )
    (found,) = episodes(record)
    assert found.perhaps_after == (end and day(end))


@pytest.mark.parametrize(
    ("kind", "first", "last", "end"),
    [
        ("Observation", "01-01", "01-05", "01-20"),
        ("Encounter", "01-20", "01-31", "01-20"),
        ("Observation", "01-21", "01-31", None),
        ("Device", "01-05", "01-20", None),
    ],
)
def test_so_may_a_page_that_is_missing(kind: str, first: str, last: str, end: str | None) -> None:
    lost = Missing(kind, MissingWhy.CUT_OFF, day(first), day(last))
    spans = care(("01-05", "01-20"), ("02-01", "02-10"))
    (found,) = episodes(replace(NOBODY, episodes=spans, completeness=Completeness((lost,))))
    assert found.perhaps_after == (end and day(end))
    if end is not None:
        assert [found.may_be_another(Window(day(end), day(last))) for last in ("01-20", "01-21")] == [
            False,
            True,
        ]


@pytest.mark.parametrize(
    ("on", "position"),
    [("01-04", None), ("01-05", 0), ("01-20", 0), ("01-21", None), ("02-01", 1), ("04-01", 1)],
)
def test_a_set_up_belongs_to_the_episode_that_holds_its_day(on: str, position: int | None) -> None:
    spans = care(("01-05", "01-20"), ("02-01", None))
    found = episodes(replace(NOBODY, episodes=spans, set_ups=(set_up(on),), readings=readings("01-10", 1)))
    assert [one.set_up is not None for one in found] == [position == 0, position == 1]
    assert [one.unclear for one in found] == [False, position != 1]


def test_the_first_of_several_set_ups_is_the_episodes() -> None:
    (found,) = episodes(replace(NOBODY, set_ups=(set_up("01-05"), set_up("02-05"))))
    assert found.set_up == set_up("01-05")


def test_an_episode_that_was_confirmed_counts_for_its_program_where_the_ehr_documents_none() -> None:
    record = replace(NOBODY, episodes=(confirmed("01-05", "03-31"),), readings=readings("01-05", 3))
    (found,) = episodes(record)
    assert (found.start, found.end, found.documented, found.confirmed) == (
        day("01-05"),
        day("03-31"),
        True,
        True,
    )
    (other,) = episodes_of(record, series_of(record.readings), Program.RPM, POLICY, set())
    assert (other.documented, other.confirmed) == (False, False)


def test_the_ehrs_own_episode_comes_before_one_that_was_confirmed() -> None:
    both = (*care(("01-05", None)), confirmed("01-05", "03-31"), confirmed("04-10"))
    (found,) = episodes(replace(NOBODY, episodes=both))
    assert (found.start, found.end, found.confirmed) == (day("01-05"), None, False)


def test_a_second_confirmed_episode_needs_a_set_up_of_its_own_too() -> None:
    both = (confirmed("01-05", "03-31"), confirmed("04-10"))
    assert [one.unclear for one in episodes(replace(NOBODY, episodes=both))] == [False, True]
    taught = replace(NOBODY, episodes=both, set_ups=(set_up("04-10"),))
    assert [one.unclear for one in episodes(taught)] == [False, False]


def test_a_reading_before_the_confirmed_beginning_is_left_out_and_a_doubt() -> None:
    excluded: set[Excluded] = set()
    record = replace(NOBODY, episodes=(confirmed("01-06"),), readings=readings("01-05", 4))
    (found,) = episodes_of(record, series_of(record.readings), Program.RTM, POLICY, excluded)
    assert excluded == {Excluded("Observation/2026-01-05", ExcludedReason.OUTSIDE_EPISODE)}
    assert (found.anchor, found.anchor_moved) == (day("01-06"), True)
    # Between two episodes and after the last there is no such doubt, nor before one that the EHR documents.
    spans = (confirmed("01-05", "01-06"), confirmed("01-08", "01-08"))
    between = episodes(replace(NOBODY, episodes=spans, readings=readings("01-05", 6)))
    assert [one.anchor_moved for one in between] == [False, False]
    (of_ehr,) = episodes(replace(NOBODY, episodes=care(("01-06", None)), readings=readings("01-05", 4)))
    assert not of_ehr.anchor_moved


def test_a_confirmed_anchor_does_not_take_that_doubt_back() -> None:
    record = replace(
        NOBODY,
        episodes=(confirmed("01-06"),),
        readings=readings("01-05", 4),
        enrolments=(Enrolment(Program.RTM, day("01-06")),),
    )
    (found,) = episodes(record)
    assert found.anchor_moved


@pytest.mark.parametrize(("gap", "silent"), [(90, False), (91, True)])
@pytest.mark.parametrize("before", [0, 1, 28, 29, 30])
@pytest.mark.parametrize("allowed", [None, 0, 10, 57, 58, 87, 88])
def test_more_empty_days_than_allowed_are_a_silence(
    gap: int, silent: bool, before: int, allowed: int | None
) -> None:
    """Wherever in a period of the grid they begin; ninety are allowed where the site says nothing else."""
    if allowed is not None:
        gap += allowed - 90
    last = day("01-05") + timedelta(days=before)
    again = last + timedelta(days=gap + 1)
    days = sorted({day("01-05"), last, again})
    policy = POLICY if allowed is None else replace(POLICY, empty_days_until_episode_unclear=allowed)
    (found,) = episodes(
        replace(NOBODY, readings=tuple(one for on in days for one in readings(f"{on:%m-%d}", 1)))
    )
    expected = Window(last + timedelta(days=1), again - timedelta(days=1)) if silent else None
    first = (
        None if allowed is None or before <= allowed + 1 else Window(day("01-06"), last - timedelta(days=1))
    )
    assert silence(found, policy) == (first or expected)


def test_a_silence_is_found_too_before_the_charged_period_that_fixes_the_grid() -> None:
    record = replace(
        NOBODY, charges=(charge("05-04"),), readings=(*readings("01-05", 2), *readings("05-05", 2))
    )
    (found,) = episodes(record)
    assert (sorted(found.periods), found.anchor) == ([-4, 0], day("05-04"))
    assert silence(found, POLICY) == Window(day("01-07"), day("05-04"))


def test_an_episode_without_a_reading_has_no_silence() -> None:
    assert silence(episodes(NOBODY)[0], POLICY) is None
    assert silence(episodes(NOBODY)[0], replace(POLICY, empty_days_until_episode_unclear=10)) is None


def test_without_an_episode_of_care_the_set_up_or_the_first_day_begins_it() -> None:
    (found,) = episodes(replace(NOBODY, set_ups=(set_up("01-05"),), readings=readings("01-08", 3)))
    assert (found.start, found.first_day, found.anchor) == (day("01-05"), day("01-08"), day("01-08"))
    (found,) = episodes(replace(NOBODY, readings=readings("01-08", 3)))
    assert found.start == day("01-08")
    # An older device charge shows that the set-up was not the first.
    older = replace(
        NOBODY, set_ups=(set_up("02-10"),), readings=readings("02-08", 3), charges=(charge("01-02"),)
    )
    (found,) = episodes(older)
    assert (found.start, found.anchor) == (day("02-08"), day("01-02"))
    (found,) = episodes(NOBODY)
    assert (found.start, found.first_period, found.first_number) == (None, None, None)


def test_a_charged_period_is_the_first_unless_readings_lie_before_it() -> None:
    (found,) = episodes(replace(NOBODY, charges=(charge("02-01"),)))
    assert (found.anchor, found.first_day, found.first_number) == (day("02-01"), None, 0)
    assert found.first_period is None
    (found,) = episodes(replace(NOBODY, charges=(charge("02-01"),), readings=readings("03-10", 2)))
    assert (found.anchor, found.first_number) == (day("02-01"), 0)
    assert found.first_period == Window(day("03-03"), day("04-01"))
    (found,) = episodes(replace(NOBODY, charges=(charge("02-01"),), readings=readings("01-10", 2)))
    assert (found.anchor, found.first_number) == (day("02-01"), -1)


@pytest.mark.parametrize("days", [1, 29, 31])
def test_only_a_charge_of_thirty_days_fixes_the_grid(days: int) -> None:
    (found,) = episodes(replace(NOBODY, charges=(charge("02-01", days),), readings=readings("01-10", 2)))
    assert (found.anchor, found.anchor_charged) == (day("01-10"), False)


def test_charges_of_other_kinds_fix_no_grid() -> None:
    others = tuple(charge("02-01", code=code) for code in ("98975", "98980", "99454"))
    (found,) = episodes(replace(NOBODY, charges=others, readings=readings("01-10", 2)))
    assert found.anchor == day("01-10")


def test_the_earliest_charged_period_fixes_the_grid() -> None:
    (found,) = episodes(
        replace(NOBODY, charges=(charge("03-05"), charge("02-01")), readings=readings("02-20", 2))
    )
    assert found.anchor == day("02-01")


def test_a_charge_of_before_the_first_episode_fixes_its_grid_and_no_later_one() -> None:
    spans = care(("02-10", "03-20"), ("04-01", None))
    one = replace(NOBODY, episodes=spans, charges=(charge("01-25"),))
    first, second = episodes(replace(one, readings=(*readings("02-12", 2), *readings("04-02", 2))))
    assert (first.anchor, second.anchor) == (day("01-25"), day("04-02"))
    begun = replace(one, set_ups=(set_up("02-12"),))
    first, second = episodes(replace(begun, charges=(charge("04-05"),), readings=readings("04-02", 2)))
    assert (first.anchor, second.anchor) == (None, day("04-05"))


@pytest.mark.parametrize(("charged", "kept"), [("01-09", True), ("01-10", False), ("01-11", False)])
def test_only_a_charge_of_before_the_set_up_shows_an_earlier_beginning(charged: str, kept: bool) -> None:
    excluded: set[Excluded] = set()
    record = replace(
        NOBODY, set_ups=(set_up("01-10"),), readings=readings("01-08", 5), charges=(charge(charged, 1),)
    )
    (found,) = episodes_of(record, series_of(record.readings), Program.RTM, POLICY, excluded)
    assert found.first_day == day("01-08" if kept else "01-10")
    before = {ExcludedReason.BEFORE_SET_UP} if not kept else set()
    assert {entry.reason for entry in excluded} == before


def test_a_charge_of_the_former_episode_says_nothing_of_a_later_set_up() -> None:
    record = replace(
        NOBODY,
        episodes=care(("01-05", "02-10"), ("04-01", None)),
        set_ups=(set_up("01-05"), set_up("04-05")),
        readings=(*readings("01-05", 3), *readings("04-03", 5)),
        charges=(charge("01-05"),),
    )
    first, second = episodes(record)
    assert (first.first_day, second.first_day) == (day("01-05"), day("04-05"))
    within = replace(record, charges=(charge("01-05"), charge("04-02", 1)))
    assert episodes(within)[1].first_day == day("04-03")


def test_a_charge_of_before_the_first_episode_shows_an_earlier_beginning_than_its_set_up() -> None:
    record = replace(
        NOBODY,
        episodes=care(("01-05", None)),
        set_ups=(set_up("01-10"),),
        readings=readings("01-06", 6),
    )
    assert episodes(record)[0].first_day == day("01-10")
    assert episodes(replace(record, charges=(charge("01-02", 1),)))[0].first_day == day("01-06")


def test_readings_outside_every_episode_are_left_out_and_said() -> None:
    excluded: set[Excluded] = set()
    record = replace(NOBODY, episodes=care(("01-05", "01-06")), readings=readings("01-04", 4))
    (found,) = episodes_of(record, series_of(record.readings), Program.RTM, POLICY, excluded)
    assert sorted(found.periods[0]["musculoskeletal|x"].days) == [day("01-05"), day("01-06")]
    assert {(entry.resource, entry.reason) for entry in excluded} == {
        (f"Observation/2026-{on}", ExcludedReason.OUTSIDE_EPISODE) for on in ("01-04", "01-07")
    }


@pytest.mark.parametrize(
    ("history", "more", "seen"),
    [
        (None, {}, True),
        ("01-01", {}, False),
        ("01-01", {"set_ups": (set_up("01-10"),)}, True),
        ("01-01", {"episodes": care(("01-01", None))}, True),
        ("01-02", {"episodes": care(("01-01", None))}, False),
    ],
)
def test_the_beginning_is_seen_where_nothing_older_can_exist(
    history: str | None, more: dict[str, object], seen: bool
) -> None:
    record = replace(NOBODY, readings=readings("01-10", 3), history_from=history and day(history), **more)
    (found,) = episodes(record)
    assert (found.start_seen, found.anchor_fixed) == (seen, seen)
    (found,) = episodes(replace(record, charges=(charge("01-10"),)))
    assert (found.start_seen, found.anchor_fixed) == (seen, True)


def test_doubtful_readings_follow_the_same_limits_without_being_told_twice() -> None:
    excluded: set[Excluded] = set()
    doubtful = tuple(replace(one, doubt=ExcludedReason.DEVICE_UNKNOWN) for one in readings("01-04", 6))
    record = replace(
        NOBODY,
        episodes=care(("01-05", "01-08")),
        set_ups=(set_up("01-06"),),
        readings=readings("01-07", 1),
        doubtful_readings=doubtful,
    )
    (found,) = episodes_of(record, series_of(record.readings), Program.RTM, POLICY, excluded)
    assert [one.day for one in found.doubtful] == [day("01-06"), day("01-07"), day("01-08")]
    assert excluded == set()


def test_several_series_of_a_day_are_counted_each_in_its_period() -> None:
    other = tuple(replace(one, series="musculoskeletal|y") for one in readings("02-03", 3))
    (found,) = episodes(replace(NOBODY, readings=(*readings("01-05", 2), *other)))
    assert {number: {name: one.days for name, one in of.items()} for number, of in found.periods.items()} == {
        0: {
            "musculoskeletal|x": [day("01-05"), day("01-06")],
            "musculoskeletal|y": [day("02-03")],
        },
        1: {"musculoskeletal|y": [day("02-04"), day("02-05")]},
    }


def test_of_several_confirmed_anchors_the_last_in_the_episode_counts() -> None:
    anchors = tuple(Enrolment(program, day(on)) for program, on in (
        (Program.RTM, "01-06"), (Program.RTM, "01-08"), (Program.RPM, "01-09"), (Program.RTM, "05-01"),
    ))  # fmt: skip
    record = replace(
        NOBODY, episodes=care(("01-05", "03-31")), readings=readings("01-10", 3), enrolments=anchors
    )
    (found,) = episodes(record)
    assert (found.anchor, found.anchor_moved) == (day("01-08"), False)
    (found,) = episodes(replace(record, readings=readings("01-07", 3)))
    assert (found.anchor, found.anchor_moved, found.first_number) == (day("01-08"), True, -1)


def test_days_are_numbered_in_their_own_order_whatever_the_order_of_the_instants() -> None:
    """A clock far east writes tomorrow's date before one far west writes today's."""
    days = [day(on) for on in ("01-06", "01-05", "02-04", "02-03")]
    series = tuple(
        replace(readings("01-05", 1)[0], resource=f"Observation/{n}", day=on, instant=n)
        for n, on in enumerate(days)
    )
    (found,) = episodes(replace(NOBODY, readings=series))
    assert {number: of["musculoskeletal|x"].days for number, of in found.periods.items()} == {
        0: [day("01-05"), day("01-06"), day("02-03")],
        1: [day("02-04")],
    }
