"""What was not read may be of another program or line: whoever charges says that nothing stands beside it."""

from __future__ import annotations

import json
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.completeness import Missing, MissingWhy
from fhir_mappings.decision import Decision
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Outcome, ReviewReason, Unverified
from tests.support.chart import build_resources, site_terminology

AS_OF = date(2026, 5, 10)
TERMINOLOGY = load_terminology(site_terminology())
MARCH = "2026-03-02"
SET_UP = {"setup": {"at": "2026-03-01T07:00", "for": "10:00", "by": "physician", "program": "rtm"}}
CALL = {"call": {"at": "2026-03-10T10:00", "for": "22:00", "by": "physician", "program": "rtm"}}
CUT_OFF = MissingWhy.CUT_OFF


def days(of: str, count: int, first: str = MARCH, device: str = "") -> dict[str, Any]:
    return {"days": {"of": of, "device": device, "from": first, "count": str(count)}}


KNEE = days("HEP", 16, device="knee-app")


def decided(
    *events: dict[str, Any],
    missing: Missing | None = None,
    without: str = "",
    settings: dict[str, Any] | None = None,
    as_of: date = AS_OF,
) -> dict[str, Decision]:
    """The decisions of the period and the month of March, by code. `without`: a device that nobody gave."""
    chart = Chart(TERMINOLOGY, ZoneInfo("America/New_York"), as_of)
    for resource in build_resources([*events], "America/New_York"):
        if f"{resource['resourceType']}/{resource['id']}" != without:
            chart.add(json.dumps(resource).encode())
    if missing is not None:
        chart.add_missing(missing)
    found = assess(chart.record("Patient/p1"), load_policy("medicare", settings), as_of).decisions
    return {one.code: one for one in found if one.period.start.isoformat() in (MARCH, "2026-03-01")}


def unread(start: str, end: str, entries: int = 0, type_: str = "Observation") -> Missing:
    return Missing(type_, CUT_OFF, date.fromisoformat(start), date.fromisoformat(end), entries)


def asked(found: dict[str, Decision]) -> set[str]:
    """Which of the suggested codes somebody must say it of."""
    suggested = {code for code, one in found.items() if one.outcome is Outcome.SUGGEST}
    assert suggested, found
    return {code for code in suggested if Unverified.OTHER_PROGRAM in found[code].unverified}


def test_a_chart_that_was_read_whole_asks_nothing() -> None:
    assert asked(decided(SET_UP, KNEE, CALL)) == set()


def test_a_page_of_readings_may_hold_the_other_programs_days() -> None:
    found = decided(SET_UP, KNEE, CALL, missing=unread(MARCH, "2026-03-31"))
    assert found["98977"].outcome is Outcome.SUGGEST
    assert asked(found) == {"98975", "98977", "98980"}


@pytest.mark.parametrize(
    ("start", "end", "asks"),
    [
        ("2026-01-01", "2026-01-31", False),  # no period of 30 days reaches from there into this one
        ("2026-01-01", "2026-02-01", False),  # one day is none of two
        ("2026-01-01", "2026-02-02", True),
        ("2026-04-28", "2026-04-29", True),
        ("2026-04-29", "2026-05-10", False),
        ("2026-04-30", "2026-05-10", False),
    ],
)
def test_the_other_programs_periods_reach_at_most_29_days_further(start: str, end: str, asks: bool) -> None:
    found = decided(SET_UP, KNEE, missing=unread(start, end))
    assert ("98977" in asked(found)) is asks


@pytest.mark.parametrize(("readings", "asks"), [(0, False), (1, True)])
def test_one_broken_reading_is_the_second_day_of_the_other_program_or_no_matter(
    readings: int, asks: bool
) -> None:
    cuff = [days("BP", readings, "2026-03-05", "cuff")] if readings else []
    found = decided(SET_UP, KNEE, *cuff, missing=unread("2026-03-20", "2026-03-20", entries=1))
    assert ("98977" in asked(found)) is asks


@pytest.mark.parametrize(("readings", "asks"), [(14, False), (15, True)])
def test_under_the_rules_before_2026_it_takes_sixteen(readings: int, asks: bool) -> None:
    first = "2025-10-01"
    chart = Chart(TERMINOLOGY, ZoneInfo("America/New_York"), date(2025, 11, 20))
    events = [days("HEP", 16, first, "knee-app"), days("BP", readings, first, "cuff")]
    for resource in build_resources(events, "America/New_York"):
        chart.add(json.dumps(resource).encode())
    chart.add_missing(unread("2025-10-25", "2025-10-25", entries=1))
    found = assess(chart.record("Patient/p1"), load_policy("medicare"), date(2025, 11, 20)).decisions
    (device,) = [one for one in found if one.code == "98977"]
    assert (Unverified.OTHER_PROGRAM in device.unverified) is asks


def test_readings_whose_device_was_not_read_may_be_the_other_programs_days() -> None:
    cuff = days("BP", 5, "2026-03-05", "cuff")
    refused = Missing("Device", MissingWhy.REFUSED)
    assert "98977" in asked(decided(SET_UP, KNEE, cuff, missing=refused, without="Device/cuff"))
    assert asked(decided(SET_UP, KNEE, missing=refused)) == set()


def test_they_may_be_another_lines_days_too() -> None:
    puffs = days("PUFFS", 5, "2026-03-05", "inhaler-cap")
    whole = decided(SET_UP, KNEE, CALL, puffs)
    assert whole["98977"].reasons == (ReviewReason.TWO_LINES,)
    refused = Missing("Device", MissingWhy.REFUSED)
    found = decided(SET_UP, KNEE, CALL, puffs, missing=refused, without="Device/inhaler-cap")
    assert asked(found) == {"98977"}


@pytest.mark.parametrize(
    ("of", "device", "first", "asks"),
    [
        ("PUFFS", "inhaler-cap", "2026-03-30", True),
        ("PUFFS", "inhaler-cap", "2026-03-31", False),  # one of its two days lies in the next period
        ("PUFFS", "inhaler-cap", "2026-04-05", False),
        ("PUFFS", "inhaler-cap", "2026-02-20", False),
        ("HEP", "knee-app-2", "2026-03-05", False),  # of the same line
    ],
)
def test_days_whose_device_was_not_read_are_another_lines_within_the_period_alone(
    of: str, device: str, first: str, asks: bool
) -> None:
    diary = {"days": {"of": "HEP", "from": MARCH, "count": "16", "by": "patient"}}
    refused = Missing("Device", MissingWhy.REFUSED)
    found = decided(SET_UP, diary, days(of, 2, first, device), missing=refused, without=f"Device/{device}")
    assert found["98977"].earned == 1
    assert (Unverified.OTHER_PROGRAM in found["98977"].unverified) is asks


def test_another_line_is_asked_about_within_the_same_period_alone() -> None:
    both_allowed = {"rtm_and_rpm_exclusive": False}
    for start, end, codes in [
        ("2026-03-20", "2026-03-31", {"98977"}),
        ("2026-04-01", "2026-04-20", set()),
        ("2026-03-31", "2026-03-31", set()),
    ]:
        found = decided(SET_UP, KNEE, missing=unread(start, end), settings=both_allowed)
        assert asked(found) == codes


@pytest.mark.parametrize(
    ("day", "codes"),
    [
        ("2026-03-20", {"98975", "98977", "98980"}),
        ("2026-04-01", set()),  # the device's period ends on 31 March, and so does the month
        ("2026-02-27", set()),
    ],
)
def test_an_encounter_may_be_the_other_programs_minutes_of_its_month(day: str, codes: set[str]) -> None:
    broken = unread(day, day, entries=1, type_="Encounter")
    assert asked(decided(SET_UP, KNEE, CALL, missing=broken)) == codes


def test_a_period_shares_days_with_each_month_it_reaches_into() -> None:
    broken = unread("2026-04-28", "2026-04-28", entries=1, type_="Encounter")
    assert asked(decided(SET_UP, KNEE, CALL, missing=broken)) == set()
    later = days("HEP", 16, "2026-03-03", device="knee-app")
    chart = Chart(TERMINOLOGY, ZoneInfo("America/New_York"), AS_OF)
    for resource in build_resources([SET_UP, later], "America/New_York"):
        chart.add(json.dumps(resource).encode())
    chart.add_missing(broken)
    found_later = assess(chart.record("Patient/p1"), load_policy("medicare"), AS_OF).decisions
    (device,) = [one for one in found_later if one.code == "98977" and one.outcome is Outcome.SUGGEST]
    assert Unverified.OTHER_PROGRAM in device.unverified


def test_where_minutes_are_kept_in_the_app_encounters_that_are_not_granted_hide_none() -> None:
    kept = {"minutes_kept_in": "app"}
    not_granted = Missing("Encounter", MissingWhy.NOT_GRANTED)
    assert asked(decided(SET_UP, KNEE, CALL, missing=not_granted, settings=kept)) == set()
    refused = Missing("Encounter", MissingWhy.REFUSED)
    assert "98977" in asked(decided(SET_UP, KNEE, CALL, missing=refused, settings=kept))


@pytest.mark.parametrize(
    ("count", "charged", "asks"), [(16, False, True), (2, True, True), (1, False, False), (1, True, True)]
)
def test_it_is_asked_of_what_is_met_or_charged_alone(count: int, charged: bool, asks: bool) -> None:
    charge = [{"charge": {"code": "98977", "period": [MARCH, "2026-03-31"]}}] if charged else []
    found = decided(
        SET_UP, days("HEP", count, device="knee-app"), *charge, missing=unread("2026-01-20", "2026-02-10")
    )
    assert (Unverified.OTHER_PROGRAM in found["98977"].unverified) is asks


def test_where_the_payer_allows_both_programs_the_other_is_not_asked_about() -> None:
    for exclusive in (True, False):
        settings = {"rtm_and_rpm_exclusive": exclusive}
        found = decided(SET_UP, KNEE, missing=unread("2026-04-10", "2026-04-29"), settings=settings)
        assert (Unverified.OTHER_PROGRAM in found["98977"].unverified) is exclusive


@pytest.mark.parametrize(("as_of", "asks"), [("2026-03-19", False), ("2026-03-20", True)])
def test_what_may_come_after_the_day_that_is_asked_about_is_not_asked_about(as_of: str, asks: bool) -> None:
    broken = unread("2026-03-20", "2026-03-20", entries=1, type_="Encounter")
    page = unread("2026-03-19", "2026-03-20")
    for missing in (broken, page):
        found = decided(SET_UP, KNEE, CALL, missing=missing, as_of=date.fromisoformat(as_of))
        assert (Unverified.OTHER_PROGRAM in found["98980"].unverified) is asks


# -- where the periods begin, and whether the care went on --------------------------------------------------


def test_a_reading_whose_device_was_not_read_may_begin_the_periods_earlier() -> None:
    other = {
        "days": {"of": "HEP", "from": "2026-03-01", "count": "1", "device": {"reference": "Device/gone"}}
    }
    missing = Missing("Device", MissingWhy.REFUSED)
    found = decided(SET_UP, KNEE, other, missing=missing)
    assert ReviewReason.RECORD_INCOMPLETE in found["98977"].reasons
    assert ReviewReason.RECORD_INCOMPLETE in found["98975"].reasons


def test_such_a_reading_may_make_start_up_earlier() -> None:
    between = {
        "days": {"of": "HEP", "from": "2026-03-03", "count": "1", "device": {"reference": "Device/gone"}}
    }
    missing = Missing("Device", MissingWhy.REFUSED)
    events = (SET_UP, days("HEP", 1, device="knee-app"), days("HEP", 1, "2026-03-09", "knee-app"), between)
    assert decided(*events)["98975"].outcome is Outcome.SUGGEST
    assert decided(*events, missing=missing)["98975"].reasons == (ReviewReason.RECORD_INCOMPLETE,)


def test_a_device_that_was_read_and_is_unknown_lacks_nothing_that_was_not_read() -> None:
    events = (days("BP", 2, device="cuff"), days("BP", 14, "2026-03-04", "phone-app"))
    missing = Missing("Device", MissingWhy.CUT_OFF)
    assert decided(*events)["99445"].reasons == (ReviewReason.DEVICE_UNKNOWN,)
    assert decided(*events, missing=missing)["99445"].reasons == (ReviewReason.DEVICE_UNKNOWN,)
    gone = decided(*events, missing=missing, without="Device/phone-app")["99445"]
    assert ReviewReason.RECORD_INCOMPLETE in gone.reasons


def test_a_reading_of_whole_periods_earlier_makes_no_other_periods() -> None:
    found = decided(KNEE, missing=unread("2026-01-31", "2026-01-31", entries=1))
    assert found["98977"].outcome is Outcome.SUGGEST
    assert ReviewReason.RECORD_INCOMPLETE in found["98975"].reasons  # its first period would be that one
    found = decided(KNEE, missing=unread("2026-02-01", "2026-02-01", entries=1))
    assert found["98977"].reasons == (ReviewReason.RECORD_INCOMPLETE,)


@pytest.mark.parametrize(("last", "asks"), [("2025-11-30", True), ("2025-12-01", False)])
def test_care_that_may_have_been_silent_for_more_than_ninety_days_is_asked_about(
    last: str, asks: bool
) -> None:
    charge = {"charge": {"code": "98977", "period": ["2026-01-31", "2026-03-01"]}}
    missing = unread("2025-11-01", last)
    if not asks:
        missing = unread(last, last)
    found = decided(charge, KNEE, missing=missing)["98977"]
    assert found.outcome is Outcome.SUGGEST
    assert (Unverified.ENROLMENT in found.unverified) is asks
