"""What is imagined is where it says, by whom it says, and never more than was asked for."""

from __future__ import annotations

import json
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from fhir_mappings.chart import Chart
from fhir_mappings.local_time import LocalClock
from fhir_mappings.record import LiveContact, ManagementTime, PatientRecord, Reading
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.what_if import IMAGINED, WhatIf, imagine, read_what_if
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Activity, Program, Role
from tests.support.chart import Event, build_resources, site_terminology

ZONE = ZoneInfo("America/New_York")
CLOCK = LocalClock(ZONE)
POLICY = load_policy("medicare")
TERMINOLOGY = load_terminology(site_terminology())


def imagined(given: list[Event], as_of: str, changes: WhatIf) -> PatientRecord:
    chart = Chart(TERMINOLOGY, ZONE, date.fromisoformat(as_of))
    for resource in build_resources(given, "America/New_York"):
        chart.add(json.dumps(resource).encode())
    record = chart.record("Patient/p1")
    return imagine(record, POLICY, record.as_of, changes)


def new_days(record: PatientRecord) -> list[Reading]:
    return [one for one in record.readings if one.resource.startswith(IMAGINED)]


def new_times(record: PatientRecord) -> list[ManagementTime]:
    return [one for one in record.management if one.resource.startswith(IMAGINED)]


def new_contacts(record: PatientRecord) -> list[LiveContact]:
    return [one for one in record.contacts if one.resource.startswith(IMAGINED)]


def days(first: str, count: int, of: str = "HEP", **more: str) -> Event:
    return {"days": {"of": of, "from": first, "count": str(count), **more}}


# -- what is asked for ----------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], WhatIf()),
        (["add-days=1"], WhatIf(days=1)),
        (["add-days=30"], WhatIf(days=30)),
        (["add-minutes=1440"], WhatIf(minutes=1440)),
        (["add-call-minutes=1440"], WhatIf(call_minutes=1440)),
        (["add-days=2", "add-days=3"], WhatIf(days=5)),
        (
            ["add-minutes=8, add-call-minutes=5 ,payer=cigna"],
            WhatIf(minutes=8, call_minutes=5, payer="cigna"),
        ),
    ],
)
def test_changes_are_added_up(texts: list[str], expected: WhatIf) -> None:
    assert read_what_if(texts) == expected


@pytest.mark.parametrize(
    "text", ["add-days=31", "add-minutes=1441", "add-call-minutes=1441", "payer=", "days=1"]
)
def test_what_cannot_be_imagined_is_refused_with_what_can(text: str) -> None:
    with pytest.raises(ValueError, match="none of") as refused:
        read_what_if([f" {text} "])
    assert str(refused.value) == (
        f"what-if: {text!r} is none of add-days=1 to 30, add-minutes=1 to 1440, "
        "add-call-minutes=1 to 1440, payer=NAME"
    )


# -- days ----------------------------------------------------------


def test_days_come_from_today_on_and_then_backwards() -> None:
    record = imagined([days("2026-01-05", 3)], "2026-02-01", WhatIf(days=5))
    assert [one.day for one in new_days(record)] == [
        date(2026, 2, 1),
        date(2026, 2, 2),
        date(2026, 2, 3),
        date(2026, 1, 31),
        date(2026, 1, 30),
    ]
    first = new_days(record)[0]
    assert first.resource == "what-if/day/musculoskeletal|urn:clinic:flowsheet|HEP/2026-02-01"
    assert first.instant == CLOCK.midnight(date(2026, 2, 1))


def test_days_lie_in_the_latest_period_with_a_counted_day() -> None:
    record = imagined([days("2026-01-05", 3), days("2026-02-10", 1)], "2026-04-10", WhatIf(days=30))
    period = [date(2026, 2, 4) + timedelta(days=n) for n in range(30)]
    assert sorted(one.day for one in new_days(record)) == [day for day in period if day != date(2026, 2, 10)]


def test_an_imagined_reading_is_like_the_first_of_its_device() -> None:
    chart = Chart(TERMINOLOGY, ZONE, date(2026, 1, 20))
    for resource in build_resources([days("2026-01-05", 3)], "America/New_York"):
        chart.add(json.dumps(resource).encode())
    record = chart.record("Patient/p1")
    first, *others = record.readings
    unlike = replace(record, readings=(replace(first, unresolved=True), *others))
    (found,) = new_days(imagine(unlike, POLICY, record.as_of, WhatIf(days=1)))
    assert found.unresolved
    (found,) = new_days(imagine(record, POLICY, record.as_of, WhatIf(days=1)))
    assert not found.unresolved


def test_every_device_type_of_the_period_gets_its_days() -> None:
    given = [days("2026-01-05", 3, device="knee-app"), days("2026-01-04", 1, "PUFFS", device="inhaler-cap")]
    record = imagined(given, "2026-01-20", WhatIf(days=1))
    assert [(one.line, one.day) for one in new_days(record)] == [
        ("musculoskeletal", date(2026, 1, 20)),
        ("respiratory", date(2026, 1, 20)),
    ]


def test_no_day_is_imagined_after_the_episode_ended() -> None:
    given: list[Event] = [{"episode": {"from": "2026-01-05", "to": "2026-01-08"}}, days("2026-01-05", 2)]
    record = imagined(given, "2026-01-20", WhatIf(days=30))
    assert [one.day for one in new_days(record)] == [date(2026, 1, 8), date(2026, 1, 7)]


def test_of_two_episodes_the_later_period_is_imagined_on() -> None:
    given: list[Event] = [
        {"episode": {"from": "2026-01-05", "to": "2026-01-20"}},
        days("2026-01-05", 2),
        {"episode": {"from": "2026-03-01"}},
        days("2026-03-05", 2),
    ]
    record = imagined(given, "2026-03-10", WhatIf(days=1))
    assert [one.day for one in new_days(record)] == [date(2026, 3, 10)]


def test_where_no_day_counted_none_is_imagined() -> None:
    given: list[Event] = [{"setup": {"at": "2026-01-05T09:00", "for": "10:00", "by": "nurse"}}]
    record = imagined(given, "2026-01-20", WhatIf(days=3, minutes=4))
    assert new_days(record) == []
    assert len(new_times(record)) == 1


# -- minutes ----------------------------------------------------------


def test_minutes_are_of_the_last_who_worked_in_the_latest_month() -> None:
    given: list[Event] = [
        days("2026-01-05", 3),
        {"call": {"at": "2026-02-10T10:00", "for": "5:00", "by": "physician"}},
        {"call": {"at": "2026-03-10T10:00", "for": "5:00", "by": "pt"}},
        {"visit": {"at": "2026-03-01T10:00", "for": "5:00", "by": "physician"}},
    ]
    record = imagined(given, "2026-04-10", WhatIf(minutes=8, call_minutes=5))
    start = CLOCK.midnight(date(2026, 3, 2))
    review, call = sorted(new_times(record), key=lambda time: time.activity)
    assert review == ManagementTime(
        "what-if/data-review/rtm/2026-03-02",
        Program.RTM,
        Activity.DATA_REVIEW,
        True,
        None,
        Role.PHYSICAL_THERAPIST,
        start,
        start,
        480,
        "physical",
    )
    assert (call.resource, call.activity, call.seconds) == (
        "what-if/phone-call/rtm/2026-03-02",
        Activity.PHONE_CALL,
        300,
    )
    assert new_contacts(record) == [
        LiveContact(call.resource, Program.RTM, date(2026, 3, 2), False, frozenset({Role.PHYSICAL_THERAPIST}))
    ]
    keys = [(time.start, time.resource, time.person or "") for time in record.management]
    assert keys == sorted(keys)
    told = [(contact.day, contact.resource) for contact in record.contacts]
    assert told == sorted(told)


def test_minutes_are_of_the_last_of_several_and_of_a_month_with_a_counted_minute() -> None:
    monitored = days("2026-01-05", 3)
    given: list[Event] = [
        monitored,
        {"call": {"at": "2026-02-10T10:00", "for": "5:00", "by": "pt"}},
        {"review": {"at": "2026-02-11T10:00", "for": "5:00", "by": "slp"}},
    ]
    (time,) = new_times(imagined(given, "2026-04-10", WhatIf(minutes=8)))
    assert (time.role, time.discipline) == (Role.SPEECH_LANGUAGE_PATHOLOGIST, "speech")
    given = [
        days("2026-01-05", 3, "BP", device="cuff"),
        {"call": {"at": "2026-02-10T10:00", "for": "5:00", "by": "nurse", "program": "rpm"}},
        {"review": {"at": "2026-03-10T10:00", "for": "5:00", "by": "pt", "program": "rpm"}},
    ]
    (time,) = new_times(imagined(given, "2026-04-10", WhatIf(minutes=8)))
    assert (time.role, time.start) == (Role.CLINICAL_STAFF, CLOCK.midnight(date(2026, 2, 1)))


def test_without_anybody_they_are_a_physicians_of_today() -> None:
    record = imagined([days("2026-01-05", 3)], "2026-01-20", WhatIf(minutes=8))
    (time,) = new_times(record)
    assert (time.role, time.start, time.discipline) == (
        Role.PHYSICIAN,
        CLOCK.midnight(date(2026, 1, 20)),
        None,
    )
    assert new_contacts(record) == []


def test_where_every_day_left_has_a_visit_the_first_is_taken() -> None:
    visits: list[Event] = [
        {"visit": {"at": f"2026-01-{day}T10:00", "for": "5:00", "by": "physician"}} for day in (30, 31)
    ]
    record = imagined([days("2026-01-05", 3), *visits], "2026-01-31", WhatIf(minutes=8))
    assert [time.start for time in new_times(record)] == [CLOCK.midnight(date(2026, 1, 31))]


def test_every_program_that_has_begun_gets_its_minutes_and_no_other() -> None:
    given = [days("2026-01-05", 3), days("2026-01-05", 3, "BP", device="cuff")]
    record = imagined(given, "2026-01-20", WhatIf(minutes=8))
    assert {time.program for time in new_times(record)} == {Program.RTM, Program.RPM}
    assert {time.program for time in new_times(imagined(given[:1], "2026-01-20", WhatIf(minutes=8)))} == {
        Program.RTM
    }
    assert imagined([{"patient": {}}], "2026-01-20", WhatIf(days=3, minutes=8)).management == ()
